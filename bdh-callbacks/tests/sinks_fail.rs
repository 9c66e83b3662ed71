//! Faults of a run's files do not change training, and each sink that loses something reports it.
//!
//! A fault that a machine cannot produce is skipped with a line that reports it.
#![cfg(all(unix, feature = "tensorboard", feature = "wandb"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/logs.rs"]
mod logs;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::error::DirLoss;
use bdh::hooks::StepEnd;
use bdh::stats::Histogram;
use bdh::{BoxError, MemorySink, Outcome, Record, RunInfo, Sink, TrainError, TrainResult, Value};
use bdh_callbacks::wandb::{Mode, repair};
use bdh_callbacks::{Console, TensorBoard, Wandb};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const STEPS: u64 = 60;

/// Step after which the fault happens. All sinks have written it by then.
const FAULT: u64 = 30;

/// More than a sink's thread sleeps (20 ms) and needs for the records that it finds, even on a busy machine.
const A_TURN: Duration = Duration::from_millis(500);

/// Returns a run with `metrics.jsonl` and all other sinks, in `dir`.
fn run(dir: &Path) -> tiny::Builder {
    tiny::run(STEPS)
        .run_dir(dir)
        .sink(TensorBoard::default())
        .sink(Wandb::from_env().mode(Mode::Offline).project("p"))
        .sink(Console::default())
}

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

/// Logs a text, a page and a histogram, about 3 KB a step, and causes `fault` once.
fn logs_and(fault: impl FnOnce() + Send) -> impl bdh::Callback {
    let mut fault = Some(fault);
    tiny::on_step(move |ctx: &StepEnd<'_>| {
        let counts = vec![ctx.step(); 64];
        let edges = (0..=64).map(|edge| f64::from(edge) / 3.0).collect();
        ctx.log(
            "weights",
            Value::Histogram(Histogram {
                edges,
                counts,
                non_finite: 1,
            }),
        );
        ctx.log("sample", Value::Text("größe ".repeat(100)));
        ctx.log("page", Value::Html("<b>bold</b>".to_owned()));
        if ctx.step() == FAULT + 1
            && let Some(fault) = fault.take()
        {
            thread::sleep(A_TURN);
            fault();
        }
        Ok(())
    })
}

/// Checks that training was not disturbed. Returns source and cause of each warning, sorted.
fn warnings(fitted: &TrainResult<tiny::Tiny>) -> Vec<(&str, &str)> {
    assert_eq!(fitted.outcome, Outcome::Completed);
    let undisturbed = fit(tiny::run(STEPS));
    assert_eq!(
        tiny::weights(&fitted.model),
        tiny::weights(&undisturbed.model)
    );
    let mut warnings: Vec<_> = fitted
        .warnings
        .iter()
        .map(|p| (&*p.source, &*p.cause))
        .collect();
    warnings.sort_unstable();
    warnings
}

/// Returns each source once: a sink may report a fault when it happens, and at the end the records that it lost.
fn sources<'a>(warnings: &[(&'a str, &str)]) -> Vec<&'a str> {
    let mut sources: Vec<_> = warnings.iter().map(|(source, _)| *source).collect();
    sources.dedup();
    sources
}

/// Checks that the rows are the first steps of the run, `least` or more, with unchanged losses.
fn assert_rows(rows: &[logs::Row], least: u64, memory: &MemorySink, what: &str) {
    let all = memory.series("train/loss");
    assert_eq!(all.len() as u64, STEPS);
    assert!(
        rows.len() as u64 >= least,
        "{what} has {} rows of {least}",
        rows.len()
    );
    assert_eq!(rows, &all[..rows.len().min(all.len())], "{what}"); // every file has losses of single precision
}

/// Checks that all three files have the first `least` steps or more.
fn assert_files(dir: &Path, least: u64, memory: &MemorySink) {
    assert!(logs::jsonl_is_whole(dir));
    assert!(logs::events_are_whole(dir));
    assert_rows(&logs::jsonl(dir), least, memory, "metrics.jsonl");
    assert_rows(&logs::events(dir), least, memory, "the event file");
    let log = logs::wandb_log(dir);
    assert_rows(&logs::wandb(&log), least, memory, "the W&B log");
    let repaired = repair(&log).expect("a log");
    assert_eq!(repaired.damaged, 0, "{repaired:?}");
    assert!(repaired.kept > least);
}

/// Prints past the capture of the test harness, so that a skipped test is visible.
fn skip(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {test}: {why}");
}

