//! A replay records the same values as the run that wrote the checkpoints.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, start};
use bdh::{Callback, CallbackExt, ConfigError, MemorySink, Record, Replay, ReplayBuilder, Value};
use bdh_callbacks::{
    Activations, Clipping, GradientNoise, Histograms, Norms, Ridges, Samples, Throughput,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tiny::{Seen, Task, Tiny};

/// Callbacks that need the model alone.
fn of_weights() -> Vec<Box<dyn Callback>> {
    let histograms = Histograms::default()
        .on(every(300) | every(1))
        .gradients(false);
    let samples = Samples::default()
        .on(every(4))
        .prompts(["abc", "d"])
        .max_tokens(20);
    let ridges = Ridges::default().on(every(4));
    vec![
        Box::new(ridges),
        Box::new(Norms::default().per_parameter(true)),
        Box::new(histograms),
        Box::new(samples),
    ]
}

/// Callbacks that need gradients or activations.
fn of_gradients() -> Vec<Box<dyn Callback>> {
    let histograms = Histograms::default()
        .on(every(1))
        .weights(false)
        .activations(true);
    vec![
        Box::new(Norms::default().per_parameter(true)),
        Box::new(histograms),
        Box::new(Activations::default().on(every(1))),
        Box::new(GradientNoise::default()),
    ]
}

/// Trains twelve steps with dropout, keeping every checkpoint. Returns the records.
fn train(dir: &Path, checkpoint: bdh::Cadence, callbacks: Vec<Box<dyn Callback>>) -> Vec<Record> {
    let memory = MemorySink::default();
    let run = tiny::run_with(0.3, 12)
        .grad_accum_steps(2)
        .clip_grad_norm(0.5)
        .seed(3)
        .eval(every(4))
        .checkpoint(checkpoint)
        .keep_checkpoints(20)
        .run_dir(dir)
        .sink(memory.clone())
        .callbacks(callbacks);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
    memory.records()
}

fn replay(dir: &Path) -> ReplayBuilder<Task> {
    Replay::builder(tiny::task(), Tiny::new(0.3))
        .train_data(tiny::Rows::of(tiny::ROWS))
        .eval_data("val", tiny::val())
        .checkpoints(dir)
}

/// Returns the records of a replay without warnings.
fn records(replay: ReplayBuilder<Task>) -> Vec<Record> {
    let memory = MemorySink::default();
    let replay = replay.sink(memory.clone()).build().expect("a valid replay");
    assert_eq!(replay.run().expect("a replay that completes").warnings, []);
    memory.records()
}

/// Returns the path of a run directory that does not exist yet.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = dir.path().join("run");
    (dir, run)
}

fn steps(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.clock.step).collect()
}

fn find<'r>(record: &'r Record, key: &str) -> Option<&'r Value> {
    record
        .values
        .iter()
        .find(|(known, _)| known == key)
        .map(|(_, value)| value)
}

/// Checks that the run recorded everything that the replay did, bit-identically.
fn assert_same(replayed: &Record, run: &[Record], keys: &[&str]) {
    let step = replayed.clock.step;
    let recorded = run
        .iter()
        .find(|record| record.clock.step == step)
        .expect("a record");
    for (key, value) in &replayed.values {
        assert_eq!(Some(value), find(recorded, key), "{key} of step {step}");
    }
    for key in keys {
        assert!(
            find(replayed, key).is_some(),
            "{key} is missing at step {step}"
        );
    }
}

#[test]
fn replay_repeats_weights_evals_and_samples_bit_for_bit() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    let run = train(&dir, every(4), of_weights());
    let replayed = records(replay(&dir).callbacks(of_weights()).eval(true));
    assert_eq!(steps(&replayed), [4, 8, 12]);
    let keys = [
        "train/weight_norm",
        "norm/weight/head.bias",
        "weights/embed.weight",
        "val/loss",
        "val/accuracy",
        "samples/0",
        "samples/log_prob",
        "histograms/ridge/embed.weight",
    ];
    for record in &replayed {
        assert_same(record, &run, &keys);
        assert_eq!(
            find(record, "train/grad_norm"),
            None,
            "there are no gradients"
        );
        let clock = run[record.clock.step as usize - 1].clock;
        assert_eq!(
            (record.clock.tokens, record.clock.samples),
            (clock.tokens, clock.samples)
        );
    }
}

