//! Links in a run directory, which may come from elsewhere: nothing is written or read through them.
#![cfg(unix)]

#[path = "support/sink.rs"]
mod sink;

use bdh::{Outcome, RunInfo, Sink, Value};
use bdh_wandb::{Mode, Wandb, read_run, repair};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn wandb() -> Wandb {
    Wandb::from_env().mode(Mode::Offline).project("p")
}

/// Creates a run directory with a log of ten steps, and returns the folder of the log.
fn logged(dir: &Path) -> PathBuf {
    fs::create_dir(dir).expect("a run directory");
    let records: Vec<_> = (1..=10).map(sink::scalars).collect();
    sink::log(&mut wandb(), &sink::run(dir), &records);
    dir.join("wandb")
        .join(fs::read_link(dir.join("wandb/latest-run")).expect("the link to the run"))
}

fn resumed(dir: &Path) -> RunInfo {
    RunInfo {
        resumed_at: Some(5),
        resumed_record: Some(sink::scalars(5)),
        ..sink::run(dir)
    }
}

fn refusal(run: &RunInfo) -> String {
    wandb().open(run).expect_err("a link").to_string()
}

#[test]
fn link_in_place_of_the_wandb_folder_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (run, outside) = (dir.path().join("run"), dir.path().join("outside"));
    fs::create_dir(&outside).expect("a folder");
    fs::create_dir(&run).expect("a run directory");
    symlink(&outside, run.join("wandb")).expect("a link");
    let error = refusal(&sink::run(&run));
    assert!(
        error.contains("wandb` is a link, and nothing is written through links; remove it"),
        "{error}"
    );
    assert_eq!(fs::read_dir(&outside).expect("the folder").count(), 0);

    // A folder chosen by the user may be behind a link.
    let chosen = dir.path().join("chosen");
    symlink(&outside, &chosen).expect("a link");
    sink::log(
        &mut wandb().dir(&chosen),
        &sink::run(&run),
        &[sink::scalars(1)],
    );
    assert!(outside.join("wandb").is_dir());
}

#[test]
fn resume_cuts_no_log_behind_a_link() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = dir.path().join("run");
    let folder = logged(&run);
    let name = folder.file_name().expect("a name").to_owned();
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(run.join("wandb"), &elsewhere).expect("a folder that moves");
    symlink(&elsewhere, run.join("wandb")).expect("a link");
    let log = |folder: &Path| {
        let mut all = fs::read_dir(folder)
            .expect("a folder")
            .flatten()
            .map(|entry| entry.path());
        all.find(|path| path.extension().is_some_and(|ending| ending == "wandb"))
            .expect("a log")
    };
    let before = fs::read(log(&elsewhere.join(&name))).expect("the log");
    assert!(refusal(&resumed(&run)).contains("is a link, and nothing is written through links"));
    assert_eq!(
        fs::read(log(&elsewhere.join(&name))).expect("the log"),
        before
    );

    // The log alone is a link: the run gets a new one.
    fs::remove_file(run.join("wandb")).expect("the link");
    fs::rename(&elsewhere, run.join("wandb")).expect("the folder, back again");
    let path = log(&folder);
    let kept = dir.path().join("kept.wandb");
    fs::rename(&path, &kept).expect("a log that moves");
    symlink(&kept, &path).expect("a link");
    sink::log(&mut wandb(), &resumed(&run), &[sink::scalars(6)]);
    assert_eq!(fs::read(&kept).expect("the log"), before);
    let error = read_run(&path, &["train/loss"])
        .expect_err("a link")
        .to_string();
    assert!(error.ends_with("is, or leads through, a link"), "{error}");
    assert!(repair(&path).is_err() && path.is_symlink());
}

#[test]
fn links_in_place_of_files_are_replaced_on_resume() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = dir.path().join("run");
    let folder = logged(&run);
    let outside = dir.path().join("mine");
    fs::write(&outside, "mine").expect("a file");
    for name in [
        "config.yaml",
        "config.tmp",
        "wandb-metadata.json",
        "wandb-summary.json",
    ] {
        let path = folder.join("files").join(name);
        let _ = fs::remove_file(&path); // the scratch file is not there
        symlink(&outside, path).expect("a link");
    }
    let text = sink::record(6, vec![("sample", Value::Text("text".to_owned()))]);
    sink::log(&mut wandb(), &resumed(&run), &[text]);
    assert_eq!(fs::read_to_string(&outside).expect("the file"), "mine");

    // Folders are not replaced: their content may be needed.
    let private = dir.path().join("private");
    fs::create_dir(&private).expect("a folder");
    let tables = folder.join("files/media/table");
    fs::remove_dir_all(&tables).expect("the folder");
    symlink(&private, &tables).expect("a link");
    let mut sink = wandb();
    sink.open(&resumed(&run)).expect("an open sink");
    let text = sink::record(7, vec![("sample", Value::Text("text".to_owned()))]);
    sink.write(&text)
        .expect("a run that continues without the text");
    drop(sink);
    fs::rename(folder.join("files"), folder.join("old")).expect("a folder that moves");
    symlink(&private, folder.join("files")).expect("a link");
    assert!(
        refusal(&resumed(&run)).contains("files` is a link, and nothing is written through links")
    );
    assert_eq!(fs::read_dir(&private).expect("the folder").count(), 0);
}

#[test]
fn link_in_a_checkpoint_record_is_not_staged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (run, outside) = (dir.path().join("run"), dir.path().join("outside"));
    fs::create_dir_all(run.join("checkpoints/step_00000005")).expect("a folder");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("id_rsa"), "private").expect("a file");
    symlink(
        outside.join("id_rsa"),
        run.join("checkpoints/step_00000005/state.json"),
    )
    .expect("a link");
    symlink(&outside, run.join("checkpoints/step_00000006")).expect("a link");
    let file = |name: &str| {
        let path = run.join("checkpoints").join(name);
        Value::File {
            path,
            kind: "model".to_owned(),
            aliases: Vec::new(),
        }
    };
    let names = [
        "step_00000005",
        "step_00000005/state.json",
        "step_00000006",
        "step_00000006/id_rsa",
    ];
    let record = sink::record(5, names.map(|name| (name, file(name))).to_vec());
    let crafted = RunInfo {
        resumed_record: Some(record),
        ..resumed(&run)
    };
    let mut sink = wandb();
    sink.open(&crafted).expect("an open sink");
    sink.close(&Outcome::Completed).expect("a closed sink");
    assert!(!holds(&run.join("wandb"), b"private"));
}

/// Whether any regular file below a folder contains some bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(dir).expect("a folder").flatten().any(|entry| {
        let kind = entry.file_type().expect("a kind");
        let in_file = || {
            fs::read(entry.path())
                .expect("a file")
                .windows(bytes.len())
                .any(|part| part == bytes)
        };
        (kind.is_dir() && holds(&entry.path(), bytes)) || (kind.is_file() && in_file())
    })
}

#[test]
fn fifos_and_devices_in_place_of_files_do_not_block() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("run-x.wandb");
    let mkfifo = |path: &Path| Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(mkfifo(&log).success());
    assert!(
        repair(&log)
            .expect_err("a FIFO")
            .to_string()
            .ends_with("is not a regular file")
    );
    assert!(read_run(Path::new("/dev/zero"), &["x"]).is_err());

    let run = dir.path().join("run");
    fs::create_dir(&run).expect("a run directory");
    assert!(mkfifo(&run.join("wandb.json")).success());
    sink::log(&mut wandb(), &resumed(&run), &[sink::scalars(6)]);
    assert!(
        run.join("wandb.json").is_file(),
        "the pointer to the new log took its place"
    );
}