#[test]
fn all_sinks_work_in_one_run_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = MemorySink::default();
    let fitted = fit(run(dir.path())
        .callback(logs_and(|| {}))
        .sink(memory.clone()));
    assert_eq!(warnings(&fitted), []);
    assert_files(dir.path(), STEPS, &memory);
}

/// Work of a child whose files have a limited size, or whose `fault` fills the disk.
fn runs_out_of_room(dir: &Path, fault: impl FnOnce() + Send + 'static, least: u64) {
    let memory = MemorySink::default();
    let fitted = fit(run(dir).callback(logs_and(fault)).sink(memory.clone()));
    let warnings = warnings(&fitted);
    let mut lost = sources(&warnings);
    lost.retain(|source| *source != "run.json"); // small, and written last: lost on a full disk too
    // Each sink reports at once that it waits for room. At the end `metrics.jsonl` reports the missing records.
    assert_eq!(lost, ["jsonl", "tensorboard", "wandb"], "{warnings:?}");
    let missing = format!("to step {STEPS} are missing");
    let is_missing =
        |(source, cause): &(&str, &str)| *source == "jsonl" && cause.ends_with(&missing);
    assert!(warnings.iter().any(is_missing), "{warnings:?}");
    for (_, cause) in &warnings {
        let is_no_room = cause.contains("os error 28") || cause.contains("os error 27");
        assert!(is_no_room, "{warnings:?}");
    }
    assert_files(dir, least, &memory);
}

/// Fills the disk that `dir` is on.
fn fill(dir: &Path) {
    let mut file = fs::File::create(dir.join("filler")).expect("a file");
    while file.write_all(&[0; 512]).is_ok() {}
}

#[test]
fn full_disk_ends_only_the_sinks_that_write() {
    const NAME: &str = "full_disk_ends_only_the_sinks_that_write";
    match child::dir() {
        Some(dir) if dir.ends_with("small") => {
            return runs_out_of_room(&dir.join("run"), move || fill(&dir), FAULT);
        }
        Some(dir) => return runs_out_of_room(&dir.join("run"), || {}, 5),
        None => {}
    }
    // A file may have 64 blocks of 512 bytes (1,024 in some shells); the signal for larger files is ignored.
    let limit = ["sh", "-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#];
    let dir = tempfile::tempdir().expect("a temporary directory");
    child::passes(child::command(NAME, dir.path(), &limit));

    // A disk of 2 MiB that only the child sees.
    let user = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
    ];
    let works = |what: &str| child::works(&[&user[..], &[what]].concat());
    let small = dir.path().join("small");
    fs::create_dir(&small).expect("a folder");
    let mount = format!("mount -t tmpfs -o size=2m none '{}'", small.display());
    if !works(&mount) {
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
fn deleted_run_directory_ends_the_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let gone = dir.clone();
    let fault = move || fs::remove_dir_all(gone).expect("a deleted directory");
    let run = run(&dir)
        .callback(logs_and(fault))
        .build()
        .expect("a valid run");
    let error = run.fit().expect_err("its records are gone");
    assert!(
        matches!(
            error,
            TrainError::DirLost {
                how: DirLoss::Deleted,
                ..
            }
        ),
        "{error}"
    );
    assert!(!dir.exists(), "the directory was made again");
}

/// Work of a child that is not root.
fn loses_permission(dir: &Path) {
    let memory = MemorySink::default();
    fs::create_dir_all(dir).expect("a directory");
    let locked = dir.to_owned();
    let fault = move || set_mode(&locked, 0o000);
    let fitted = fit(run(dir).callback(logs_and(fault)).sink(memory.clone()));
    set_mode(dir, 0o755);
    // Open files stay open. W&B needs new ones for texts and pages.
    let warnings = warnings(&fitted);
    assert_eq!(sources(&warnings), ["run.json", "wandb"], "{warnings:?}");
    let is_denied = |(_, cause): &(&str, &str)| cause.contains("os error 13");
    assert!(warnings.iter().all(is_denied), "{warnings:?}");
    assert_rows(&logs::jsonl(dir), STEPS, &memory, "metrics.jsonl");
    assert_files(dir, FAULT, &memory);
}

fn set_mode(dir: &Path, mode: u32) {
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).expect("the owner of the folder");
}

