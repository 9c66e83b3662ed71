//! A new run that starts at another run's step equals that run: losses, weights, schedules and cadences.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::TensorData;
use bdh::cadence::{at, every, start};
use bdh::checkpoint::{Checkpoint, Start};
use bdh::schedule::warmup_cosine;
use bdh::{CallbackExt, ConfigError, MemorySink, TrainResult, checkpoint, load_weights};
use serde_json::json;
use std::collections::BTreeMap;

/// Step at which the second run starts, and steps of both.
const AT: u64 = 6;
const STEPS: u64 = 10;

/// Composes a run with everything that counts from the clock: a schedule, moments, accumulation.
fn run(model: tiny::Tiny) -> tiny::Builder {
    tiny::compose(tiny::ROWS, model, STEPS)
        .optimizer(AdamWConfig::new().build(), warmup_cosine(0.01, 3))
        .grad_accum_steps(2)
        .eval(every(3))
}

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    let trainer = run.build().expect("a valid run");
    trainer.fit().expect("a run that completes")
}

/// The first run, whose state at step 6 stands for that of another program.
struct Original {
    result: TrainResult<tiny::Tiny>,
    records: MemorySink,
    /// The checkpoint of step 6.
    saved: Checkpoint,
    dir: tempfile::TempDir,
}

impl Original {
    fn train() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let records = MemorySink::default();
        let whole = run(tiny::Tiny::new(0.0))
            .run_dir(dir.path().join("original"))
            .checkpoint(at([AT]))
            .sink(records.clone());
        let result = fit(whole);
        let path = checkpoint::latest(&dir.path().join("original/checkpoints"));
        Self {
            result,
            records,
            saved: Checkpoint::read(&path.expect("a checkpoint")).expect("intact"),
            dir,
        }
    }

    /// Returns the model of step 6.
    fn model(&self) -> tiny::Tiny {
        let path = self.dir.path().join(format!(
            "original/checkpoints/step_{AT:08}/model.safetensors"
        ));
        load_weights(tiny::Tiny::new(0.0), path).expect("weights that fit")
    }

    fn start(&self) -> Start {
        Start {
            clock: self.saved.state.clock,
            optimizer: self.saved.optimizer.clone(),
            counters: self.saved.state.optimizer.clone(),
            data: self.saved.state.data.clone(),
        }
    }

    /// Composes a run that starts at step 6.
    fn continued(&self) -> tiny::Builder {
        run(self.model()).start_from(self.start())
    }
}

/// Returns the steps with a value of this key.
fn steps_of(records: &MemorySink, key: &str) -> Vec<u64> {
    let series = records.series(key).into_iter();
    series.map(|(step, _)| step).collect()
}

fn refused(run: tiny::Builder) -> String {
    let error: ConfigError = run.build().expect_err("a run that cannot start");
    error.to_string()
}

#[test]
fn a_run_that_starts_at_a_step_takes_the_rest_of_the_steps_bit_for_bit() {
    let original = Original::train();
    let records = MemorySink::default();
    let result = fit(original.continued().sink(records.clone()));
    assert_eq!(
        tiny::weights(&result.model),
        tiny::weights(&original.result.model)
    );
    for key in ["train/loss", "lr", "val/loss"] {
        let since = |series: Vec<(u64, f64)>, first| -> Vec<(u64, f64)> {
            series
                .into_iter()
                .filter(|(step, _)| *step >= first)
                .collect()
        };
        let whole = since(original.records.series(key), AT + 1);
        assert!(!whole.is_empty(), "{key}");
        assert_eq!(since(records.series(key), AT + 1), whole, "{key}");
    }
    assert_eq!(steps_of(&records, "train/loss"), [7, 8, 9, 10]);
}

