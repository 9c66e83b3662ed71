//! Faults around a run: the run ends, reports the fault, and loses nothing that was on disk.
//!
//! docs/reliability.md has the table of all faults, and the other tests. A fault that a machine cannot produce is skipped
//! with a line that reports it.
#![cfg(all(unix, feature = "tensorboard"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/logs.rs"]
mod logs;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::checkpoint::Checkpoint;
use bdh::data::TrainData;
use bdh::hooks::StepEnd;
use bdh::{
    BoxError, Callback, ConfigError, HookResult, MemorySink, Message, Outcome, Record, RunInfo,
    Sink, TokenBatch, TrainError, TrainResult, Warning, callback, checkpoint,
};
use bdh_callbacks::TensorBoard;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const STEPS: u64 = 12;

/// Step of the fault. Two checkpoints are on disk by then, and two are still to come.
const FAULT: u64 = 7;

/// Checkpoints at steps 3, 6, 9 and 12.
fn run(dir: &Path) -> tiny::Builder {
    tiny::run_with(0.2, STEPS)
        .run_dir(dir)
        .checkpoint(every(3))
        .keep_checkpoints(9)
        .resume("auto")
}

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn undisturbed() -> Vec<Vec<u32>> {
    tiny::weights(&fit(tiny::run_with(0.2, STEPS)).model)
}

/// Reads, and so checks, every checkpoint. Returns their steps.
fn whole_checkpoints(dir: &Path) -> Vec<u64> {
    let step = |path: PathBuf| {
        Checkpoint::read(&path)
            .expect("a whole one")
            .state
            .clock
            .step
    };
    let mut steps: Vec<_> = checkpoint::list(&dir.join("checkpoints"))
        .into_iter()
        .map(step)
        .collect();
    steps.sort_unstable();
    steps
}

/// Returns source, step and cause of each warning, in order.
fn warnings(fitted: &TrainResult<tiny::Tiny>) -> Vec<(&str, u64, &str)> {
    fitted
        .warnings
        .iter()
        .map(|p| (&*p.source, p.step, &*p.cause))
        .collect()
}

/// Prints past the capture of the test harness, so that a skipped test is visible.
fn skip(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {test}: {why}");
}

// ── The disk ─────────────────────────────────────────────────────────────────────────────────────────

/// Callback that causes a fault at step [`FAULT`], and has a state of a given size from then on.
struct Fault<F> {
    happen: Option<F>,
    state: usize,
    step: u64,
}

#[callback]
impl<F: FnOnce() + Send> Callback for Fault<F> {
    fn name(&self) -> String {
        "fault".to_owned()
    }

    fn state(&self) -> Json {
        "x".repeat(if self.step < FAULT { 1 } else { self.state })
            .into()
    }

    fn load_state(&mut self, _: Json) -> HookResult {
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.step = ctx.step();
        if self.step == FAULT
            && let Some(happen) = self.happen.take()
        {
            thread::sleep(Duration::from_millis(500)); // the sinks and the checkpoint writer are done
            happen();
        }
        Ok(())
    }
}

/// Returns a [`Fault`]. A large state makes the later checkpoints larger than a file may be.
fn fault(state: usize, happen: impl FnOnce() + Send) -> impl Callback {
    Fault {
        happen: Some(happen),
        state,
        step: 0,
    }
}

/// Trains on a disk without room for the last two checkpoints.
fn loses_checkpoints(dir: &Path, fault: impl Callback + 'static) {
    let memory = MemorySink::default();
    let sink = Warnings::default();
    let run = run(dir)
        .callback(fault)
        .sink(memory.clone())
        .sink(sink.clone());
    let error = run
        .build()
        .expect("a valid run")
        .fit()
        .expect_err("its end is not on disk");
    assert!(
        matches!(error, TrainError::Unsaved { step: 12, .. }),
        "{error:?}"
    );
    assert_eq!(memory.records().len() as u64, STEPS, "all steps were taken");
    let warnings = sink.0.lock().expect("no test panics with the lock");
    for step in [9, 12] {
        let is_reported = warnings.iter().any(|warning| {
            let error = &warning.cause;
            let why = error.contains("os error 27") || error.contains("os error 28");
            (&*warning.source, warning.step) == ("checkpoint", step)
                && error.contains(&format!("step_{step:08}"))
                && why
        });
        assert!(is_reported, "{warnings:?} has no checkpoint {step}");
    }
    assert_eq!(whole_checkpoints(dir), [3, 6], "older ones stay whole");
    let left = fs::read_dir(dir.join("checkpoints"))
        .expect("the folder")
        .count();
    assert_eq!(left, 2, "unfinished checkpoints are deleted");
}