#[test]
fn lost_permission_ends_the_sink_that_needs_new_files() {
    const NAME: &str = "lost_permission_ends_the_sink_that_needs_new_files";
    if let Some(dir) = child::dir() {
        return loses_permission(&dir.join("run"));
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    set_mode(dir.path(), 0o777);
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    set_mode(&closed, 0o000);
    if fs::read_dir(&closed).is_err() {
        return loses_permission(&dir.path().join("run"));
    }
    // Root has every permission, so the child runs as another user, if possible.
    match child::command_as_nobody(NAME, dir.path()) {
        Some(child) => child::passes(child),
        None => skip(
            NAME,
            "root may do anything, and cannot change the user here",
        ),
    }
}

/// Sink that panics after the fault.
struct Panics;

impl Sink for Panics {
    fn name(&self) -> String {
        "panics".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        assert!(
            record.clock.step <= FAULT,
            "step {} is too much",
            record.clock.step
        );
        Ok(())
    }
}

#[test]
fn panicking_sink_does_not_affect_the_others() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = MemorySink::default();
    let fitted = fit(run(dir.path())
        .callback(logs_and(|| {}))
        .sink(Panics)
        .sink(memory.clone()));
    assert_eq!(
        warnings(&fitted),
        [("panics", "it panicked: step 31 is too much")]
    );
    assert_eq!(fitted.warnings[0].step, FAULT + 1);
    assert_files(dir.path(), STEPS, &memory);
}

/// Returns the folder of the W&B run.
fn wandb_folder(dir: &Path) -> PathBuf {
    logs::wandb_log(dir).parent().expect("a folder").to_owned()
}

#[test]
fn damaged_wandb_folder_ends_that_sink_alone() {
    // The sink does not make a deleted folder again.
    for (is_deleted, expected) in [
        (true, ".json`: No such file"),
        (false, ".json`: Not a directory"),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let memory = MemorySink::default();
        let path = dir.path().to_owned();
        let fault = move || {
            let folder = wandb_folder(&path);
            if is_deleted {
                fs::remove_dir_all(folder).expect("a deleted folder");
            } else {
                fs::rename(folder.join("files"), folder.join("elsewhere")).expect("a folder");
                fs::write(folder.join("files"), "in the way").expect("a file");
            }
        };
        let fitted = fit(run(dir.path())
            .callback(logs_and(fault))
            .sink(memory.clone()));
        let warnings = warnings(&fitted);
        assert_eq!(sources(&warnings), ["wandb"], "{warnings:?}");
        let is_expected = |(_, cause): &(&str, &str)| cause.contains(expected);
        assert!(warnings.iter().any(is_expected), "{warnings:?}");
        assert_rows(&logs::jsonl(dir.path()), STEPS, &memory, "metrics.jsonl");
        assert_rows(&logs::events(dir.path()), STEPS, &memory, "the event file");
        if logs::wandb_log(dir.path()).is_file() {
            assert_files(dir.path(), FAULT, &memory);
        }
    }
}

#[test]
fn files_of_any_name_are_recorded_and_missing_ones_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let deep = (0..6).fold(dir.path().to_owned(), |dir, _| dir.join("x".repeat(60)));
    let odd = [
        dir.path().join("a name with spaces"),
        dir.path().join("größe/it's 🦀"),
        deep,
    ];
    for path in &odd {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "{}").expect("a file");
    }
    // Tests run in the crate's folder.
    let there = odd
        .into_iter()
        .chain([PathBuf::from("Cargo.toml"), PathBuf::from("src/../src")]);
    let there: Vec<_> = there.collect();
    let missing = [dir.path().join("missing"), PathBuf::from("y".repeat(300))];

    let memory = MemorySink::default();
    let run_dir = dir.path().join("run");
    let paths: Vec<_> = there.iter().chain(&missing).cloned().collect();
    let files = tiny::on_step(move |ctx: &StepEnd<'_>| {
        if let Some(path) = paths.get(ctx.step() as usize) {
            let (path, kind) = (path.clone(), "model".to_owned());
            ctx.log(
                "file",
                Value::File {
                    path,
                    kind,
                    aliases: vec!["best".to_owned()],
                },
            );
        }
        Ok(())
    });
    let first = there.len() + missing.len();
    let fitted = fit(run(&run_dir).callback(files).sink(memory.clone()));

    let warnings = warnings(&fitted);
    assert_eq!(
        warnings.len(),
        2,
        "other sinks record the path alone: {warnings:?}"
    );
    assert_eq!(sources(&warnings), ["wandb"], "{warnings:?}");
    for path in &missing {
        let name = path.display().to_string();
        let has_name = |(_, cause): &(&str, &str)| cause.contains(&name);
        assert!(warnings.iter().any(has_name), "{warnings:?} lacks {name}");
    }
    assert_files(&run_dir, STEPS, &memory);
    let artifacts = fs::read_dir(wandb_folder(&run_dir).join("artifacts")).expect("artifacts");
    assert_eq!(
        artifacts.count(),
        there.len() - 1,
        "of {first}; step 0 has no hook"
    );
}