#[test]
fn the_start_step_is_evaluated_and_saved_if_a_cadence_is_due_on_it() {
    let original = Original::train();
    for (cadence, steps) in [
        (every(3), vec![6, 9]),
        (every(4), vec![8]),
        (every(5), vec![10]),
    ] {
        let (dir, records) = (
            tempfile::tempdir().expect("a directory"),
            MemorySink::default(),
        );
        let run = original.continued().eval(cadence.clone());
        let run = run
            .checkpoint(cadence)
            .keep_checkpoints(9)
            .run_dir(dir.path().join("run"));
        let trainer = run.sink(records.clone()).build().expect("a valid run");
        for row in trainer
            .plan()
            .rows
            .iter()
            .filter(|row| row.name != "record")
        {
            assert_eq!(
                row.firings.as_deref(),
                Some(steps.as_slice()),
                "{}",
                row.name
            );
        }
        let files = trainer.plan().files.clone();
        trainer.fit().expect("a run that completes");
        assert_eq!(steps_of(&records, "val/loss"), steps);
        let mut saved = checkpoint::list(&dir.path().join("run/checkpoints"));
        saved.reverse();
        let names: Vec<_> = steps
            .iter()
            .map(|step| format!("checkpoints/step_{step:08}"))
            .collect();
        assert_eq!(saved.len(), steps.len());
        for (path, name) in saved.iter().zip(&names) {
            assert!(
                path.ends_with(name) && files.contains(name),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn the_plan_names_the_start_and_hooks_see_later_steps_alone() {
    let original = Original::train();
    let seen = tiny::Seen::new();
    let log = seen.clone();
    let count = tiny::on_step(move |ctx| {
        log.push(ctx.clock().step);
        Ok(())
    });
    let run = original.continued().callback(count.on(every(2)));
    let trainer = run.build().expect("a valid run");
    let plan = trainer.plan();
    let text = plan.to_string();
    assert!(
        text.ends_with("note: starts at step 6, so 4 of 10 steps are taken"),
        "{text}"
    );
    let row = plan.rows.last().expect("the callback's row");
    assert_eq!(row.firings.as_deref(), Some([8, 10].as_slice()));
    trainer.fit().expect("a run that completes");
    assert_eq!(seen.all(), [8, 10]);
}

#[test]
fn a_checkpoint_of_the_run_itself_counts_more_than_its_start() {
    let original = Original::train();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = || {
        let run = original.continued().run_dir(dir.path().join("run"));
        run.checkpoint(every(4)).resume("auto")
    };
    let stop = tiny::on_step(|ctx| {
        ctx.stop("interrupted");
        Ok(())
    });
    fit(run().callback(stop.on(at([9])))); // the newest checkpoint is that of step 8
    let records = MemorySink::default();
    let result = fit(run().sink(records.clone()));
    assert_eq!(steps_of(&records, "train/loss"), [9, 10]);
    assert_eq!(
        tiny::weights(&result.model),
        tiny::weights(&original.result.model)
    );
}

#[test]
fn state_that_does_not_fit_is_refused_with_its_names() {
    let original = Original::train();
    let with = |change: &dyn Fn(&mut Start)| {
        let mut start = original.start();
        change(&mut start);
        refused(run(original.model()).start_from(start))
    };
    let strange = TensorData::from([1.0_f32]);
    let text = with(&|start| {
        start
            .optimizer
            .insert("tail.weight.moment_1".to_owned(), strange.clone());
    });
    let expected =
        "`start_from` is step 6: the optimizer of this run does not know `tail.weight.moment_1`";
    assert_eq!(text, expected);
    let text = with(&|start| {
        for (name, data) in &mut start.optimizer {
            if name.starts_with("head.weight.") {
                *data = TensorData::from([[1.0_f32, 2.0]]);
            }
        }
    });
    let expected = "is [1, 2] in the file and [8, 11] in this run";
    assert!(
        text.starts_with("`start_from` is step 6: the optimizer's `head.weight."),
        "{text}"
    );
    assert!(text.contains(expected), "{text}");
    let text = with(&|start| start.data = json!({ "row": "the third" }));
    let expected = "`start_from` is step 6: the data position cannot be loaded: a position is the number of a row";
    assert_eq!(text, expected);
}

#[test]
fn a_start_without_optimizer_state_is_noted() {
    let original = Original::train();
    let notes = |start: Start| {
        let trainer = run(original.model())
            .start_from(start)
            .build()
            .expect("a valid run");
        trainer.plan().notes.join("; ")
    };
    let bare = Start {
        optimizer: checkpoint_without(&original, ""),
        counters: BTreeMap::new(),
        ..original.start()
    };
    let expected = "starts at step 6, so 4 of 10 steps are taken; the optimizer starts anew";
    assert_eq!(notes(bare), expected);
    let mut most = original.start();
    most.optimizer = checkpoint_without(&original, "head.bias.");
    most.counters
        .retain(|name, _| !name.starts_with("head.bias."));
    assert_eq!(notes(most), format!("{expected} for `head.bias`"));
    let mut nowhere = original.start();
    nowhere.data = json!(null);
    assert!(notes(nowhere).contains("the training data begins at its start"));
}

/// Returns the state tensors of the optimizer, without those whose names begin like this.
fn checkpoint_without(original: &Original, prefix: &str) -> BTreeMap<String, TensorData> {
    let mut tensors = original.saved.optimizer.clone();
    tensors.retain(|name, _| !name.starts_with(prefix));
    tensors
}

#[test]
fn a_run_that_ends_before_its_start_or_acts_only_there_is_refused() {
    let original = Original::train();
    let text = refused(original.continued().steps(AT).eval(at([AT])));
    let expected = "`start_from` is step 6: the run ends after 6 steps; use more";
    assert_eq!(text, expected);
    let text = refused(original.continued().eval(at([2, 5])));
    let expected = "the cadence of eval cannot work: cadence `at 2,5 steps` never fires in a run of 10 steps; use a \
                    step from 6 to 10; nothing is trained before step 6";
    assert_eq!(text, expected);
    let text = refused(original.continued().eval(start()));
    assert!(text.contains("a step from 6 to 10"), "{text}");
    let sample = tiny::on_step(|_| Ok(())).on(at([3, 6]));
    let text = refused(original.continued().callback(sample));
    assert!(
        text.ends_with("a step from 7 to 10; nothing is trained before step 7"),
        "{text}"
    );
}

#[test]
fn a_start_at_step_0_is_a_run_from_the_beginning() {
    let records = MemorySink::default();
    let run = run(tiny::Tiny::new(0.0))
        .eval(start())
        .sink(records.clone());
    fit(run.start_from(Start::default()));
    assert_eq!(records.series("val/loss").len(), 1);
    assert_eq!(records.series("train/loss").len() as u64, STEPS);
}
