//! Whatever happens to the files of a run, training ends as it would have, and each sink that lost something says so.
//!
//! What cannot be brought about on a machine is skipped with a line that says so.
#![cfg(all(unix, feature = "tensorboard", feature = "wandb"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/logs.rs"]
mod logs;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{
    BoxError, DirLoss, Fitted, Histogram, MemorySink, Outcome, Record, RunInfo, Sink, StepEnd,
    TrainError, Value,
};
use bdh_callbacks::wandb::{Mode, repair};
use bdh_callbacks::{Console, TensorBoard, Wandb};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const STEPS: u64 = 60;

/// The step after which something happens. All sinks have written it by then.
const FAULT: u64 = 30;

/// More than a sink's thread sleeps (20 ms) and then needs for what it finds, on a busy machine too.
const A_TURN: Duration = Duration::from_millis(500);

/// A run with `metrics.jsonl` and every sink there is, in `dir`.
fn run(dir: &Path) -> tiny::Builder {
    tiny::run(STEPS)
        .run_dir(dir)
        .sink(TensorBoard::default())
        .sink(Wandb::from_env().mode(Mode::Offline).project("p"))
        .sink(Console::default())
}

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

/// Logs a text, a picture and a histogram, some 3 KB a step, and lets `fault` happen once.
fn logs_and(fault: impl FnOnce() + Send) -> impl bdh::Callback {
    let mut fault = Some(fault);
    tiny::on_step(move |at: &StepEnd<'_>| {
        let counts = vec![at.step(); 64];
        let edges = (0..=64).map(|edge| f64::from(edge) / 3.0).collect();
        at.log(
            "weights",
            Value::Histogram(Histogram {
                edges,
                counts,
                non_finite: 1,
            }),
        );
        at.log("sample", Value::Text("größe ".repeat(100)));
        at.log("page", Value::Html("<b>bold</b>".to_owned()));
        if at.step() == FAULT + 1
            && let Some(fault) = fault.take()
        {
            thread::sleep(A_TURN);
            fault();
        }
        Ok(())
    })
}

/// Checks that training was not disturbed, and tells who lost what: names, in order, and errors.
fn told(fitted: &Fitted<tiny::Tiny>) -> Vec<(&str, &str)> {
    assert_eq!(fitted.outcome, Outcome::Completed);
    let undisturbed = fit(tiny::run(STEPS));
    assert_eq!(
        tiny::weights(&fitted.model),
        tiny::weights(&undisturbed.model)
    );
    let mut told: Vec<_> = fitted
        .problems
        .iter()
        .map(|p| (&*p.who, &*p.error))
        .collect();
    told.sort_unstable();
    told
}

fn names<'a>(told: &[(&'a str, &str)]) -> Vec<&'a str> {
    told.iter().map(|(who, _)| *who).collect()
}

/// The same names, each once: a sink reports what it bears, and at the end what it has lost.
fn who<'a>(told: &[(&'a str, &str)]) -> Vec<&'a str> {
    let mut names = names(told);
    names.dedup();
    names
}

/// Checks that these are the first steps of the run, `least` or more, and that no loss was changed on the way.
fn assert_rows(rows: &[logs::Row], least: u64, memory: &MemorySink, what: &str) {
    let all = memory.series("train/loss");
    assert_eq!(all.len() as u64, STEPS);
    assert!(
        rows.len() as u64 >= least,
        "{what} has {} rows of {least}",
        rows.len()
    );
    assert_eq!(rows, &all[..rows.len().min(all.len())], "{what}"); // a loss is of single precision everywhere
}

/// Checks that all three files hold the first `least` steps or more.
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

/// Past the capture of the test harness: who skips must say so.
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
    assert_eq!(told(&fitted), []);
    assert_files(dir.path(), STEPS, &memory);
}

/// What a child does where files have no room beyond some size, or where `fault` takes all the room there is.
fn runs_out_of_room(dir: &Path, fault: impl FnOnce() + Send + 'static, least: u64) {
    let memory = MemorySink::default();
    let fitted = fit(run(dir).callback(logs_and(fault)).sink(memory.clone()));
    let told = told(&fitted);
    let mut lost = who(&told);
    lost.retain(|who| *who != "run.json"); // small, and written last: on a full disk it is lost too
    // Each says at once that it waits for room; at the end `metrics.jsonl` says which records are missing.
    assert_eq!(lost, ["jsonl", "tensorboard", "wandb"], "{told:?}");
    let missing = format!("to step {STEPS} are missing");
    assert!(
        told.iter()
            .any(|(who, error)| *who == "jsonl" && error.ends_with(&missing)),
        "{told:?}"
    );
    let says_so = |error: &str| error.contains("os error 28") || error.contains("os error 27");
    assert!(told.iter().all(|(_, error)| says_so(error)), "{told:?}");
    assert_files(dir, least, &memory);
}

