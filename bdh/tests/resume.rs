//! A resumed run equals an uninterrupted one: weights, optimizer state and records.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::{AdamWConfig, SgdConfig};
use bdh::cadence::{at, every, last, start};
use bdh::checkpoint::Checkpoint;
use bdh::error::CheckpointError;
use bdh::hooks::StepEnd;
use bdh::{
    BoxError, Callback, CallbackExt, ConfigError, HookResult, Intervention, InterventionContext,
    MemorySink, TrainResult, UpdateDecision, callback, checkpoint,
};
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};

/// A callback that counts its steps, and records the count.
#[derive(Default)]
struct Counter(u64);

#[callback]
impl Callback for Counter {
    fn state(&self) -> Value {
        json!(self.0)
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.0 = state.as_u64().ok_or("a count is a whole number")?;
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.0 += 1;
        ctx.log("count", self.0 as f64);
        Ok(())
    }
}

/// An intervention that halves the gradients on every other step, by its own count.
#[derive(Default)]
struct Alternating(u64);

impl Intervention for Alternating {
    fn name(&self) -> String {
        "alternating".to_owned()
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        self.0 += 1;
        if self.0.is_multiple_of(2) {
            ctx.replace_gradients(|_, gradient| gradient * 0.5);
        }
        Ok(UpdateDecision::Apply)
    }

    fn state(&self) -> Value {
        json!(self.0)
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.0 = state.as_u64().ok_or("a count is a whole number")?;
        Ok(())
    }
}

/// Composes a run of 12 steps with everything that has a state: dropout, accumulation, schedule, moments, callbacks.
fn run(dir: &Path) -> tiny::Builder {
    tiny::compose(tiny::ROWS, tiny::Tiny::new(0.2), 12)
        .optimizer(
            AdamWConfig::new().build(),
            bdh::schedule::warmup_cosine(0.01, 3),
        )
        .grad_accum_steps(2)
        .clip_grad_norm(0.5)
        .seed(3)
        .eval(start() | every(4))
        .checkpoint(every(3) | start())
        .keep_checkpoints(100)
        .run_dir(dir)
        .callback(Counter::default())
        .intervention(Alternating::default())
}

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn saved(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("checkpoints/step_{step:08}"))
}

/// Interrupts a run after a step, like a kill: nothing is written from there on.
fn interrupted(dir: &Path, after: u64) {
    let stop = tiny::on_step(|ctx| {
        ctx.stop("interrupted");
        Ok(())
    });
    fit(run(dir).callback(stop.on(at([after]))));
}

/// Every record, without values that depend on wall-clock time.
fn records(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics.jsonl");
    let line = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("JSON");
        record.as_object_mut().expect("an object").remove("elapsed");
        record
    };
    text.lines().map(line).collect()
}

/// The content of the last checkpoint, without values that depend on wall-clock time.
fn last_state(dir: &Path) -> (Vec<Vec<u8>>, Value) {
    let path = saved(dir, 12);
    let files = ["model.safetensors", "optimizer.safetensors"];
    let files = files.map(|name| std::fs::read(path.join(name)).expect("a file"));
    let state = std::fs::read(path.join("state.json")).expect("a file");
    let mut state: Value = serde_json::from_slice(&state).expect("JSON");
    state["clock"]["elapsed"] = Value::Null;
    state["record"]["elapsed"] = Value::Null;
    (files.into(), state)
}

/// Compares the directory of a run that was interrupted and resumed with an uninterrupted one.
fn check_same(whole: &Path, resumed: &Path) {
    assert_eq!(records(resumed), records(whole));
    let ((files, state), (files_of_whole, state_of_whole)) =
        (last_state(resumed), last_state(whole));
    assert_eq!(state, state_of_whole);
    assert!(files == files_of_whole);
}

struct Dirs {
    _temporary: tempfile::TempDir,
    whole: PathBuf,
    resumed: PathBuf,
}

/// Paths for two runs. The first one has already run without interruption.
fn dirs() -> Dirs {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let (whole, resumed) = (
        temporary.path().join("whole"),
        temporary.path().join("resumed"),
    );
    fit(run(&whole));
    Dirs {
        _temporary: temporary,
        whole,
        resumed,
    }
}

#[test]
fn a_resumed_run_is_bit_identical_to_the_uninterrupted_one() {
    let _alone = tiny::alone();
    let Dirs { whole, resumed, .. } = &dirs();
    interrupted(resumed, 6);
    let fitted = fit(run(resumed).resume(saved(resumed, 6)));
    check_same(whole, resumed);
    let whole = Checkpoint::read(&saved(whole, 12)).expect("a whole checkpoint");
    let weights = tiny::weights(&fitted.model);
    let embed: Vec<u32> = whole.model["embed.weight"]
        .iter::<f32>()
        .map(f32::to_bits)
        .collect();
    assert_eq!(weights[0], embed);
}

