//! Contents of `.wandb` logs, read by W&B's own client and equal to the records to the bit.

#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
#[path = "support/sink.rs"]
mod sink;

use bdh::{Outcome, Record, RunInfo, Sink, Value};
use bdh_wandb::{Mode, Wandb, repair};
use judges::Judge;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn wandb() -> Wandb {
    Wandb::from_env()
        .mode(Mode::Offline)
        .project("p")
        .tags(["a tag", "b"])
}

/// Creates a run directory with a log of records of every kind.
fn logged() -> (TempDir, Vec<Record>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut records: Vec<_> = (0..40).map(sink::scalars).collect();
    records.push(sink::everything(250, &sink::checkpoint(dir.path())));
    sink::log(&mut wandb(), &sink::run(dir.path()), &records);
    (dir, records)
}

/// Returns the log of a run directory.
fn log_of(dir: &Path) -> PathBuf {
    let pointer: Json =
        serde_json::from_slice(&fs::read(dir.join("wandb.json")).expect("wandb.json"))
            .expect("JSON");
    let text = |key: &str| pointer[key].as_str().expect("a text").to_owned();
    dir.join(text("folder"))
        .join(format!("run-{}.wandb", text("run_id")))
}

/// Checks that a row of history equals a record to the bit.
fn assert_row(row: &Json, record: &Record, index: usize) {
    let number = |key: &str| -> f64 {
        let text = row[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} of {record:?} in {row}"));
        text.parse().expect("a number")
    };
    for (key, scalar) in record.scalars() {
        let same =
            number(key).to_bits() == scalar.to_bits() || (scalar.is_nan() && row[key] == "NaN");
        assert!(
            same,
            "{key} of step {}: {} for {scalar}",
            record.clock.step, row[key]
        );
    }
    assert_eq!(row["step"], record.clock.step.to_string());
    assert_eq!(row["tokens"], record.clock.tokens.to_string());
    assert_eq!(row["_step"], index.to_string());
    assert_eq!(
        number("_runtime").to_bits(),
        record.clock.elapsed.as_secs_f64().to_bits()
    );
}