/// Sink that keeps the warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<Warning>>>);

impl Sink for Warnings {
    fn name(&self) -> String {
        "warnings".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }

    fn message(&mut self, message: &Message) {
        if let Message::Warning(warning) = message {
            let mut warnings = self.0.lock().expect("no test panics with the lock");
            warnings.push(warning.clone());
        }
    }
}

/// Runs the same command again, with room on the disk.
fn goes_on(dir: &Path) {
    let fitted = fit(run(dir).callback(fault(1, || {})));
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
    assert_eq!(warnings(&fitted), []);
    assert_eq!(whole_checkpoints(dir), [3, 6, 9, 12]);
    let other = tempfile::tempdir().expect("a temporary directory");
    fit(run(other.path()));
    assert_eq!(
        logs::jsonl(dir),
        logs::jsonl(other.path()),
        "every record, once"
    );
}

/// Fills the disk that `dir` is on.
fn fill(dir: &Path) {
    let mut file = fs::File::create(dir.join("filler")).expect("a file");
    while file.write_all(&[0; 512]).is_ok() {}
}

#[test]
fn full_disk_loses_new_checkpoints_and_a_resume_is_exact() {
    const NAME: &str = "full_disk_loses_new_checkpoints_and_a_resume_is_exact";
    match child::dir() {
        Some(dir) if dir.ends_with("small") => {
            let (run, full) = (dir.join("run"), dir.clone());
            loses_checkpoints(&run, fault(1, move || fill(&full)));
            fs::remove_file(dir.join("filler")).expect("room again");
            return goes_on(&run);
        }
        Some(dir) => return loses_checkpoints(&dir.join("run"), fault(200_000, || {})),
        None => {}
    }
    let _alone = tiny::alone();
    // A file may have 128 blocks of 512 bytes (1,024 in some shells); the signal for larger files is ignored.
    let limit = ["sh", "-c", r#"trap "" XFSZ; ulimit -f 128; exec "$0" "$@""#];
    let dir = tempfile::tempdir().expect("a temporary directory");
    child::passes(child::command(NAME, dir.path(), &limit));
    goes_on(&dir.path().join("run"));

    // A disk of 1 MiB that only the child sees.
    let user = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
    ];
    let small = dir.path().join("small");
    fs::create_dir(&small).expect("a folder");
    let mount = format!("mount -t tmpfs -o size=1m none '{}'", small.display());
    if !child::works(&[&user[..], &[&mount]].concat()) {
        return skip(
            NAME,
            "no small disk can be mounted; the limit of a file's size was tested",
        );
    }
    let then = format!(r#"{mount} && exec "$0" "$@""#);
    child::passes(child::command(
        NAME,
        &small,
        &[&user[..], &[&then]].concat(),
    ));
}

#[test]
fn unwritable_run_directory_is_refused_before_the_first_step() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "in the way").expect("a file");
    let error = run(&file.join("run"))
        .build()
        .expect("nothing is written yet")
        .fit()
        .err();
    let error = error.expect("a file is no folder");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(cause.contains("file/run` cannot be written"), "{cause}");
}

/// Work of a child that is not root: the folder becomes read-only in the middle of its run.
fn loses_permission(dir: &Path) {
    let run_dir = dir.join("run");
    let set_mode = |mode| {
        let folder = run_dir.join("checkpoints");
        fs::set_permissions(folder, fs::Permissions::from_mode(mode))
            .expect("the owner of the folder");
    };
    let locked = run_dir.join("checkpoints");
    let sink = Warnings::default();
    let run = run(&run_dir).sink(sink.clone()).callback(fault(1, move || {
        fs::set_permissions(locked, fs::Permissions::from_mode(0o555))
            .expect("the owner of the folder");
    }));
    let error = run
        .build()
        .expect("a valid run")
        .fit()
        .expect_err("its end is on no disk");
    assert!(
        matches!(error, TrainError::Unsaved { step: 12, .. }),
        "{error:?}"
    );
    let warnings = sink.0.lock().expect("no test panics with the lock");
    assert!(
        warnings
            .iter()
            .all(|warning| warning.cause.contains("os error 13")),
        "{warnings:?}"
    );
    let steps: Vec<_> = warnings
        .iter()
        .map(|warning| (&*warning.source, warning.step))
        .collect();
    assert_eq!(
        steps,
        [("checkpoint", 9), ("checkpoint", 12)],
        "{warnings:?}"
    );
    assert_eq!(whole_checkpoints(&run_dir), [3, 6]);
    set_mode(0o755);
    goes_on(&run_dir);
}