#[test]
fn steps_after_the_checkpoint_are_repeated_and_recorded_once() {
    let _alone = tiny::alone();
    let Dirs { whole, resumed, .. } = &dirs();
    interrupted(resumed, 8);
    fit(run(resumed).resume(saved(resumed, 6)));
    check_same(whole, resumed);
}

#[test]
fn a_kill_between_a_checkpoint_and_its_record_loses_nothing() {
    let _alone = tiny::alone();
    let Dirs { whole, resumed, .. } = &dirs();
    for step in [0, 6] {
        interrupted(resumed, 6);
        let metrics = resumed.join("metrics.jsonl");
        let text = std::fs::read_to_string(&metrics).expect("metrics.jsonl");
        let before = text.lines().take_while(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["step"].as_u64() < Some(step)
        });
        let before: String = before.flat_map(|line| [line, "\n"]).collect();
        std::fs::write(&metrics, before).expect("a file cut short");

        fit(run(resumed).resume(saved(resumed, step)));
        check_same(whole, resumed);
        std::fs::remove_dir_all(resumed).expect("the run directory");
    }
}

#[test]
fn a_run_resumed_at_step_0_records_the_untrained_model_once() {
    let _alone = tiny::alone();
    let Dirs { whole, resumed, .. } = &dirs();
    interrupted(resumed, 2);
    fit(run(resumed).resume(saved(resumed, 0)));
    check_same(whole, resumed);
}

#[test]
fn a_run_resumed_twice_is_still_the_same() {
    let _alone = tiny::alone();
    let Dirs { whole, resumed, .. } = &dirs();
    interrupted(resumed, 4);
    let stop = tiny::on_step(|ctx| {
        ctx.stop("interrupted again");
        Ok(())
    });
    fit(run(resumed)
        .resume(saved(resumed, 3))
        .callback(stop.on(at([10]))));
    let newest = checkpoint::latest(&resumed.join("checkpoints")).expect("checkpoints");
    assert_eq!(newest, saved(resumed, 9));
    fit(run(resumed).resume(newest));
    check_same(whole, resumed);
}

#[test]
fn a_resume_deletes_checkpoints_of_later_steps() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path()));
    let stop = tiny::on_step(|ctx| {
        ctx.stop("enough");
        Ok(())
    });
    let again = run(dir.path())
        .keep_checkpoints(1)
        .resume(saved(dir.path(), 3));
    fit(again.callback(stop.on(at([7]))));
    let newest = checkpoint::latest(&dir.path().join("checkpoints")).expect("checkpoints");
    assert_eq!(newest, saved(dir.path(), 6));
}

#[test]
fn training_time_continues_after_a_resume() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    interrupted(dir.path(), 6);
    let before = Checkpoint::read(&saved(dir.path(), 6))
        .expect("whole")
        .state
        .clock
        .elapsed;
    let memory = MemorySink::default();
    fit(run(dir.path())
        .resume(saved(dir.path(), 6))
        .sink(memory.clone()));
    let elapsed: Vec<_> = memory
        .records()
        .iter()
        .map(|record| record.clock.elapsed)
        .collect();
    assert!(
        elapsed[0] >= before && elapsed.is_sorted(),
        "{before:?} {elapsed:?}"
    );
}

#[test]
fn a_checkpoint_with_a_nan_loss_can_be_read() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = || tiny::on_step(|ctx| Ok(ctx.log("broken", f64::NAN)));
    let run = || {
        tiny::run(4)
            .run_dir(dir.path())
            .checkpoint(every(2))
            .callback(log())
    };
    fit(run());
    let state = Checkpoint::read(&saved(dir.path(), 2))
        .expect("a whole checkpoint")
        .state;
    assert_eq!(state.record["broken"], "NaN");
    fit(run().resume(saved(dir.path(), 2)));
}

// ── Refused resumes ──────────────────────────────────────────────────────────────────────────────────

/// Returns the error of resuming from the checkpoint of a finished run of [`tiny::run`].
fn refusal(
    first: impl FnOnce(tiny::Builder) -> tiny::Builder,
    resume: impl FnOnce(tiny::Builder) -> tiny::Builder,
) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(first(tiny::run(2).run_dir(dir.path()).checkpoint(last())));
    mismatch(resume(longer(dir.path())))
}

/// Resumes a finished run of two steps for two more.
fn longer(dir: &Path) -> tiny::Builder {
    tiny::run(4)
        .allow_changed(["trainer.steps"])
        .run_dir(dir)
        .resume(saved(dir, 2))
}