#[test]
fn wandb_0_19_reads_every_row_to_the_bit() {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let (dir, records) = logged();
    let found = judge.json("wandb_datastore.py", [log_of(dir.path())]);
    let rows = found["history"].as_array().expect("rows");
    assert_eq!(rows.len(), records.len());
    for (index, (row, record)) in rows.iter().zip(&records).enumerate() {
        assert_row(row, record, index);
    }
    assert_eq!(found["order"][0], "header");
    assert_eq!(found["order"][1], "run");
    assert_eq!(found["exit"], 0);
    assert_eq!(found["run"]["tags"], serde_json::json!(["a tag", "b"]));
    assert_eq!(
        (&found["run"]["project"], &found["run"]["host"]),
        (&"p".into(), &"".into())
    );
    assert_eq!(found["config"]["model"], r#"{"width":64,"bias":false}"#);
    assert_eq!(found["config"]["name"], "\"tiny ü\"");
    assert_eq!(
        found["metrics"]["train/loss"], "step",
        "keys are drawn over the trainer's step"
    );
    assert!(found["metrics"].get("step").is_none());

    let last = &rows[records.len() - 1];
    assert_eq!(
        last["weights/wte"],
        r#"{"_type":"histogram","values":[3,0,9],"bins":[-1.0,0.0,0.5,2.0]}"#
    );
    assert_eq!(last["weights/wte/nonfinite"], "2");
    for (key, kind) in [
        ("sample/0", "table-file"),
        ("samples", "table-file"),
        ("plot", "image-file"),
        ("page", "html-file"),
    ] {
        let media: Json = serde_json::from_str(last[key].as_str().expect(key)).expect("JSON");
        assert_eq!(media["_type"], kind);
        let path = media["path"].as_str().expect("a path");
        assert!(
            found["files"]
                .as_array()
                .expect("files")
                .iter()
                .any(|file| file == path),
            "{path}"
        );
        let file = log_of(dir.path()).with_file_name("files").join(path);
        assert_eq!(
            fs::metadata(file).expect("the file").len(),
            media["size"].as_u64().expect("a size")
        );
    }
    // The summary has the last value of every key.
    for key in ["train/loss", "val/bpb", "step", "plot"] {
        let last = rows.iter().rev().find_map(|row| row.get(key));
        assert_eq!(found["summary"].get(key), last, "{key}");
    }
    let artifact = &found["artifacts"][0];
    assert_eq!(
        (&artifact["type"], &artifact["aliases"]),
        (&"model".into(), &serde_json::json!(["latest", "early-250"]))
    );
    assert_eq!(
        artifact["files"],
        serde_json::json!([["model.safetensors", 3_000], ["state.json", 2]])
    );
}

/// Returns the values of a row that W&B's browser printed; `None` for another line.
///
/// The browser prints NaN and infinities like Python.
fn inspected_row(line: &str) -> Option<Json> {
    let names = ["NaN", "Infinity", "-Infinity"];
    let quoted = names.iter().fold(line.to_owned(), |line, name| {
        line.replace(&format!(":{name}"), &format!(":\"{name}\""))
    });
    let entry: Json =
        serde_json::from_str(&quoted).unwrap_or_else(|error| panic!("{error}: {line}"));
    entry["history"].get("item").cloned()
}

/// Checks that a row that W&B's browser printed equals a record to the bit.
fn assert_inspected(row: &Json, record: &Record, index: usize) {
    for (key, scalar) in record.scalars() {
        let found = &row[key];
        let name = if scalar.is_nan() { "NaN" } else { "Infinity" };
        let same = match found.as_f64() {
            Some(number) => number.to_bits() == scalar.to_bits(),
            None => {
                !scalar.is_finite()
                    && found.as_str().is_some_and(|text| {
                        text.trim_start_matches('-') == name
                            && text.starts_with('-') == (scalar < 0.0)
                    })
            }
        };
        assert!(
            same,
            "{key} of step {}: {found} for {scalar}",
            record.clock.step
        );
    }
    let clock = &record.clock;
    assert_eq!(
        (&row["step"], &row["tokens"]),
        (&clock.step.into(), &clock.tokens.into())
    );
    assert_eq!(row["_step"], index);
    let runtime = row["_runtime"].as_f64().map(f64::to_bits);
    assert_eq!(runtime, Some(clock.elapsed.as_secs_f64().to_bits()));
    assert!(row["_timestamp"].as_f64().is_some_and(|time| time > 1.7e9));
}

#[test]
fn browser_of_wandb_0_31_reads_every_row_to_the_bit() {
    let Some(judge) = Judge::modern() else { return };
    let (dir, records) = logged();
    let output = Command::new(judge.bin("wandb"))
        .args(["leet", "inspect", "--json"])
        .arg(log_of(dir.path()))
        .stdin(Stdio::null())
        .output()
        .expect("wandb starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<_> = text.lines().filter_map(inspected_row).collect();
    assert_eq!(
        rows.len(),
        records.len(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (index, (row, record)) in rows.iter().zip(&records).enumerate() {
        assert_inspected(row, record, index);
    }
    for kind in [
        "header",
        "run",
        "metric",
        "summary",
        "files",
        "artifact",
        "output_raw",
        "exit",
    ] {
        assert!(
            text.contains(&format!(r#""type":"{kind}""#)),
            "{kind} in {text}"
        );
    }
}

#[test]
fn repair_of_a_cut_log_keeps_every_record_before_the_cut() {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let records: Vec<_> = (0..200).map(sink::scalars).collect();
    sink::log(&mut wandb(), &sink::run(dir.path()), &records);
    let log = log_of(dir.path());
    let bytes = fs::read(&log).expect("the log");
    let ends = judge.json("wandb_ends.py", [&log]);
    let ends: Vec<_> = ends
        .as_array()
        .expect("ends")
        .iter()
        .filter_map(Json::as_u64)
        .collect();
    assert_eq!(
        ends.last(),
        Some(&(bytes.len() as u64)),
        "the log ends with a whole record"
    );
    let scratch = dir.path().join("cut.wandb");
    let last_block = bytes.len() - bytes.len() % 32_768;
    assert!(last_block > 32_768, "a log of several blocks");
    for cut in (last_block..bytes.len()).step_by(499) {
        fs::write(&scratch, &bytes[..cut]).expect("a cut log");
        let kept = repair(&scratch).expect("a log").kept;
        let whole = ends.iter().filter(|end| **end <= cut as u64).count();
        assert_eq!(kept, whole as u64, "cut at {cut} of {}", bytes.len());
    }
}

#[test]
fn repaired_log_is_read_to_its_end() {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let (dir, records) = logged();
    let log = log_of(dir.path());
    let mut bytes = fs::read(&log).expect("the log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, &bytes).expect("a damaged log");
    let repaired = repair(&log).expect("a log");
    assert_eq!(repaired.damaged, 1);
    assert!(log.with_extension("wandb.damaged").is_file());
    assert_eq!(
        repair(&log).expect("a log").damaged,
        0,
        "nothing is left to repair"
    );
    // The entries' numbers have a gap now, which `wandb_datastore.py` would not accept, so only the ends are compared.
    let ends = judge.json("wandb_ends.py", [&log]);
    assert_eq!(ends.as_array().map(Vec::len), Some(repaired.kept as usize));
    assert!(repaired.kept as usize > records.len());
}

#[test]
fn resumed_run_continues_its_log_with_each_step_once() {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = sink::run(dir.path());
    let mut first = wandb();
    first.open(&run).expect("an open sink");
    for step in 1..=30 {
        first.write(&sink::scalars(step)).expect("a written record");
    }
    drop(first); // killed: no summary, no exit

    let resumed = RunInfo {
        resumed_at: Some(20),
        resumed_record: Some(sink::scalars(20)),
        ..run.clone()
    };
    sink::log(
        &mut wandb(),
        &resumed,
        &(21..=40).map(sink::scalars).collect::<Vec<_>>(),
    );
    // A second time, from a checkpoint whose own record is missing.
    let resumed = RunInfo {
        resumed_at: Some(41),
        resumed_record: Some(sink::scalars(41)),
        ..run
    };
    sink::log(
        &mut wandb(),
        &resumed,
        &(42..=45).map(sink::scalars).collect::<Vec<_>>(),
    );

    let found = judge.json("wandb_datastore.py", [log_of(dir.path())]);
    let rows = found["history"].as_array().expect("rows");
    assert_eq!(rows.len(), 45);
    for (index, row) in rows.iter().enumerate() {
        assert_row(row, &sink::scalars(index as u64 + 1), index);
    }
    let exits = found["order"]
        .as_array()
        .expect("kinds")
        .iter()
        .filter(|kind| *kind == "exit");
    assert_eq!((exits.count(), &found["exit"]), (1, &0.into()));
    assert_eq!(found["summary"]["step"], "45");
    let folders = fs::read_dir(dir.path().join("wandb")).expect("its folder");
    assert_eq!(folders.count(), 2, "one run, and the link to it");
}

#[test]
fn failed_run_has_its_outcome_and_a_disabled_one_no_files() {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut failing = wandb();
    failing.open(&sink::run(dir.path())).expect("an open sink");
    failing
        .close(&Outcome::Failed("the loss is NaN".to_owned()))
        .expect("a closed sink");
    let found = judge.json("wandb_datastore.py", [log_of(dir.path())]);
    assert_eq!(found["exit"], 1);
    assert_eq!(
        found["output"],
        serde_json::json!(["run failed: the loss is NaN\n"])
    );

    let nothing = tempfile::tempdir().expect("a temporary directory");
    let mut disabled = wandb().mode(Mode::Disabled);
    sink::log(
        &mut disabled,
        &sink::run(nothing.path()),
        &[sink::scalars(1)],
    );
    assert_eq!(
        fs::read_dir(nothing.path())
            .expect("the run directory")
            .count(),
        0
    );
}

#[test]
fn files_with_odd_paths_are_logged_and_a_missing_one_is_skipped() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let odd = dir.path().join("a b/ü/it's");
    let deep = (0..6).fold(dir.path().to_owned(), |dir, _| dir.join("x".repeat(60)));
    for folder in [&odd, &deep] {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("state.json"), "{}").expect("a file");
    }
    let here = std::env::current_dir().expect("a current directory");
    let relative = Path::new("Cargo.toml");
    assert!(
        here.join(relative).is_file(),
        "tests run in the crate's folder"
    );
    let missing = dir.path().join("missing").join("y".repeat(300));
    let file = |path: &Path| {
        let value = Value::File {
            path: path.to_owned(),
            kind: "a kind/of".to_owned(),
            aliases: Vec::new(),
        };
        sink::record(1, vec![("file", value)])
    };
    let records: Vec<_> = [&*odd, &*deep, relative, &*missing].map(file).into();
    sink::log(&mut wandb(), &sink::run(dir.path()), &records);

    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let found = judge.json("wandb_datastore.py", [log_of(dir.path())]);
    let artifacts = found["artifacts"].as_array().expect("artifacts");
    assert_eq!(artifacts.len(), 3, "all except the missing one");
    assert_eq!(artifacts[2]["files"][0][0], "Cargo.toml");
    assert!(artifacts.iter().all(|artifact| {
        artifact["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("a_kind_of-"))
    }));
}
