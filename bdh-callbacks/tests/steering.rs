//! Early stopping, skipped updates, best checkpoints and loss spikes.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::cadence::{at, every, start};
use bdh::{
    Callback, Intervention, InterventionContext, MemorySink, Outcome, StopReason, TrainResult,
    UpdateDecision, Value,
};
use bdh_callbacks::{
    Checkpoints, EarlyStop, Ema, LossSpikes, Mode, NonFiniteGuard, OnNonFinite, SkipNonFinite,
};
use std::path::Path;
use tiny::{Listener, Seen};

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that ends well")
}

/// Returns a run whose second update makes the weights overflow, so that the loss is NaN from step 3 on.
fn diverging() -> tiny::Builder {
    let run = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 9);
    run.optimizer(SgdConfig::new().build(), 1e38)
}

fn stopped(fitted: &TrainResult<tiny::Tiny>) -> (u64, &str, &str) {
    assert_eq!(fitted.warnings, []);
    let Outcome::Stopped(StopReason::Asked { by, why }) = &fitted.outcome else {
        panic!("{:?}", fitted.outcome)
    };
    (fitted.last.as_ref().expect("a record").clock.step, by, why)
}

#[test]
fn early_stop_ends_a_run_without_improvement() {
    let patient = EarlyStop::default().patience(2).min_delta(1e9);
    let fitted = fit(tiny::run(20).eval(every(3)).callback(patient));
    let (step, by, why) = stopped(&fitted);
    assert_eq!((step, by), (9, "early_stop")); // the first eval is the best, and patience covers the next two
    assert!(why.starts_with("val/loss did not improve on "), "{why}");
}

/// Returns the step on which a run of two eval sets is stopped, and the reason.
fn stopped_by(metric: &str) -> (u64, String) {
    let patient = EarlyStop::default()
        .metric(metric)
        .mode(Mode::Max)
        .patience(2)
        .min_delta(1e9);
    let run = tiny::run(20)
        .eval(every(3))
        .eval_data("test", vec![tiny::val().remove(1)])
        .eval_data_on("rare", tiny::val(), every(5));
    let fitted = fit(run.callback(patient));
    let (step, _, why) = stopped(&fitted);
    (step, why.to_owned())
}

#[test]
fn early_stop_counts_the_evals_of_its_own_set_alone() {
    for metric in ["accuracy", "val/accuracy"] {
        let (step, why) = stopped_by(metric);
        assert_eq!(step, 9, "{metric}: three evals of `val`, among nine evals");
        assert!(why.starts_with("val/accuracy did not improve on "), "{why}");
    }
    let (step, why) = stopped_by("test/accuracy");
    assert_eq!(step, 9);
    assert!(why.starts_with("test/accuracy did not "), "{why}");
    let (step, why) = stopped_by("rare/accuracy");
    assert_eq!(step, 15);
    assert!(why.starts_with("rare/accuracy did not "), "{why}");
}

#[test]
fn early_stop_notices_a_nan_training_loss_one_step_late() {
    let memory = MemorySink::default();
    let run = diverging().eval(bdh::cadence::never()).sink(memory.clone());
    let fitted = fit(run.callback(EarlyStop::default()));
    let first = memory
        .series("train/loss")
        .iter()
        .find(|(_, loss)| loss.is_nan())
        .expect("a NaN")
        .0;
    let why = format!("train/loss was NaN at step {first}");
    assert_eq!(stopped(&fitted), (first + 1, "early_stop", why.as_str()));
    assert_eq!(fitted.overhead.rows[0].reads, 0);
}

#[test]
fn early_stop_continues_to_count_after_a_resume() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str| {
        let stop = EarlyStop::default().patience(4).min_delta(1e9);
        let dir = dir.path().join(name);
        tiny::run(20)
            .eval(every(2))
            .checkpoint(every(6))
            .run_dir(dir)
            .callback(stop)
    };
    let whole = fit(run("whole"));
    let resumed = fit(run("resumed").resume(dir.path().join("whole/checkpoints/step_00000006")));
    assert_eq!(stopped(&whole), stopped(&resumed));
    assert_eq!(stopped(&whole).0, 10);
}