fn mismatch(run: tiny::Builder) -> String {
    let error = run.build().expect_err("the checkpoint does not fit");
    assert!(
        matches!(error, ConfigError::Resume(CheckpointError::Mismatch { .. })),
        "{error:?}"
    );
    error.source().expect("a cause").to_string()
}

#[test]
fn a_callback_without_a_saved_state_is_named() {
    let _alone = tiny::alone();
    let text = refusal(|run| run, |run| run.callback(Counter::default()));
    let advice = "`.allow_changed([\"callbacks.Counter\"])` resumes without it";
    assert!(
        text.ends_with(&format!("it has no state for callback `Counter`; {advice}")),
        "{text}"
    );
}

#[test]
fn a_state_of_a_removed_callback_is_named() {
    let _alone = tiny::alone();
    let text = refusal(|run| run.callback(Counter::default()), |run| run);
    let advice = "`.allow_changed([\"callbacks.Counter\"])` resumes without it";
    assert!(
        text.ends_with(&format!("this run has no callback `Counter`; {advice}")),
        "{text}"
    );
}

/// A callback with the name `Counter` and another kind of state.
struct Other;

#[callback]
impl Callback for Other {
    fn name(&self) -> String {
        "Counter".to_owned()
    }

    fn state(&self) -> Value {
        json!("three")
    }

    fn on_step(&mut self, _: &StepEnd<'_>) -> HookResult {
        Ok(())
    }
}

#[test]
fn a_state_that_a_callback_rejects_is_named() {
    let _alone = tiny::alone();
    let text = refusal(
        |run| run.callback(Other),
        |run| run.callback(Counter::default()),
    );
    let expected = "the state of callback `Counter`: a count is a whole number";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn an_added_or_removed_intervention_is_named() {
    let _alone = tiny::alone();
    let changed = |first: fn(tiny::Builder) -> tiny::Builder,
                   resume: fn(tiny::Builder) -> tiny::Builder| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fit(first(tiny::run(2).run_dir(dir.path()).checkpoint(last())));
        let run = tiny::run(2)
            .run_dir(dir.path())
            .resume(saved(dir.path(), 2));
        let error = resume(run)
            .build()
            .expect_err("the configuration is another");
        assert!(matches!(error, ConfigError::Changed { .. }), "{error:?}");
        error.to_string()
    };
    let with = |run: tiny::Builder| run.intervention(Alternating::default());
    for text in [changed(with, |run| run), changed(|run| run, with)] {
        assert!(text.contains("interventions.alternating"), "{text}");
    }
}

#[test]
fn another_configuration_is_refused_with_its_differences() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(tiny::run(2)
        .run_dir(dir.path())
        .checkpoint(last())
        .config(json!({ "depth": 2 })));
    let resume = || {
        tiny::run(4)
            .run_dir(dir.path())
            .seed(1)
            .resume("auto")
            .checkpoint(every(1))
    };
    let error = resume().build().expect_err("another configuration");
    let expected = format!(
        "`{}` was made with another configuration:\n  trainer.steps: 2 then, 4 now\n  \
         trainer.seed: 0 then, 1 now\n  user: {{\"depth\":2}} then, null now\n\
         Use the old values, or allow the new ones: \
         `.allow_changed([\"trainer.steps\", \"trainer.seed\", \"user\"])`",
        saved(dir.path(), 2).display()
    );
    assert_eq!(error.to_string(), expected);
    fit(resume().allow_changed(["trainer", "user"]));
}

#[test]
fn another_optimizer_is_refused_or_starts_anew_if_allowed() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |optimizer: SgdConfig| {
        let run = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 2);
        run.optimizer(optimizer.build(), 0.1).run_dir(dir.path())
    };
    let run_adam = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 2)
        .optimizer(AdamWConfig::new().build(), 0.1);
    fit(run_adam.run_dir(dir.path()).checkpoint(last()));
    let resumed = || run(SgdConfig::new()).resume("auto");
    let error = resumed()
        .build()
        .expect_err("another optimizer")
        .to_string();
    let change = "groups.default.optimizer: \"AdamW\" then, \"Sgd\" now";
    assert!(error.contains(change), "{error}");
    let resumed = resumed()
        .allow_changed(["groups"])
        .build()
        .expect("an allowed change");
    let plan = resumed.plan().to_string();
    assert!(
        plan.contains("the optimizer starts anew: it is not the checkpoint's"),
        "{plan}"
    );
}

/// Changes `state.json` or a tensor of a saved run, with matching checksums.
fn change(path: &Path, change: impl FnOnce(&mut Checkpoint)) {
    let mut checkpoint = Checkpoint::read(path).expect("a whole checkpoint");
    change(&mut checkpoint);
    checkpoint.write(path, false).expect("written");
}

