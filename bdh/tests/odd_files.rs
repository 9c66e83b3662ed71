//! In a crafted run directory, no file outside of it is read, and no file in it blocks the run or is read without end.
#![cfg(unix)]

#[path = "support/manifest.rs"]
mod manifest;
#[path = "support/odd.rs"]
mod odd;
#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{every, last};
use bdh::checkpoint::Checkpoint;
use bdh::{BoxError, ConfigError, Record, RunInfo, Sink, Value};
use manifest::{seal, sha256};
use odd::{ODD, spoil};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn run(dir: &Path) -> tiny::Builder {
    tiny::run(6)
        .run_dir(dir)
        .checkpoint(every(3) | last())
        .keep_checkpoints(9)
        .resume("auto")
}

fn fit(run: tiny::Builder) -> bdh::TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

/// A finished run in a folder of its own, beside which there may be other files.
fn finished() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    fit(run(&dir));
    (scratch, dir)
}

fn why(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn a_checkpoint_with_odd_files_is_refused_at_once() {
    let _alone = tiny::alone();
    for name in [
        "manifest.json",
        "state.json",
        "model.safetensors",
        "optimizer.safetensors",
    ] {
        for with in ODD {
            let (_scratch, dir) = finished();
            let newest = dir.join("checkpoints/step_00000006");
            spoil(&newest.join(name), with);
            let began = Instant::now();
            let error = why(&Checkpoint::read(&newest).expect_err("an odd file"));
            assert!(error.contains(name), "{with}: {error}");
            let fitted = fit(run(&dir));
            assert_eq!(
                fitted.warnings[0].source, "step_00000006",
                "{with} as {name}"
            );
            assert!(began.elapsed() < Duration::from_secs(5), "{with} as {name}");
        }
    }
}

#[test]
fn a_linked_checkpoint_is_refused_unless_the_folder_is_linked() {
    let _alone = tiny::alone();
    let (scratch, dir) = finished();
    let (folder, elsewhere) = (dir.join("checkpoints"), scratch.path().join("elsewhere"));
    fs::rename(folder.join("step_00000006"), &elsewhere).expect("moved");
    symlink(&elsewhere, folder.join("step_00000006")).expect("a link");
    symlink("step_00000003", folder.join("best")).expect("a link");
    let names: Vec<_> = bdh::checkpoint::list(&folder);
    assert_eq!(names, [folder.join("step_00000003")]);
    let before = fs::read(elsewhere.join("manifest.json")).expect("a manifest");
    let fitted = fit(run(&dir));
    assert_eq!(fitted.warnings.len(), 1, "{:?}", fitted.warnings);
    assert!(
        fitted.warnings[0].cause.contains("it is a link"),
        "{:?}",
        fitted.warnings
    );
    assert_eq!(
        fs::read(elsewhere.join("manifest.json")).expect("a manifest"),
        before
    );

    // If all checkpoints are links, the run does not start again.
    let (scratch, dir) = finished();
    let all = scratch.path().join("all");
    fs::rename(dir.join("checkpoints"), &all).expect("moved");
    fs::create_dir(dir.join("checkpoints")).expect("a folder");
    for name in ["step_00000003", "step_00000006"] {
        symlink(all.join(name), dir.join("checkpoints").join(name)).expect("a link");
    }
    assert!(matches!(
        run(&dir).build().err(),
        Some(ConfigError::Resume(_))
    ));

    fs::remove_dir_all(dir.join("checkpoints")).expect("a folder");
    symlink(&all, dir.join("checkpoints")).expect("a link");
    assert_eq!(fit(run(&dir)).warnings, []);
}

#[test]
fn a_run_with_an_unreadable_run_json_starts_again() {
    let _alone = tiny::alone();
    let (_scratch, dir) = finished();
    fs::remove_dir_all(dir.join("checkpoints")).expect("a folder");
    spoil(&dir.join("run.json"), "zero");
    run(&dir)
        .build()
        .expect("a run to begin again, with the odd file moved aside");
    assert!(matches!(
        tiny::run(6).run_dir(&dir).build().err(),
        Some(ConfigError::RunExists { .. })
    ));
}

/// A sink that notes the record which a resumed run passes to its sinks.
struct Notes(Arc<Mutex<Option<Record>>>);

impl Sink for Notes {
    fn name(&self) -> String {
        "notes".to_owned()
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        (*self.0.lock().expect("a lock")).clone_from(&run.resumed_record);
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_checkpoints_record_gives_no_file_behind_a_link() {
    let _alone = tiny::alone();
    let (scratch, dir) = finished();
    let secret = scratch.path().join("secret");
    fs::create_dir(&secret).expect("a folder");
    fs::write(secret.join("key"), "secret").expect("a file");
    symlink(secret.join("key"), dir.join("file_link")).expect("a link");
    symlink(&secret, dir.join("folder_link")).expect("a link");
    fs::create_dir(dir.join("folder")).expect("a folder");
    symlink(secret.join("key"), dir.join("folder/inside")).expect("a link");
    fs::write(dir.join("plain"), "ours").expect("a file");

    let newest = dir.join("checkpoints/step_00000006");
    let ours = ["plain", "checkpoints/step_00000003"];
    let theirs = [
        "file_link",
        "folder_link/key",
        "folder_link",
        "folder",
        "../secret/key",
        "missing",
    ];
    let mut checkpoint = Checkpoint::read(&newest).expect("a whole one");
    let clock = checkpoint.state.clock;
    let values = ours.iter().chain(&theirs).map(|name| {
        let kind = "model".to_owned();
        (
            (*name).to_owned(),
            Value::File {
                path: dir.join(name),
                kind,
                aliases: Vec::new(),
            },
        )
    });
    checkpoint.state.record = Record {
        clock,
        values: values.collect(),
    }
    .to_json();
    checkpoint.write(&newest, false).expect("written");

    let noted = Arc::new(Mutex::new(None));
    let longer = run(&dir).steps(7).allow_changed(["trainer.steps"]); // a complete run would open no sink
    fit(longer.sink(Notes(Arc::clone(&noted))));
    let record = noted.lock().expect("a lock").take().expect("a record");
    let names: Vec<_> = record
        .values
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ours);
}

#[test]
fn a_manifest_with_a_valid_checksum_cannot_list_a_fifo() {
    let _alone = tiny::alone();
    let (_scratch, dir) = finished();
    let newest = dir.join("checkpoints/step_00000006");
    let text = fs::read(newest.join("manifest.json")).expect("a manifest");
    let mut crafted: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    crafted["files"]["fifo"] = serde_json::json!({ "bytes": 0, "sha256": sha256(b"") });
    seal(&mut crafted);
    fs::write(newest.join("manifest.json"), crafted.to_string()).expect("a file");
    fs::write(newest.join("fifo"), "").expect("a file");
    Checkpoint::read(&newest).expect("a checkpoint that matches its manifest");
    spoil(&newest.join("fifo"), "fifo");
    let error = Checkpoint::read(&newest).expect_err("a FIFO").to_string();
    assert!(error.ends_with("is not a regular file"), "{error}");
}