#[test]
fn read_only_folder_loses_new_checkpoints_and_a_resume_is_exact() {
    const NAME: &str = "read_only_folder_loses_new_checkpoints_and_a_resume_is_exact";
    if let Some(dir) = child::dir() {
        return loses_permission(&dir);
    }
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .expect("the owner of the folder");
    };
    set_mode(dir.path(), 0o777);
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    set_mode(&closed, 0o000);
    if fs::read_dir(&closed).is_err() {
        return loses_permission(dir.path());
    }
    match child::command_as_nobody(NAME, dir.path()) {
        Some(child) => child::passes(child),
        None => skip(
            NAME,
            "root may do anything, and cannot change the user here",
        ),
    }
}

// ── Processes, threads, sinks and callbacks ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn second_process_is_refused_while_the_first_trains() {
    const NAME: &str = "second_process_is_refused_while_the_first_trains";
    if let Some(dir) = child::dir() {
        let refused = |run: tiny::Builder| run.build().expect_err("a refusal").to_string();
        let again = refused(run(&dir).callback(fault(1, || {})));
        assert!(again.contains("in use by another run"), "{again}");
        let anew = refused(tiny::run(STEPS).run_dir(&dir));
        assert!(anew.contains("exists already"), "{anew}");
        return;
    }
    let _alone = tiny::alone();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    let second = dir.clone();
    let fitted = fit(run(&dir).callback(fault(1, move || {
        child::passes(child::command(NAME, &second, &["env"]));
    })));
    assert_eq!(
        warnings(&fitted),
        [],
        "the second process affected the first"
    );
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
}

/// Work of a child that may start no thread.
fn has_no_thread() {
    if thread::Builder::new().spawn(|| ()).is_ok() {
        return skip(NO_THREAD, "a limit of threads does not hold here");
    }
    let error = bdh::device("cpu")
        .expect_err("no thread computes")
        .to_string();
    assert!(
        error.starts_with("the CPU cannot be used, as the system gives no thread"),
        "{error}"
    );
    assert!(
        error.contains("os error 11") && error.contains("`ulimit -u`"),
        "{error}"
    );
}

/// Work of a child that has threads for the run, and none for its checkpoints.
fn saves_without_a_thread(dir: &Path) {
    let looks = tiny::on_step(|ctx| {
        if ctx.step() == 1 && thread::Builder::new().spawn(|| ()).is_ok() {
            skip(NO_THREAD, "there is a thread for checkpoints");
        }
        Ok(())
    });
    let fitted = fit(run(dir).callback(looks));
    assert_eq!(warnings(&fitted), []);
    assert_eq!(whole_checkpoints(dir), [3, 6, 9, 12]);
}

const NO_THREAD: &str = "lack_of_threads_is_reported_or_worked_around";

#[test]
fn lack_of_threads_is_reported_or_worked_around() {
    match child::dir() {
        Some(dir) if dir.ends_with("none") => return has_no_thread(),
        Some(dir) => return saves_without_a_thread(&dir),
        None => {}
    }
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))
        .expect("the owner of the folder");
    if child::command_as_nobody(NO_THREAD, dir.path()).is_none() {
        return skip(
            NO_THREAD,
            "root has no limit of threads, and cannot change the user here",
        );
    }
    // Users without other processes, since the limit counts all processes of a user. The second has threads for the test,
    // for computing and for `metrics.jsonl`.
    for (user, name, limit) in [("65533", "none", 1), ("65532", "few", 4)] {
        let limit = format!(r#"ulimit -u {limit}; exec "$0" "$@""#);
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        let through = [
            "setpriv",
            &ids[0],
            &ids[1],
            "--clear-groups",
            "sh",
            "-c",
            &limit,
        ];
        let mut child = child::command(NO_THREAD, &dir.path().join(name), &through);
        child.env("HOME", dir.path()).env("RAYON_NUM_THREADS", "1");
        child::passes(child);
    }
}