#[test]
fn finite_stops_one_step_late_and_names_the_parameters() {
    let memory = MemorySink::default();
    let strict = NonFiniteGuard::default().action(OnNonFinite::Stop);
    let fitted = fit(diverging()
        .eval(bdh::cadence::never())
        .sink(memory.clone())
        .callback(strict));
    let counts = memory.series("finite/grad");
    let (first, count) = *counts
        .iter()
        .find(|(_, count)| *count > 0.0)
        .expect("a bad step");
    let (step, by, why) = stopped(&fitted);
    assert_eq!((step, by), (first + 1, "finite"));
    assert!(
        why.starts_with(&format!("gradients of step {first} are not finite: `")),
        "{why}"
    );
    assert!(why.contains("`head.weight`") && count >= 1.0, "{why}");
    assert_eq!(fitted.overhead.rows[0].reads, 0);
    assert_eq!(memory.series("finite/loss")[0], (1, 0.0));
}

#[test]
fn finite_reports_once_when_it_begins() {
    let messages = Seen::new();
    let fitted = fit(diverging()
        .sink(Listener(messages.clone()))
        .callback(NonFiniteGuard::default()));
    assert_eq!(fitted.outcome, Outcome::Completed);
    let messages = messages.all();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(
        messages[0].contains("are not finite: `embed.weight`"),
        "{messages:?}"
    );
}

/// Intervention that puts NaN into the gradients of some steps.
struct Poison(Vec<u64>);

impl Intervention for Poison {
    fn name(&self) -> String {
        "poison".to_owned()
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!(self.0)
    }

    fn intervene(
        &mut self,
        ctx: &mut InterventionContext<'_>,
    ) -> Result<UpdateDecision, bdh::BoxError> {
        if self.0.contains(&ctx.ctx().step()) {
            ctx.replace_gradients(|_, gradient| gradient * f32::NAN);
        }
        Ok(UpdateDecision::Apply)
    }
}

#[test]
fn updates_with_nan_gradients_are_skipped_and_others_unchanged() {
    let memory = MemorySink::default();
    let run = |steps: &[u64]| tiny::run(6).intervention(Poison(steps.to_vec()));
    let fitted = fit(run(&[2, 3])
        .intervention(SkipNonFinite::at_most(2))
        .sink(memory.clone()));
    let skipped: Vec<_> = memory
        .series("train/skipped")
        .iter()
        .map(|(step, _)| *step)
        .collect();
    assert_eq!(skipped, [2, 3]);
    assert!(
        memory
            .series("train/loss")
            .iter()
            .all(|(_, loss)| loss.is_finite())
    );
    assert_eq!(fitted.outcome, Outcome::Completed);
    let untouched = fit(run(&[]).intervention(SkipNonFinite::default()));
    assert_eq!(
        tiny::weights(&untouched.model),
        tiny::weights(&fit(tiny::run(6)).model)
    );
}

#[test]
fn skipping_ends_the_run_after_too_many_steps_in_a_row() {
    let run = tiny::run(9).intervention(Poison(vec![2, 4, 5, 6, 7]));
    let error = run
        .intervention(SkipNonFinite::at_most(2))
        .build()
        .expect("a valid run")
        .fit();
    let error = error.expect_err("too many");
    assert!(format!("{error}").contains("step 6"), "{error}");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert_eq!(cause, "gradients of 3 steps in a row were not finite");
}

fn best(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("checkpoints")).expect("checkpoints");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let names = entries.map(|entry| name(entry).to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("best_")).collect();
    names.sort();
    names
}

#[test]
fn best_checkpoints_are_kept_and_others_deleted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let memory = MemorySink::default();
    let two = Checkpoints::default().keep(2);
    let run = tiny::run(9)
        .eval(every(1))
        .checkpoint(every(2))
        .keep_checkpoints(1);
    let fitted = fit(run.run_dir(&dir).sink(memory.clone()).callback(two));
    assert_eq!(fitted.warnings, []);
    let mut losses = memory.series("val/loss");
    losses.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut expected: Vec<_> = losses[..2]
        .iter()
        .map(|(step, _)| format!("best_loss_step_{step}"))
        .collect();
    expected.sort();
    assert_eq!(best(&dir), expected);
}