#[test]
fn checkpoint_and_data_must_both_have_a_position() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(tiny::run(2).run_dir(dir.path()).checkpoint(last()));
    let path = saved(dir.path(), 2);

    let lost = tiny::Lost(tiny::Rows::of(tiny::ROWS));
    let run = tiny::bare(tiny::task(), lost, tiny::Tiny::new(0.0), 2).eval_data("val", tiny::val());
    let run = run
        .optimizer(AdamWConfig::new().build(), 0.01)
        .run_dir(dir.path())
        .resume(&*path);
    let error = run
        .allow_changed(["trainer", "groups"])
        .build()
        .expect_err("no position");
    let text = error.to_string();
    assert!(text.contains("but this run's data reports none"), "{text}");

    change(&path, |saved| saved.state.data = Value::Null);
    let text = mismatch(longer(dir.path()));
    assert!(
        text.contains("the data had no `state` when it was saved"),
        "{text}"
    );
}

#[test]
fn removed_weights_are_allowed_by_any_callback_name() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(tiny::run(2).run_dir(dir.path()).checkpoint(last()));
    change(&saved(dir.path(), 2), |saved| {
        let copy = saved.model.clone();
        saved.copies.insert("ema.slow".to_owned(), copy); // its file is `weights_ema_slow.safetensors`
    });
    let text = mismatch(longer(dir.path()));
    assert!(
        text.ends_with("this run has no callback `ema_slow`, which keeps weights"),
        "{text}"
    );
    fit(longer(dir.path()).allow_changed(["callbacks.ema.slow"]));
}

#[test]
fn a_parameter_with_another_shape_or_name_is_named() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(tiny::run(2).run_dir(dir.path()).checkpoint(last()));
    let path = saved(dir.path(), 2);
    let resume = || mismatch(longer(dir.path()));

    let whole = Checkpoint::read(&path).expect("a whole checkpoint");
    assert_eq!(
        whole.model["head.weight"].shape().to_vec(),
        [11, 8],
        "[out, in], like PyTorch"
    );

    change(&path, |saved| {
        let embed = saved.model["embed.weight"].clone();
        saved.model.insert("head.weight".to_owned(), embed.clone());
        saved.model.insert("head.bias".to_owned(), embed);
    });
    let text = resume();
    assert!(
        text.contains("`head.bias` is [11, 8] in the file and [11] in this run"),
        "{text}"
    );

    whole.write(&path, false).expect("written");
    change(&path, |saved| drop(saved.model.remove("head.bias")));
    let text = resume();
    assert!(text.contains("it has no parameter `head.bias`"), "{text}");

    whole.write(&path, false).expect("written");
    change(&path, |saved| {
        let bias = saved.model["head.bias"].clone();
        saved.model.insert("tail.bias".to_owned(), bias);
    });
    let text = resume();
    assert!(
        text.contains("this model has no parameter `tail.bias`"),
        "{text}"
    );
}

#[test]
fn a_damaged_or_missing_checkpoint_is_refused() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(tiny::run(2).run_dir(dir.path()).checkpoint(last()));
    let path = saved(dir.path(), 2);
    let resume = |path: &Path| {
        let run = tiny::run(2).run_dir(dir.path()).resume(path);
        let error = run.build().expect_err("the checkpoint is damaged");
        error.source().expect("a cause").to_string()
    };
    let file = path.join("optimizer.safetensors");
    let mut bytes = std::fs::read(&file).expect("a file");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&file, bytes).expect("damaged");
    let text = resume(&path);
    assert!(
        text.contains("optimizer.safetensors") && text.contains("is damaged"),
        "{text}"
    );

    std::fs::remove_file(&file).expect("a file");
    assert!(resume(&path).contains("optimizer.safetensors"));
    assert!(resume(&dir.path().join("nothing")).contains("nothing"));
}

#[test]
fn a_resumed_run_does_not_overwrite_another_run() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (first, second, third) = (
        dir.path().join("first"),
        dir.path().join("second"),
        dir.path().join("third"),
    );
    fit(tiny::run(2).run_dir(&first).checkpoint(last()));
    fit(tiny::run(6).run_dir(&second));
    let error = tiny::run(4)
        .run_dir(&second)
        .resume(saved(&first, 2))
        .build();
    let error = error
        .expect_err("the directory is another run's")
        .to_string();
    assert!(
        error.contains("second") && error.contains("exists already"),
        "{error}"
    );

    // A directory of its own is fine: that is how a run branches off.
    let branch = tiny::run(4).run_dir(&third).resume(saved(&first, 2));
    fit(branch.allow_changed(["trainer.steps"]));
}
