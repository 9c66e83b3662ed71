//! What stops a run, skips its updates, keeps its best checkpoints, and tells of its spikes.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::{
    Attach, Callback, Fitted, Intervene, Intervention, MemorySink, Outcome, StopReason, Value,
    Verdict, at, every,
};
use bdh_callbacks::{Checkpoints, EarlyStop, Finite, OnNonFinite, SkipNonFinite, Spikes};
use std::path::Path;
use tiny::{Listener, Seen};

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that ends well")
}

/// A run whose second update blows the weights up: the loss is NaN from step 3 on.
fn diverging() -> tiny::Builder {
    let run = tiny::compose(tiny::task(tiny::ROWS), tiny::Tiny::new(0.0), 9);
    run.optimizer(SgdConfig::new().build(), 1e38)
}

fn stopped(fitted: &Fitted<tiny::Tiny>) -> (u64, &str, &str) {
    assert_eq!(fitted.problems, []);
    let Outcome::Stopped(StopReason::Asked { by, why }) = &fitted.outcome else {
        panic!("{:?}", fitted.outcome)
    };
    (fitted.last.as_ref().expect("a record").clock.step, by, why)
}

#[test]
fn early_stop_ends_a_run_that_gets_no_better() {
    let patient = EarlyStop::builder()
        .patience(2_u32)
        .min_delta(1e9)
        .build()
        .expect("valid settings");
    let fitted = fit(tiny::run(20).eval(every(3)).callback(patient));
    let (step, by, why) = stopped(&fitted);
    assert_eq!((step, by), (9, "early_stop")); // the first eval is the best, the next two are waited for
    assert!(
        why.starts_with("val/loss did not get better than "),
        "{why}"
    );
}

#[test]
fn early_stop_sees_a_training_loss_that_is_nan_one_step_late() {
    let memory = MemorySink::default();
    let run = diverging().eval(bdh::never()).sink(memory.clone());
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
fn early_stop_goes_on_counting_after_a_resume() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str| {
        let stop = EarlyStop::builder().patience(4_u32).min_delta(1e9).build();
        let dir = dir.path().join(name);
        tiny::run(20)
            .eval(every(2))
            .checkpoint(every(6))
            .run_dir(dir)
            .callback(stop.expect("valid settings"))
    };
    let whole = fit(run("whole"));
    let resumed = fit(run("resumed").resume(dir.path().join("whole/checkpoints/step_00000006")));
    assert_eq!(stopped(&whole), stopped(&resumed));
    assert_eq!(stopped(&whole).0, 10);
}

#[test]
fn finite_names_the_parameters_and_stops_one_step_late_without_a_read() {
    let memory = MemorySink::default();
    let strict = Finite::builder()
        .action(OnNonFinite::Stop)
        .build()
        .expect("valid settings");
    let fitted = fit(diverging()
        .eval(bdh::never())
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
    let heard = Seen::new();
    let fitted = fit(diverging()
        .sink(Listener(heard.clone()))
        .callback(Finite::default()));
    assert_eq!(fitted.outcome, Outcome::Completed);
    assert_eq!(heard.all().len(), 1, "{:?}", heard.all());
    assert!(
        heard.all()[0].contains("are not finite: `embed.weight`"),
        "{:?}",
        heard.all()
    );
}

/// Puts NaN into the gradients of some steps.
struct Poison(Vec<u64>);

impl Intervention for Poison {
    fn name(&self) -> String {
        "poison".to_owned()
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!(self.0)
    }

    fn intervene(&mut self, at: &mut Intervene<'_>) -> Result<Verdict, bdh::BoxError> {
        if self.0.contains(&at.cx().step()) {
            at.replace_gradients(|_, gradient| gradient * f32::NAN);
        }
        Ok(Verdict::Apply)
    }
}

#[test]
fn updates_with_gradients_that_are_not_finite_are_skipped_and_others_are_not_touched() {
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
fn skipping_gives_up_after_so_many_steps_in_a_row() {
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
fn the_best_checkpoints_stay_and_the_others_go() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let memory = MemorySink::default();
    let two = Checkpoints::builder()
        .keep(2_usize)
        .build()
        .expect("valid settings");
    let run = tiny::run(9)
        .eval(every(1))
        .checkpoint(every(2))
        .keep_checkpoints(1_usize);
    let fitted = fit(run.run_dir(&dir).sink(memory.clone()).callback(two));
    assert_eq!(fitted.problems, []);
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
fn a_resumed_run_knows_the_best_that_are_still_there() {
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
    // What came later is given up by the resume and made again.
    let fitted = fit(run().resume(dir.join("checkpoints/step_00000004")));
    assert_eq!(fitted.problems, []);
    assert_eq!((best(&dir), whole.len()), (whole, 1));
}

/// The rows of the tables of spikes, with the steps that they were recorded on.
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
fn a_spike_is_told_on_the_next_step_with_the_position_of_its_batch() {
    let (memory, heard) = (MemorySink::default(), Seen::new());
    let look = Spikes::builder()
        .warmup(5_u32)
        .threshold(8.0)
        .build()
        .expect("valid settings");
    // A huge learning rate on one step spoils the weights for the next.
    let run = tiny::compose(tiny::task(tiny::ROWS), tiny::Tiny::new(0.0), 40).grad_accum_steps(3);
    let run = run
        .optimizer(SgdConfig::new().build(), 1e-3)
        .intervention(Jolt(20));
    let fitted = fit(run
        .sink(memory.clone())
        .sink(Listener(heard.clone()))
        .callback(look));
    let (told, row) = &spikes(&memory)[0];
    assert_eq!(
        (*told, row[0].as_str(), row[3].as_str()),
        (22, "loss", "21")
    );
    assert_eq!(row[4..], ["60..63", "120..126", "480..504"]); // 3 micro-batches of 2 rows of 4 tokens
    let loss = memory.series("train/loss")[20].1;
    assert_eq!(row[1], loss.to_string());
    assert!(memory.series("spike/loss")[20].1 > 8.0);
    assert!(
        heard.all()[0].starts_with(&format!("loss of step 21 is {loss}, ")),
        "{:?}",
        heard.all()
    );
    assert_eq!(fitted.overhead.rows[0].reads, 0);
}

/// Multiplies the learning rate of one step by a million.
struct Jolt(u64);

impl Intervention for Jolt {
    fn name(&self) -> String {
        "jolt".to_owned()
    }

    fn config(&self) -> serde_json::Value {
        self.0.into()
    }

    fn intervene(&mut self, at: &mut Intervene<'_>) -> Result<Verdict, bdh::BoxError> {
        if at.cx().step() == self.0 {
            at.scale_lr(1e6);
        }
        Ok(Verdict::Apply)
    }
}

#[test]
fn a_spike_on_the_last_step_is_told_at_the_end() {
    let heard = Seen::new();
    let look = Spikes::builder()
        .warmup(5_u32)
        .threshold(8.0)
        .build()
        .expect("valid settings");
    let run = tiny::compose(tiny::task(tiny::ROWS), tiny::Tiny::new(0.0), 21);
    let run = run
        .optimizer(SgdConfig::new().build(), 1e-3)
        .intervention(Jolt(20));
    let look = look.every(every(1));
    assert_eq!(look.name(), "spikes");
    fit(run.sink(Listener(heard.clone())).callback(look));
    assert!(
        heard
            .all()
            .iter()
            .any(|text| text.starts_with("loss of step 21 is ")),
        "{:?}",
        heard.all()
    );
}