#[test]
fn replay_has_the_gradients_of_the_next_step() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    let run = train(&dir, every(4) | at([5]), of_gradients());
    let replayed = records(replay(&dir).callbacks(of_gradients()).gradients(true));
    // The run took no step after 12. Values that two checkpoints log at step 5 are one record.
    assert_eq!(steps(&replayed), [4, 5, 6, 8, 9, 12, 13]);
    let gradients = [
        "train/grad_norm",
        "gradients/head.weight",
        "activations/embed",
        "activations/embed/rms",
    ];
    for record in replayed
        .iter()
        .filter(|record| [6, 9].contains(&record.clock.step))
    {
        let without_history = |(key, _): &(String, Value)| !key.starts_with("noise/");
        let values = record
            .values
            .iter()
            .filter(|entry| without_history(entry))
            .cloned();
        let record = Record {
            clock: record.clock,
            values: values.collect(),
        };
        assert_same(&record, &run, &gradients);
    }
    let both = ["train/grad_norm", "train/weight_norm", "noise/scale"];
    assert!(
        both.iter().all(|key| find(&replayed[1], key).is_some()),
        "{:?}",
        replayed[1]
    );
    assert_eq!(
        replayed[1].scalar("train/weight_norm"),
        run[4].scalar("train/weight_norm")
    );
    assert_eq!(
        replayed[1].scalar("train/grad_norm"),
        run[4].scalar("train/grad_norm")
    );
}

#[test]
fn every_callback_is_due_on_every_checkpoint() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    train(&dir, start() | at([3, 7]), Vec::new());
    let seen = Seen::new();
    let note = |name: &'static str| {
        let seen = seen.clone();
        tiny::on_step(move |ctx| {
            seen.push(format!("{name}@{}", ctx.step()));
            Ok(())
        })
    };
    let rare = note("rare").on(every(300)).named("rare");
    let listed = vec![note("listed").on(every(300))];
    let replay = replay(&dir)
        .callback(rare)
        .callback(listed)
        .build()
        .expect("a valid replay");
    let fitted = replay.run().expect("a replay that completes");
    assert!(fitted.last.is_none() && fitted.warnings.is_empty());
    let expected = "rare@0 listed@0 rare@3 listed@3 rare@7 listed@7";
    assert_eq!(seen.text(), expected);
    let due: Vec<_> = fitted.overhead.rows.iter().map(|row| row.due).collect();
    assert_eq!(due, [3, 3], "once a checkpoint");
}

#[test]
fn one_checkpoint_per_step_is_replayed() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    let early = bdh_callbacks::EarlyCheckpoints::at([2, 4]);
    train(&dir, every(4), vec![Box::new(early)]);
    let norms = || Norms::default();
    assert_eq!(
        steps(&records(replay(&dir).callback(norms()))),
        [2, 4, 8, 12]
    );
    let saved = dir.join("checkpoints");
    assert_eq!(
        steps(&records(replay(&saved).callback(norms()))),
        [2, 4, 8, 12]
    );
    let some = replay(&saved.join("step_00000008")).checkpoints(saved.join("ckpt_early_step_2"));
    assert_eq!(steps(&records(some.callback(norms()))), [2, 8]);
}

#[test]
fn replay_writes_only_to_its_own_run_directory() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    train(&dir, every(4), Vec::new());
    let files = |dir: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(dir).expect("a directory");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect()
    };
    let before = (
        files(&dir),
        std::fs::read(dir.join("metrics.jsonl")).expect("records"),
    );
    let again = dir.with_file_name("again");
    let replayed = records(replay(&dir).callbacks(of_weights()).run_dir(&again));
    assert_eq!(
        before,
        (
            files(&dir),
            std::fs::read(dir.join("metrics.jsonl")).expect("records")
        )
    );
    let expected = ["histograms", "metrics.jsonl", "run.json", "samples"].map(str::to_owned);
    assert_eq!(files(&again), expected.into());
    let lines = std::fs::read_to_string(again.join("metrics.jsonl")).expect("records");
    assert_eq!(lines.lines().count(), replayed.len());
    let run: serde_json::Value =
        serde_json::from_slice(&std::fs::read(again.join("run.json")).expect("run.json"))
            .expect("JSON");
    assert_eq!(
        (&run["status"], &run["seed"], &run["steps"]),
        (&"completed".into(), &3.into(), &12.into())
    );

    let onto = replay(&dir).run_dir(&dir).build().expect("a valid replay");
    let error = onto.run().expect_err("the directory is taken");
    assert!(
        matches!(
            error,
            bdh::TrainError::Config(ConfigError::RunExists { .. })
        ),
        "{error}"
    );
}

