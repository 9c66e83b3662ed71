//! Files that others may have changed are read, or refused with a reason: no panic, no memory for data that they only
//! claim to contain, no access outside of the run directory.
#![cfg(all(unix, feature = "tensorboard", feature = "wandb"))]

#[path = "support/parsers.rs"]
mod parsers;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::checkpoint::Checkpoint;
use bdh::{BoxError, Jsonl, Record, RunInfo, Sink};
use bdh_callbacks as _; // its callbacks, by their names
use bdh_callbacks::TensorBoard;
use parsers::{a_file_of_it, resumed_run};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::fs;
use std::path::Path;

// ── Any bytes ─────────────────────────────────────────────────────────────────────────────────────────

/// Values that are difficult for parsers of numbers and lists.
const ODD: [&[u8]; 14] = [
    b"18446744073709551615",
    b"9223372036854775807",
    b"-1",
    b"1e400",
    b"0.1e-400",
    b"null",
    b"[]",
    b"{}",
    b"\"../../x\"",
    b"\"NaN\"",
    b"[[[[[[[[",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\0\0\0\0",
];

#[derive(Debug, Clone)]
enum Edit {
    Flip(u8),
    Cut,
    Put(usize),
    /// Replaces the number or the byte at a place by an odd value.
    Replace(usize),
}

fn edit() -> impl Strategy<Value = (prop::sample::Index, Edit)> {
    let edit = prop_oneof![
        4 => (0..8_u8).prop_map(Edit::Flip),
        1 => Just(Edit::Cut),
        2 => (0..ODD.len()).prop_map(Edit::Put),
        4 => (0..ODD.len()).prop_map(Edit::Replace),
    ];
    (any::<prop::sample::Index>(), edit)
}

/// Generates a valid file with damage, or arbitrary bytes.
fn touched(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let damaged = prop::collection::vec(edit(), 1..6).prop_map(move |edits| {
        let mut bytes = valid.clone();
        for (place, edit) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match edit {
                Edit::Flip(bit) => bytes[at] ^= 1 << bit,
                Edit::Cut => bytes.truncate(at),
                Edit::Put(odd) => drop(bytes.splice(at..at, ODD[odd].iter().copied())),
                Edit::Replace(odd) => {
                    let is_number = |byte: &&u8| byte.is_ascii_digit() || b".-".contains(byte);
                    let number = bytes[at..].iter().take_while(is_number).count();
                    drop(bytes.splice(at..at + number.max(1), ODD[odd].iter().copied()));
                }
            }
        }
        bytes
    });
    prop_oneof![9 => damaged, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Generates words of cadences in any order, with numbers.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "every",
        "at",
        "between",
        "and",
        "log-spaced",
        "per",
        "decade",
        "start",
        "last",
        "never",
        "steps",
        "tokens",
        "%",
        "h",
        "ms",
        "|",
        "&",
        "(",
        ")",
        ",",
        "0",
        "1",
        "7.5",
        "1_000",
        "18446744073709551615",
        "99999999999999999999999",
        "0.000000001",
        "1.2.3",
        "é",
        "every 10% | last",
    ];
    let some = prop::collection::vec(prop::sample::select(words.to_vec()), 0..12);
    some.prop_map(|words| words.join(" ").into_bytes())
}

const TOML: &str = "[[callback]]\nuse = \"norms\"\non = \"every 10 steps | last\"\nname = \"n\"\n\n\
                    [[callback]]\nuse = \"spikes\"\non_error = \"abort\"\n";
const YAML: &str = "callback:\n  - use: norms\n    on: every 10 steps | last\n    name: &n n\n  \
                    - use: spikes\n    on_error: abort\n    name: *n\n";

/// Sweep file with short lines, so that damage hits each of them.
const SWEEP: &str = "method: grid\nmetric: {name: l}\nparameters:\n a: {values: [1, 2]}\n b: {min: 1, max: 9}\n \
    c: {min: 0.5, max: 9, q: 2, distribution: q_uniform}\n d: {parameters: {e: {value: null}}}\n\
    early_terminate: {type: hyperband, min_iter: 3, eta: 2}\n";

const METRICS: &str = "{\"val_bpb\":8.0,\"lr\":1,\"step\":0,\"tokens\":0,\"elapsed\":0}\n{\"val_bpb\":\"NaN\",\"step\":2}\n\
                       {\"val_bpb\":2.5,\"train/loss\":1.5,\"x\":{\"edges\":[1]},\"step\":4,\"elapsed\":3}\n";