/// Sink that never returns from one of its methods.
struct Hangs(&'static str);

impl Hangs {
    fn at(&self, place: &str) {
        if self.0 == place {
            loop {
                thread::park(); // may return without a reason, hence the loop
            }
        }
    }
}

impl Sink for Hangs {
    fn name(&self) -> String {
        "hangs".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        if record.clock.step == FAULT {
            self.at("write");
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        self.at("flush");
        Ok(())
    }

    fn close(&mut self, _: &Outcome) -> Result<(), BoxError> {
        self.at("close");
        Ok(())
    }

    fn flush_timeout(&self) -> Duration {
        Duration::from_millis(300)
    }
}

#[test]
fn hanging_sink_is_named_and_does_not_hold_up_the_run() {
    let _alone = tiny::alone();
    for place in ["write", "flush", "close"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fitted = fit(run(dir.path()).sink(Hangs(place)));
        assert_eq!(fitted.outcome, Outcome::Completed);
        let warnings = warnings(&fitted);
        assert_eq!(warnings.len(), 1, "{place}: {warnings:?}");
        assert_eq!(
            (warnings[0].0, warnings[0].2),
            ("hangs", "it did not finish in 300ms"),
            "{place}"
        );
        assert_eq!(tiny::weights(&fitted.model), undisturbed());
        assert_eq!(whole_checkpoints(dir.path()), [3, 6, 9, 12]);
        assert_eq!(logs::jsonl(dir.path()).len() as u64, STEPS);
    }
}

#[test]
fn panic_in_any_hook_does_not_change_the_run() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fitted = fit(run(dir.path())
        .callback(tiny::on_fit_start(|_| panic!("at the start")))
        .callback(tiny::on_step_start(|_| panic!("before the step")))
        .callback(tiny::on_micro_batch(|_| panic!("after a micro-batch")))
        .callback(tiny::after_backward(|_| panic!("after the backward pass")))
        .callback(tiny::before_optimizer_step(|_| panic!("before the update")))
        .callback(tiny::after_optimizer_step(|_| panic!("after the update")))
        .callback(tiny::on_step(|_| panic!("after the step")))
        .callback(tiny::on_eval_batch(|_| panic!("within the eval")))
        .callback(tiny::on_eval(|_| panic!("after the eval")))
        .callback(tiny::on_checkpoint(|_| panic!("after a checkpoint")))
        .callback(tiny::on_fit_end(|_| panic!("at the end"))));
    let warnings: Vec<_> = fitted
        .warnings
        .iter()
        .map(|p| (&*p.phase, p.step, &*p.cause))
        .collect();
    let expected = [
        ("on_fit_start", 0, "it panicked: at the start"),
        ("on_step_start", 1, "it panicked: before the step"),
        ("on_micro_batch", 1, "it panicked: after a micro-batch"),
        ("after_backward", 1, "it panicked: after the backward pass"),
        ("before_optimizer_step", 1, "it panicked: before the update"),
        ("after_optimizer_step", 1, "it panicked: after the update"),
        ("on_step", 1, "it panicked: after the step"),
        ("on_checkpoint", 3, "it panicked: after a checkpoint"),
        ("on_eval_batch", 12, "it panicked: within the eval"),
        ("on_eval", 12, "it panicked: after the eval"),
        ("on_fit_end", 12, "it panicked: at the end"),
    ];
    assert_eq!(warnings, expected);
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
    assert_eq!(whole_checkpoints(dir.path()), [3, 6, 9, 12]);
}

// ── Data ─────────────────────────────────────────────────────────────────────────────────────────────

/// Rows that are good until one has an unknown id.
struct Spoilt(tiny::Rows, i32, u64);

impl TrainData for Spoilt {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.2 += 1;
        let batch = self.0.next_batch()?;
        let row = [1, 2, self.1, 3, 4];
        Ok(if self.2 == FAULT {
            TokenBatch::from_rows(&[[1; 5], row])
        } else {
            batch
        })
    }

    fn state(&self) -> Json {
        self.0.state()
    }

    fn load_state(&mut self, state: &Json) -> Result<(), BoxError> {
        self.0.load_state(state)
    }
}