/// Fills the disk that `dir` is on.
fn fill(dir: &Path) {
    let mut file = fs::File::create(dir.join("filler")).expect("a file");
    while file.write_all(&[0; 512]).is_ok() {}
}

#[test]
fn a_disk_without_room_ends_every_sink_that_writes_and_nothing_else() {
    const NAME: &str = "a_disk_without_room_ends_every_sink_that_writes_and_nothing_else";
    match child::dir() {
        Some(dir) if dir.ends_with("small") => {
            return runs_out_of_room(&dir.join("run"), move || fill(&dir), FAULT);
        }
        Some(dir) => return runs_out_of_room(&dir.join("run"), || {}, 5),
        None => {}
    }
    // A file may have 64 blocks of 512 bytes (1,024 in some shells); the signal that says so is ignored.
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
fn a_run_directory_that_is_deleted_ends_the_run_whatever_its_sinks_still_hold() {
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
    assert!(!dir.exists(), "nothing was made again");
}

/// What a child does that is not root.
fn loses_permission(dir: &Path) {
    let memory = MemorySink::default();
    fs::create_dir_all(dir).expect("a directory");
    let locked = dir.to_owned();
    let fault = move || set_mode(&locked, 0o000);
    let fitted = fit(run(dir).callback(logs_and(fault)).sink(memory.clone()));
    set_mode(dir, 0o755);
    // Files that are open stay open; W&B makes new ones for texts and pages.
    let told = told(&fitted);
    assert_eq!(who(&told), ["run.json", "wandb"], "{told:?}");
    assert!(
        told.iter().all(|(_, error)| error.contains("os error 13")),
        "{told:?}"
    );
    assert_rows(&logs::jsonl(dir), STEPS, &memory, "metrics.jsonl");
    assert_files(dir, FAULT, &memory);
}

fn set_mode(dir: &Path, mode: u32) {
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).expect("its owner may");
}

#[test]
fn a_run_directory_without_permission_ends_the_sink_that_needs_new_files() {
    const NAME: &str = "a_run_directory_without_permission_ends_the_sink_that_needs_new_files";
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
    // Root may do anything. Somebody else may not, if root can become somebody else and the program lets them in.
    match child::command_as_nobody(NAME, dir.path()) {
        Some(child) => child::passes(child),
        None => skip(
            NAME,
            "root may do anything, and cannot become somebody else here",
        ),
    }
}

/// A sink that panics once the fault has happened.
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
fn a_sink_that_panics_takes_no_other_along() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = MemorySink::default();
    let fitted = fit(run(dir.path())
        .callback(logs_and(|| {}))
        .sink(Panics)
        .sink(memory.clone()));
    assert_eq!(
        told(&fitted),
        [("panics", "it panicked: step 31 is too much")]
    );
    assert_eq!(fitted.problems[0].step, FAULT + 1);
    assert_files(dir.path(), STEPS, &memory);
}

/// The folder of the W&B run, found as soon as it is there.
fn wandb_folder(dir: &Path) -> PathBuf {
    logs::wandb_log(dir).parent().expect("a folder").to_owned()
}

#[test]
fn a_wandb_folder_that_is_deleted_or_spoilt_ends_that_sink_alone() {
    // A folder that was deleted is not made again.
    for (is_deleted, said) in [
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
        let told = told(&fitted);
        assert_eq!(who(&told), ["wandb"], "{told:?}");
        assert!(
            told.iter().any(|(_, error)| error.contains(said)),
            "{told:?}"
        );
        assert_rows(&logs::jsonl(dir.path()), STEPS, &memory, "metrics.jsonl");
        assert_rows(&logs::events(dir.path()), STEPS, &memory, "the event file");
        if logs::wandb_log(dir.path()).is_file() {
            assert_files(dir.path(), FAULT, &memory);
        }
    }
}

#[test]
fn files_of_any_name_are_recorded_and_those_that_are_not_there_are_named() {
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
    let files = tiny::on_step(move |at: &StepEnd<'_>| {
        if let Some(path) = paths.get(at.step() as usize) {
            let (path, kind) = (path.clone(), "model".to_owned());
            at.log(
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

    let told = told(&fitted);
    assert_eq!(
        names(&told),
        ["wandb"; 2],
        "the others only write down where it is: {told:?}"
    );
    for path in &missing {
        let name = path.display().to_string();
        assert!(
            told.iter().any(|(_, error)| error.contains(&name)),
            "{told:?} lacks {name}"
        );
    }
    assert_files(&run_dir, STEPS, &memory);
    let artifacts = fs::read_dir(wandb_folder(&run_dir).join("artifacts")).expect("artifacts");
    assert_eq!(
        artifacts.count(),
        there.len() - 1,
        "of {first}; step 0 has no hook"
    );
}