fn refusal(replay: ReplayBuilder<Task>) -> String {
    match replay.build() {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn callback_that_is_never_called_is_refused_by_name() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    train(&dir, every(4), Vec::new());
    let norms = || tiny::on_fit_start(|_| Ok(()));
    assert_eq!(
        refusal(
            replay(&dir)
                .callback(norms())
                .gradients(true)
                .callback(Clipping::default().on(every(1)))
        ),
        "`callback` is clipping: it acts in before_optimizer_step only, and a replay updates and saves nothing, so it \
         is never called"
    );
    assert_eq!(
        refusal(replay(&dir).callback(Activations::default())),
        "`callback` is activations: it acts in after_backward only, and a replay calls it with `.gradients(true)` only"
    );
    let watch = tiny::on_eval(|_| Ok(())).named("watch");
    assert_eq!(
        refusal(replay(&dir).callback(watch)),
        "`callback` is watch: it acts in on_eval only, and a replay calls it with `.eval(true)` only"
    );
}

#[test]
fn invalid_replays_are_refused_before_anything_is_written() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    train(&dir, every(4), Vec::new());
    let none = dir.with_file_name("none");
    assert!(
        refusal(replay(&none))
            .ends_with("give a checkpoint, or the directory of a run with checkpoints")
    );
    let without = Replay::builder(tiny::task(), Tiny::new(0.0));
    assert_eq!(refusal(without), "`checkpoints` is required");
    let mute = || Replay::builder(tiny::task(), Tiny::new(0.0)).checkpoints(&dir);
    assert_eq!(
        refusal(mute().eval(true)),
        "`eval` is true: the replay has no eval set; add one with `.eval_data(\"val\", …)`"
    );
    assert_eq!(refusal(mute().gradients(true)), "`train_data` is required");

    let mut other = Tiny::new(0.0);
    other.head.bias = None;
    let other = Replay::builder(tiny::task(), other).checkpoints(&dir);
    let refused = refusal(other);
    assert!(
        refused.ends_with("does not fit this run: this model has no parameter `head.bias`"),
        "{refused}"
    );

    let model = dir.join("checkpoints/step_00000008/model.safetensors");
    let mut bytes = std::fs::read(&model).expect("the model");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&model, bytes).expect("damaged");
    let second = replay(&dir)
        .callback(Norms::default())
        .build()
        .expect("the first is whole");
    let error = second.run().expect_err("the second is damaged");
    assert!(matches!(error, bdh::TrainError::Replay(_)), "{error}");
}

#[test]
fn hooks_are_called_in_order_and_requests_are_ignored() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    let run = train(&dir, every(4), Vec::new());
    let seen = Seen::new();
    let (step, eval, end) = (seen.clone(), seen.clone(), seen.clone());
    let asks = tiny::on_step(move |ctx| {
        ctx.stop("enough");
        ctx.evaluate();
        ctx.checkpoint(bdh::checkpoint::CheckpointRequest {
            name: "again".to_owned(),
            pinned: true,
        });
        step.push(format!(
            "on_step@{} of loss {:?}",
            ctx.step(),
            ctx.read(ctx.loss)?
        ));
        Ok(())
    });
    let evals = tiny::on_eval(move |ctx| {
        eval.push(format!("on_eval@{}", ctx.step()));
        Ok(())
    });
    let ends = tiny::on_fit_end(move |ctx| {
        end.push(format!("on_fit_end@{}: {}", ctx.step(), ctx.outcome));
        Ok(())
    });
    let again = dir.with_file_name("again");
    records(
        replay(&dir)
            .eval(true)
            .callback(asks)
            .callback(evals)
            .callback(ends)
            .run_dir(&again),
    );
    assert!(!again.join("checkpoints").exists());
    let lines = [4, 8, 12].map(|step| {
        let loss = run[step - 1].scalar("train/loss").expect("a loss");
        format!("on_step@{step} of loss {loss:?} on_eval@{step}")
    });
    assert_eq!(
        seen.text(),
        format!("{} on_fit_end@12: completed", lines.join(" "))
    );
}

#[test]
fn throughput_records_no_rates_in_a_replay() {
    let _alone = tiny::alone();
    let (_keep, dir) = scratch();
    train(&dir, every(4), Vec::new());
    let replayed = records(replay(&dir).callback(Throughput::default()));
    let keys: BTreeSet<_> = replayed
        .iter()
        .flat_map(|record| &record.values)
        .map(|(key, _)| &**key)
        .collect();
    assert_eq!(keys, ["train/flops", "train/tokens"].into());
}