#[test]
fn token_ids_out_of_range_end_the_run_with_a_reason() {
    let _alone = tiny::alone();
    for id in [11, 300, -2, i32::MIN] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let run = bdh::Trainer::builder(tiny::task(), tiny::Tiny::new(0.2))
            .train_data(Spoilt(tiny::Rows::of(tiny::ROWS), id, 0))
            .optimizer(bdh::burn::optim::AdamWConfig::new().build(), 0.01)
            .steps(STEPS)
            .run_dir(dir.path())
            .checkpoint(every(3));
        let error = run
            .build()
            .expect("a valid run")
            .fit()
            .expect_err("an id of nothing");
        let expected = format!(
            "token id {id} (an input, row 1, position 2) is outside the model's vocabulary, ids 0 to 10: \
             use the tokenizer that the model was made for"
        );
        assert_eq!(
            error.to_string(),
            format!("the training data failed at step {FAULT}: {expected}")
        );
        assert_eq!(whole_checkpoints(dir.path()), [3, 6]);
    }
}

#[test]
fn validation_ids_out_of_range_are_refused_before_the_run() {
    let bad = TokenBatch::from_rows(&[[1, 2, 3, 11]]);
    let val = vec![TokenBatch::from_rows(&[[1; 4]]), bad];
    let rows = tiny::Rows::of(1);
    let run = tiny::bare(tiny::task(), rows, tiny::Tiny::new(0.0), STEPS).eval_data("val", val);
    let run = run.optimizer(bdh::burn::optim::AdamWConfig::new().build(), 0.01);
    let error = run.build().expect_err("its ids are unknown");
    assert!(
        matches!(error, ConfigError::EvalData { batch: 1, .. }),
        "{error}"
    );
    let expected =
        "batch 1 of the eval set `val` cannot be used: token id 11 (a target, row 0, position 2)";
    assert!(error.to_string().starts_with(expected), "{error}");
}

// ── The clock ────────────────────────────────────────────────────────────────────────────────────────

/// Finds the sources below a folder that read the wall clock, directly or with `bdh::clock::now`.
fn wall_clock(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            wall_clock(&path, found);
            continue;
        }
        if path.extension().is_none_or(|end| end != "rs") || path.ends_with("tests.rs") {
            continue; // a font, or unit tests
        }
        let text = fs::read_to_string(&path).expect("a source file");
        // Other matches: the monotonic clock, a function of this name, a method of another type, and `yield_now`.
        let others = ["Instant::", "fn ", ".", "_"];
        let is_other = |before: &str| others.iter().any(|other| before.ends_with(other));
        let mut calls = text.match_indices("now()").map(|(at, _)| &text[..at]);
        if calls.any(|before| !is_other(before)) {
            found.insert(
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
}

/// Times are measured, and cadences by time are due, by the monotonic clock, which never goes back.
#[test]
fn wall_clock_is_read_for_time_stamps_and_names_only() {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in [
        "bdh",
        "bdh-callbacks",
        "bdh-sweep",
        "bdh-tensorboard",
        "bdh-wandb",
    ] {
        wall_clock(&root.join(name).join("src"), &mut found);
    }
    let expected = [
        "clock.rs",      // `bdh::clock::now` itself
        "event_file.rs", // the names of event files
        "events.rs",     // time stamps of events
        "folder.rs",     // the name of a run's folder
        "session.rs",    // time stamps of W&B's rows
        "settings.rs",   // when a run began
        "sink.rs",       // when TensorBoard's session ended
        "sweep_loop.rs", // when a trial began
    ];
    assert_eq!(Vec::from_iter(&found), expected);
}

#[test]
fn event_files_stay_in_order_if_the_wall_clock_goes_back() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path()).sink(TensorBoard::default()));
    let files = || {
        let paths = fs::read_dir(dir.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path());
        let mut paths: Vec<_> = paths
            .filter(|path| path.to_string_lossy().contains("/events.out.tfevents."))
            .collect();
        paths.sort();
        paths
    };
    // The clock was a century ahead when the first process began.
    let ahead = dir.path().join("events.out.tfevents.4900000000.bdh.1.0");
    fs::rename(&files()[0], &ahead).expect("a file");
    fs::remove_dir_all(dir.path().join("checkpoints/step_00000012")).expect("a checkpoint");
    let fitted = fit(run(dir.path()).sink(TensorBoard::default()));
    assert_eq!(warnings(&fitted), []);
    let files = files();
    assert_eq!(
        (files.len(), &files[0]),
        (2, &ahead),
        "readers sort the files by name"
    );
    let steps: Vec<_> = logs::events(dir.path())
        .iter()
        .map(|(step, _)| *step)
        .collect();
    assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>());
}