#[test]
fn best_checkpoint_by_a_metric_of_the_average_ignores_other_sets() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = MemorySink::default();
    let run = tiny::run(8)
        .eval(start() | every(2))
        .eval_data("test", vec![tiny::val().remove(1)])
        .run_dir(dir.path())
        .sink(memory.clone());
    let fitted = fit(run
        .callback(Ema::default())
        .callback(Checkpoints::default().metric("val/ema_loss")));
    assert_eq!(fitted.warnings, []);
    let [val, test] = ["val/ema_loss", "test/ema_loss"].map(|key| memory.series(key));
    assert_eq!((val.len(), test.len()), (5, 5));
    assert_ne!(val, test);
    let lowest = val.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let (step, _) = lowest.expect("five evals");
    let name = format!("best_val_ema_loss_step_{step}");
    assert_eq!(best(dir.path()), [&*name]);
    let path = dir.path().join("checkpoints").join(name);
    assert_eq!(fitted.best_checkpoint, Some(path));
}

#[test]
fn resumed_run_knows_the_best_checkpoints_on_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let run = || {
        let run = tiny::run(9)
            .eval(every(1))
            .checkpoint(at([4]))
            .run_dir(&dir);
        run.callback(Checkpoints::default())
    };
    fit(run());
    let whole = best(&dir);
    // The resume discards the later checkpoints, and the run writes them again.
    let fitted = fit(run().resume(dir.join("checkpoints/step_00000004")));
    assert_eq!(fitted.warnings, []);
    assert_eq!((best(&dir), whole.len()), (whole, 1));
}

/// Returns the rows of the tables of spikes, with the steps on which they were recorded.
fn spikes(memory: &MemorySink) -> Vec<(u64, Vec<String>)> {
    let mut rows = Vec::new();
    for record in memory.records() {
        for (key, value) in &record.values {
            if let (true, Value::Table { rows: new, .. }) = (key == "spikes", value) {
                rows.extend(new.iter().map(|row| (record.clock.step, row.clone())));
            }
        }
    }
    rows
}

#[test]
fn spike_is_reported_on_the_next_step_with_its_batch() {
    let (memory, messages) = (MemorySink::default(), Seen::new());
    let look = LossSpikes::default().warmup(5).threshold(8.0);
    // A huge learning rate on one step spoils the weights for the next.
    let run = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 40).grad_accum_steps(3);
    let run = run
        .optimizer(SgdConfig::new().build(), 1e-3)
        .intervention(Jolt(20));
    let fitted = fit(run
        .sink(memory.clone())
        .sink(Listener(messages.clone()))
        .callback(look));
    let (reported, row) = &spikes(&memory)[0];
    assert_eq!(
        (*reported, row[0].as_str(), row[3].as_str()),
        (22, "loss", "21")
    );
    assert_eq!(row[4..], ["60..63", "120..126", "480..504"]); // 3 micro-batches of 2 rows of 4 tokens
    let loss = memory.series("train/loss")[20].1;
    assert_eq!(row[1], loss.to_string());
    assert!(memory.series("spike/loss")[20].1 > 8.0);
    let messages = messages.all();
    assert!(
        messages[0].starts_with(&format!("loss of step 21 is {loss}, ")),
        "{messages:?}"
    );
    assert_eq!(fitted.overhead.rows[0].reads, 0);
}

/// Intervention that multiplies the learning rate of one step by a million.
struct Jolt(u64);

impl Intervention for Jolt {
    fn name(&self) -> String {
        "jolt".to_owned()
    }

    fn config(&self) -> serde_json::Value {
        self.0.into()
    }

    fn intervene(
        &mut self,
        ctx: &mut InterventionContext<'_>,
    ) -> Result<UpdateDecision, bdh::BoxError> {
        if ctx.ctx().step() == self.0 {
            ctx.scale_lr(1e6);
        }
        Ok(UpdateDecision::Apply)
    }
}

#[test]
fn spike_on_the_last_step_is_reported_at_the_end() {
    let messages = Seen::new();
    let look = LossSpikes::default().warmup(5).threshold(8.0);
    let run = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 21);
    let run = run
        .optimizer(SgdConfig::new().build(), 1e-3)
        .intervention(Jolt(20));
    let look = look.on(every(1));
    assert_eq!(look.name(), "spikes");
    fit(run.sink(Listener(messages.clone())).callback(look));
    let messages = messages.all();
    let is_spike = |text: &String| text.starts_with("loss of step 21 is ");
    assert!(messages.iter().any(is_spike), "{messages:?}");
}