const RUN: &str =
    r#"{"steps":4,"status":"completed","outcome":"completed","config":{"user":{"args":{"lr":1}}}}"#;
const TRIAL: &str = r#"{"number":1,"values":{"lr":0.1},"point":[0.5],"status":"failed","value":null,"why":"x",
    "host":"h","began_at":1.5,"seconds":2.5}"#;

/// Defines a property test for each parser: name, parser, and generated files.
macro_rules! never_panics {
    ($($name:ident: $parser:ident($strategy:expr);)+) => {$(
        proptest! {
            #[test]
            fn $name(bytes in $strategy) {
                parsers::$parser(&bytes);
            }
        }
    )+};
}

never_panics! {
    any_words_are_a_cadence_or_an_error: cadence(words());
    any_text_is_a_cadence_or_an_error: cadence(touched(b"at 1_0,20 steps | every 7.5% & (last | never)".to_vec()));
    any_toml_is_callbacks_or_an_error: callbacks_toml(touched(TOML.into()));
    any_yaml_is_callbacks_or_an_error: callbacks_yaml(touched(YAML.into()));
    any_text_is_a_sweep_or_an_error: sweep(touched(SWEEP.into()));
    any_records_are_compared_and_forecast: run_records(touched(METRICS.into()));
    any_run_file_is_compared_or_skipped: run_file(touched(RUN.into()));
    any_trial_is_read_or_refused: trial(touched(TRIAL.into()));
    any_line_is_a_record_or_none: record(touched(parsers::a_metrics_file()));
    any_manifest_is_read_or_refused: manifest(touched(a_file_of_it("manifest.json")));
    any_state_is_read_or_refused: state(touched(a_file_of_it("state.json")));
    any_tensors_are_read_or_refused: tensors(touched(a_file_of_it("model.safetensors")));
    any_metrics_file_is_continued_or_refused: jsonl(touched(parsers::a_metrics_file()));
    any_event_file_is_continued_or_refused: events(touched(parsers::an_event_file()));
    any_message_in_an_event_file_is_read_or_skipped: event(touched(b"\x09\0\0\0\0\0\0\0\0\x10\x06\x2a\x05\x0a\x03\x0a\x01a".to_vec()));
    any_wandb_log_is_continued_or_refused: wandb_log(touched(parsers::a_wandb_log()));
    any_message_in_a_wandb_log_is_read_or_skipped: wandb_entry(touched(
        b"\x08\x02\x12\x18\x0a\x0a\x0a\x04step\x82\x01\x013\x12\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec()
    ));
    any_wandb_pointer_is_followed_or_refused: wandb_pointer(touched(br#"{"run_id":"x","folder":"wandb/offline-run-1-x"}"#.to_vec()));
    any_note_of_an_upload_is_read_or_refused: wandb_note(touched(
        br#"{"server":"s","offset":9999999,"before":{"rows":1,"lines":1},"shift":0}"#.to_vec()
    ));
    any_note_of_a_writer_is_read_or_refused: tensorboard_note(touched(br#"{"writer":"bdh 1"}"#.to_vec()));
}

// ── Claims of gigabytes ──────────────────────────────────────────────────────────────────────────────

/// Returns the peak virtual memory of the process in KiB.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a file of every Linux process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmPeak:"))
        .expect("a peak");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// Returns a safetensors file with this header.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

#[test]
#[cfg(target_os = "linux")]
fn claimed_sizes_take_no_memory() {
    let before = peak();
    for length in [u64::MAX, 1 << 62, 1 << 40, 100_000_000, 99_999_999] {
        parsers::tensors(&length.to_le_bytes());
        let claim =
            format!(r#"{{"w":{{"dtype":"U8","shape":[{length}],"data_offsets":[0,{length}]}}}}"#);
        parsers::tensors(&safetensors(&claim, &[]));
        let frame = length.to_le_bytes();
        parsers::events(&[&frame[..], &parsers::masked_crc(&frame), b"short"].concat());
    }
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for text in [
        deep("[", "]"),
        deep("{\"a\":", "}"),
        deep("(", ")"),
        deep("callback: [", "]"),
    ] {
        let all = [
            parsers::cadence,
            parsers::callbacks_toml,
            parsers::sweep,
            parsers::record,
            parsers::manifest,
            parsers::state,
            parsers::tensors,
            parsers::jsonl,
            parsers::run_file,
            parsers::run_records,
            parsers::trial,
            parsers::wandb_pointer,
            parsers::wandb_note,
        ];
        for parse in all {
            parse(text.as_bytes());
        }
        parsers::tensors(&safetensors(&text, &[]));
    }
    // Each line has ten times as many elements as the line before it ("billion laughs").
    let laughs = (1..12).map(|n| {
        format!(
            "a{n}: &a{n} [{}]\n",
            vec![format!("*a{}", n - 1); 10].join(",")
        )
    });
    let laughs = format!(
        "a0: &a0 [lol]\n{}callback: *a11\n",
        laughs.collect::<String>()
    );
    parsers::callbacks_yaml(laughs.as_bytes());
    parsers::sweep(laughs.as_bytes());
    let grown = (peak() - before) >> 10;
    assert!(grown < 512, "{grown} MiB for files of some KB");
}

#[test]
fn contradictory_safetensors_headers_are_refused() {
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let headers = [
        format!(r#"{{"v":{one},"w":{one}}}"#), // both in one place
        entry("F32", "[1]", "[4,8]"),          // a hole
        entry("F32", "[1]", "[4,0]"),          // backwards
        entry("F32", "[-1]", "[0,4]"),         // negative
        entry("F32", "[2]", "[0,4]"),          // more than there is
        entry("F32", "[4611686018427387904,4]", "[0,0]"), // overflows to nothing
        entry("F32", "[1.5]", "[0,4]"),
        entry("F32", "[1]", "[0,18446744073709551616]"),
        entry("X32", "[1]", "[0,4]"),
        entry("BOOL", "[4]", "[0,4]"), // of bytes that are no booleans
        entry("F4", "[8]", "[0,4]"),
        format!(r#"{{"__metadata__":{{"format":7}},"w":{one}}}"#),
        "[]".to_owned(),
    ];
    for header in headers {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("step_5");
        parsers::a_checkpoint()
            .write(&path, false)
            .expect("written");
        parsers::replace(&path, "model.safetensors", &safetensors(&header, &[9; 4]));
        let error = Checkpoint::read(&path).expect_err(&header).to_string();
        assert!(
            error.contains("model.safetensors` is damaged"),
            "{header}: {error}"
        );
    }
}

// ── Resumes ──────────────────────────────────────────────────────────────────────────────────────────

fn run(dir: &Path) -> tiny::Builder {
    tiny::run(4).run_dir(dir).checkpoint(every(2))
}

/// Trains a run of four steps, and keeps only its checkpoint of step 2.
fn a_run() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    run(dir.path())
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    fs::remove_dir_all(dir.path().join("checkpoints/step_00000004")).expect("a checkpoint");
    dir
}

fn change_state(checkpoint: &Path, change: impl Fn(&mut Json)) {
    let state = fs::read(checkpoint.join("state.json")).expect("a state");
    let mut state = serde_json::from_slice(&state).expect("JSON");
    change(&mut state);
    parsers::replace(checkpoint, "state.json", state.to_string().as_bytes());
}

#[test]
fn states_with_absurd_numbers_are_refused_or_resumed() {
    let _alone = tiny::alone();
    let changes = [
        ("/clock/step", json!(u64::MAX)),
        ("/clock/tokens", json!(u64::MAX)),
        ("/clock/samples", json!(u64::MAX)),
        ("/clock/micro_batches", json!(u64::MAX)),
        ("/clock/elapsed", json!(1.8e19)),
        ("/clock/elapsed", json!(-1)),
        ("/data", json!({ "row": -1 })),
        ("/data", json!(null)),
        ("/optimizer/*", json!("soon")),
        ("/optimizer/*", json!(-1)),
        ("/optimizer", json!({})),
        (
            "/saved_as",
            json!({ "../../x": true, "/tmp/x": true, "": false, ".": false }),
        ),
        ("/callbacks", json!({ "unknown": 1 })),
        ("/config", json!(null)),
        ("/record", json!([1, 2])),
    ];
    for (place, value) in changes {
        let dir = a_run();
        let checkpoint = dir.path().join("checkpoints/step_00000002");
        change_state(&checkpoint, |state| {
            if place == "/optimizer/*" {
                let counters = state["optimizer"].as_object_mut().expect("AdamW counts");
                assert!(!counters.is_empty());
                return counters
                    .values_mut()
                    .for_each(|counter| *counter = value.clone());
            }
            *state
                .pointer_mut(place)
                .unwrap_or_else(|| panic!("no {place}")) = value.clone();
        });
        if let Ok(trainer) = run(dir.path()).resume("auto").build() {
            trainer
                .fit()
                .unwrap_or_else(|error| panic!("{place} {value}: {error}"));
        }
    }
}

#[test]
fn missing_or_misshapen_moments_are_refused_by_name() {
    use bdh::burn::tensor::TensorData;
    let _alone = tiny::alone();
    let changes: [fn(&mut bdh::stats::Tensors, String); 3] = [
        |tensors, name| drop(tensors.remove(&name)),
        |tensors, name| drop(tensors.insert(name, TensorData::from([1.0_f32, 2.0]))),
        |tensors, name| drop(tensors.insert(name, TensorData::from([[[1_i64]]]))),
    ];
    for change in changes {
        let dir = a_run();
        let path = dir.path().join("checkpoints/step_00000002");
        let mut checkpoint = Checkpoint::read(&path).expect("whole");
        let name = checkpoint
            .optimizer
            .keys()
            .find(|name| name.starts_with("head.weight"));
        let name = name.expect("a moment").clone();
        change(&mut checkpoint.optimizer, name.clone());
        checkpoint.write(&path, false).expect("written");
        let refused = run(dir.path())
            .resume("auto")
            .build()
            .expect_err("another optimizer's");
        let cause = std::error::Error::source(&refused)
            .expect("a cause")
            .to_string();
        assert!(cause.contains("head.weight"), "{cause}");
    }
}

/// Sink that keeps the record with which a run is resumed.
struct Resumed(tiny::Seen<Option<Record>>);

impl Sink for Resumed {
    fn name(&self) -> String {
        "resumed".to_owned()
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        self.0.push(run.resumed_record.clone());
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn checkpoint_cannot_point_outside_of_the_run_directory() {
    let _alone = tiny::alone();
    let dir = a_run();
    let at = |name: &str| json!({ "file": dir.path().join(name), "kind": "model", "aliases": [] });
    change_state(&dir.path().join("checkpoints/step_00000002"), |state| {
        state["record"] = json!({
            "own": at("checkpoints/step_00000002"), "secret": { "file": "/etc/passwd", "kind": "model" },
            "above": at("../secret"), "train/loss": 0.5, "step": 2,
        });
    });
    let seen = tiny::Seen::new();
    let trainer = run(dir.path())
        .resume("auto")
        .sink(Resumed(seen.clone()))
        .build()
        .expect("a run");
    trainer.fit().expect("a run that completes");
    let record = seen.all().remove(0).expect("a record");
    let keys: Vec<_> = record.values.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["own", "train/loss"]);
}

#[test]
fn links_out_of_a_run_are_neither_followed_nor_cut() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| scratch.path().join(name);
    for name in ["run", "elsewhere/wandb/offline-run-1-x/files"] {
        fs::create_dir_all(at(name)).expect("a folder");
    }
    let log = at("elsewhere/wandb/offline-run-1-x/run-x.wandb");
    let outside = [
        (at("secret.jsonl"), parsers::a_metrics_file()),
        (at("events"), parsers::an_event_file()),
        (log, parsers::a_wandb_log()),
    ];
    for (path, bytes) in &outside {
        fs::write(path, bytes).expect("a file");
    }
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(at(to), at("run").join(name)).expect("a link");
    };
    link("secret.jsonl", Jsonl::FILE);
    link("events", "events.out.tfevents.0000000001.bdh.1.0");
    let run = resumed_run(&at("run"));

    let error = Jsonl::default().open(&run).expect_err("a link").to_string();
    assert!(error.contains("metrics.jsonl` is a link"), "{error}");
    TensorBoard::default()
        .open(&run)
        .expect("a file of its own");
    let absolute = at("elsewhere/wandb/offline-run-1-x").display().to_string();
    for (run_id, folder) in [
        ("x", "../elsewhere/wandb/offline-run-1-x"),
        ("x", "wandb/../../elsewhere/wandb/offline-run-1-x"),
        ("x", &absolute),
        ("/../../../elsewhere/wandb/offline-run-1-x/run-x", "wandb"),
    ] {
        parsers::wandb_pointer(
            json!({ "run_id": run_id, "folder": folder })
                .to_string()
                .as_bytes(),
        );
        let pointer = json!({ "run_id": run_id, "folder": folder }).to_string();
        fs::write(at("run/wandb.json"), pointer).expect("a pointer");
        let mut sink = bdh_callbacks::Wandb::from_env()
            .mode(bdh_callbacks::wandb::Mode::Offline)
            .project("p");
        sink.open(&run).expect("a log of its own");
        drop(sink);
        fs::remove_dir_all(at("run/wandb")).expect("a log of its own");
    }
    for (path, bytes) in &outside {
        assert!(
            fs::read(path).expect("a file") == *bytes,
            "{} has changed",
            path.display()
        );
    }
}
