//! Lines compared with those of nanochat, from its own log where that is present.

use super::train::{EPOCH, LRM, MIN_BPB, PQ_IDX, RG_IDX, STEP_TIME};
use super::*;
use crate::args::{self, Args};
use bdh::clock::RunLength;
use bdh::sink::Feedback;
use bdh::{Clock, Value};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Flags of the run in `fix_train.log`.
const FLAGS: &str = "--depth=2 --aspect-ratio=32 --head-dim=32 --max-seq-len=64 --device-batch-size=2 \
                     --total-batch-size=256 --num-iterations=40 --device-type=cpu --window-pattern=SSSL \
                     --warmup-steps=5";

/// Lines before the run in that log.
const HEADER: &str = r#"Vocab size: 512
Model config:
{
  "sequence_len": 64,
  "vocab_size": 512,
  "n_layer": 2,
  "n_head": 2,
  "n_kv_head": 2,
  "n_embd": 64,
  "window_pattern": "SSSL"
}
Parameter counts:
wte                     : 32,768
value_embeds            : 32,768
lm_head                 : 32,768
transformer_matrices    : 98,328
scalars                 : 30
total                   : 196,662
Estimated FLOPs per token: 8.850240e+05
Scaling LRs by 0.0221 for batch size 256 (reference: 524,288)
Scaling weight decay from 0.280000 to 1.011460 for depth 2
Scaling the LR for the AdamW parameters ∝1/√(64/768) = 3.464102
Using user-provided number of iterations: 40
Total number of training tokens: 10,240
Tokens : Scaling params ratio: 0.08
Total training FLOPs estimate: 9.062646e+09
Tokens / micro-batch / rank: 2 x 64 = 128
Tokens / micro-batch: 128
Total batch size 256 => gradient accumulation steps: 2"#;

/// Log of nanochat with the flags of its run.
struct Original {
    flags: Vec<String>,
    vocab: usize,
    log: String,
}

/// Returns the logs in the fixtures, or none with a message if there are no fixtures.
fn originals() -> Vec<Original> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let root =
        std::env::var_os("BDH_FIXTURES").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let mut found = Vec::new();
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        let is_home = entry
            .file_name()
            .to_string_lossy()
            .starts_with("nanochat_home");
        if is_home && let Some(original) = original(&entry.path()) {
            found.push(original);
        }
    }
    if found.is_empty() {
        let root = root.display();
        eprintln!("skipped: no log of nanochat in {root}; set BDH_FIXTURES to its folder");
    }
    found
}

fn original(home: &std::path::Path) -> Option<Original> {
    let log = fs::read_to_string(home.join("fix_train.log")).ok()?;
    let expected = fs::read(home.join("expected.json")).ok()?;
    let expected: serde_json::Value = serde_json::from_slice(&expected).expect("JSON");
    let flags = expected["flags"].as_array().expect("a list of flags");
    Some(Original {
        flags: flags
            .iter()
            .map(|flag| flag.as_str().expect("a flag").to_owned())
            .collect(),
        vocab: expected["vocab"].as_u64().expect("a number of ids") as usize,
        log,
    })
}

fn parse(flags: &[String]) -> Args {
    let program = ["nanochat_sweep".to_owned()];
    args::try_parse_from(program.iter().chain(flags)).expect("flags of nanochat")
}

fn words(flags: &str) -> Vec<String> {
    flags.split_whitespace().map(str::to_owned).collect()
}

fn derived(flags: &[String], vocab: usize) -> (Recipe, Request) {
    let request = parse(flags).request(vocab);
    (Recipe::derive(&request).expect("a recipe"), request)
}

/// Returns the header without the line that today's nanochat does not print.
fn header_of(flags: &[String], vocab: usize) -> String {
    let (recipe, request) = derived(flags, vocab);
    let header = header(&recipe, &request);
    let lines = header.lines();
    let lines: Vec<_> = lines
        .filter(|line| !line.starts_with("Number of parameters:"))
        .collect();
    lines.join("\n")
}

fn record(step: u64, values: &[(&str, f64)]) -> Record {
    Record {
        clock: Clock::default().after(step),
        values: values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::Scalar(*value)))
            .collect(),
    }
}

fn lines() -> Lines {
    let (recipe, _) = derived(&words(FLAGS), 512);
    Lines::new(&recipe, None)
}

/// Returns the values of a line of an update, by name: `loss`, `lrm`, `dt` and so on.
fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let mut parts = line.split(" | ").filter_map(|part| part.split_once(": "));
    let (_, value) = parts
        .find(|(found, _)| *found == name)
        .unwrap_or_else(|| panic!("no {name} in {line}"));
    value
}

fn number(text: &str) -> f64 {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    digits.replace(',', "").parse().expect("a number")
}

/// Returns the line that this program prints for the rounded values of nanochat's line.
fn again(lines: &mut Lines, line: &str) -> String {
    let place = value(line, "epoch").split(' ').collect::<Vec<_>>();
    let step = number(&line["step ".len()..line.find('/').expect("a length")]);
    let written = record(
        step as u64 + 1,
        &[
            (LOSS, number(value(line, "loss"))),
            (LRM, number(value(line, "lrm"))),
            (STEP_TIME, number(value(line, "dt")) / 1000.0),
            (TRAINING_TIME, 60.0 * number(value(line, "total time"))),
            (EPOCH, number(place[0])),
            (PQ_IDX, number(place[2])),
            (RG_IDX, number(place[4])),
        ],
    );
    lines.of(&written).concat()
}

/// Replaces the values that do not follow from the rounded ones: the rate, and the remaining time.
fn without_rates(line: &str) -> String {
    let mut parts = Vec::new();
    for part in line.split(" | ") {
        let name = part.split_once(": ").map_or(part, |(name, _)| name);
        parts.push(if matches!(name, "tok/sec" | "eta") {
            name
        } else {
            part
        });
    }
    parts.join(" | ")
}

#[test]
fn header_is_nanochats() {
    assert_eq!(header_of(&words(FLAGS), 512), HEADER);
    for original in originals() {
        let from = original.log.find("Vocab size:").expect("a header");
        let last = original.log.find("Total batch size").expect("a header");
        let to = last + original.log[last..].find('\n').expect("a whole line");
        assert_eq!(
            header_of(&original.flags, original.vocab),
            original.log[from..to]
        );
    }
}

#[test]
fn lines_of_a_run_are_nanochats() {
    for original in originals() {
        let mut lines = lines();
        let mut compared = 0;
        for line in original.log.lines() {
            if line.starts_with("step ") {
                assert_eq!(without_rates(&again(&mut lines, line)), without_rates(line));
                compared += 1;
            } else if let Some((place, bpb)) = line.split_once(" | Validation bpb: ") {
                let step = number(&place["Step ".len()..]) as u64;
                let written = record(step, &[("val/bpb", number(bpb)), (MIN_BPB, number(bpb))]);
                assert_eq!(lines.of(&written), [line]);
                compared += 1;
            }
        }
        assert!(compared > 0);
        let end: Vec<_> = original.log.lines().rev().take(3).collect();
        let mut own = lines.at_end();
        own.reverse();
        assert_eq!(own[..2], end[..2]);
        assert!(own[2].starts_with("Peak memory usage: ") && own[2].ends_with("MiB"));
    }
}

#[test]
fn rates_and_remaining_time_follow_from_the_time_of_the_steps() {
    let mut lines = lines();
    let values = |dt: f64, time: f64| {
        [
            (LOSS, 6.211_770_4),
            (LRM, 1.0),
            (STEP_TIME, dt),
            (TRAINING_TIME, time),
            (EPOCH, 2.0),
        ]
    };
    assert_eq!(
        lines.of(&record(1, &values(0.765_68, 0.0))),
        [
            "step 00000/00040 (0.00%) | loss: 6.211770 | lrm: 1.00 | dt: 765.68ms | tok/sec: 334 | bf16_mfu: 0.00 | \
             epoch: 2 | total time: 0.00m"
        ]
    );
    assert_eq!(
        lines.of(&record(13, &values(0.016_464_8, 240.0))),
        [
            "step 00012/00040 (30.00%) | loss: 6.211770 | lrm: 1.00 | dt: 16.46ms | tok/sec: 15,548 | bf16_mfu: 0.00 | \
             epoch: 2 | total time: 4.00m | eta: 56.0m"
        ]
    );
    lines.length = RunLength::Time(Duration::from_mins(10));
    let mut timed = record(13, &values(0.5, 240.0));
    timed.clock.elapsed = Duration::from_mins(4);
    let line = lines.of(&timed).concat();
    assert!(
        line.starts_with("step 00012 (40.00%) | loss") && line.ends_with("| eta: 6.0m"),
        "{line}"
    );
}

#[test]
fn utilization_is_in_percent_of_all_devices() {
    let flags = words(&format!("{FLAGS} --devices 2 --device-batch-size=1"));
    let (recipe, request) = derived(&flags, 512);
    let mut log = NanochatLog::new(&recipe, &request, Some(1e9));
    let written = record(1, &[(LOSS, 6.0), (LRM, 0.2), (STEP_TIME, 0.5)]);
    // 256 tokens in half a second, of 885024 operations each, and a peak of 2e9 a second: 22.66 %.
    assert!(log.lines.of(&written)[0].contains("| bf16_mfu: 22.66 | epoch: 1 |"));
    assert!(
        log.header
            .contains("Tokens / micro-batch / rank: 1 x 64 = 64\nTokens / micro-batch: 128")
    );
}

#[test]
fn diverged_loss_is_written_like_in_python() {
    let written = record(
        2,
        &[
            (LOSS, f64::NAN),
            (LRM, 0.2),
            (STEP_TIME, 0.5),
            ("val/bpb", f64::NAN),
        ],
    );
    let lines = lines().of(&written);
    assert!(lines[0].contains("| loss: nan |"), "{lines:?}");
    assert_eq!(lines[1], "Step 00002 | Validation bpb: nan");
}

#[test]
fn header_names_what_decided_each_value() {
    let of = |flags: &str| {
        let (recipe, request) = derived(&words(flags), 32_768);
        header(&recipe, &request)
    };
    let law = of("--depth=12 --device=cuda");
    for line in [
        "Auto-computed optimal batch size: 524,288 tokens",
        "Calculated number of iterations from target data:param ratio: 2,520",
        "Total batch size 524,288 => gradient accumulation steps: 8",
    ] {
        assert!(law.lines().any(|found| found == line), "{line} in\n{law}");
    }
    assert!(!law.contains("Scaling LRs by") && !law.contains("Scaling weight decay"));
    let flops = of("--depth=12 --device=cuda --target-flops=1e18 --weight-decay-override=0.1");
    assert!(flops.contains("Calculated number of iterations from target FLOPs: "));
    assert!(flops.contains("Weight decay 0.100000, without scaling"));
    let lr = of("--depth=12 --device=cuda --lr-override=0.01");
    assert!(lr.contains("Scaling LRs by 0.5000 for a matrix learning rate of 0.01"));
}

/// Buffer that a log writes to.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(out: impl Write + Send + 'static) -> NanochatLog {
    let (recipe, request) = derived(
        &words("--depth=2 --aspect-ratio=32 --head-dim=32 --device=cpu"),
        512,
    );
    NanochatLog {
        out: Box::new(out),
        ..NanochatLog::new(&recipe, &request, None)
    }
}

fn info(resumed_at: Option<u64>) -> RunInfo {
    RunInfo {
        name: "run".to_owned(),
        dir: None,
        steps: 40,
        length: RunLength::Steps(40),
        seed: 0,
        config: serde_json::Value::Null,
        eval_sets: vec!["val".to_owned()],
        resumed_at,
        resumed_record: None,
        notes: Vec::new(),
        started_at: 0.0,
        feedback: Feedback::default(),
    }
}

/// Returns the output of a short run.
fn output(resumed_at: Option<u64>) -> String {
    let shared = Shared::default();
    let mut log = log(shared.clone());
    log.open(&info(resumed_at)).expect("a sink");
    let values = [
        (LOSS, 6.0),
        (LRM, 0.2),
        (STEP_TIME, 0.5),
        ("val/bpb", 4.25),
        (MIN_BPB, 4.125),
    ];
    let core = [
        ("core_metric", 0.123_44),
        ("core_metric_se", 0.01),
        ("core/boolq", 0.5),
    ];
    log.write(&record(39, &values)).expect("a line");
    log.write(&record(40, &core)).expect("a line");
    log.close(&Outcome::Completed).expect("the end");
    let bytes = shared.0.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("UTF-8")
}

/// Expected patterns: `runs/scaling_laws.sh` and `runs/miniseries.sh` of nanochat.
#[test]
fn greps_of_nanochats_scripts_find_their_values() {
    let text = output(None);
    let last = |pattern: &str| {
        let mut lines = text.lines().filter(|line| match pattern.strip_prefix('^') {
            Some(start) => line.starts_with(start),
            None => line.contains(pattern),
        });
        lines
            .next_back()
            .unwrap_or_else(|| panic!("no {pattern} in\n{text}"))
    };
    let digits = |line: &str| {
        let found = line.split(|c: char| !(c.is_ascii_digit() || c == ','));
        let found: Vec<_> = found.filter(|word| !word.is_empty()).collect();
        found.concat().replace(',', "")
    };
    for (pattern, expected) in [
        ("^wte ", "32768"),
        ("^value_embeds ", "32768"),
        ("^lm_head ", "32768"),
        ("^transformer_matrices ", "98328"),
        ("^scalars ", "30"),
        ("^total ", "196662"),
    ] {
        assert_eq!(digits(last(pattern)), expected, "{pattern}");
    }
    let after_colon = |line: &str| line.rsplit(": ").next().map(|word| word.replace(',', ""));
    let steps = after_colon(last("Calculated number of iterations")).expect("a number");
    assert!(steps.parse::<u64>().is_ok_and(|steps| steps > 0), "{steps}");
    let tokens = after_colon(last("Total number of training tokens:")).expect("a number");
    let batch = last("Total batch size")
        .split_whitespace()
        .nth(3)
        .expect("a number");
    let batch: u64 = batch.replace(',', "").parse().expect("a number");
    assert_eq!(
        tokens,
        (steps.parse::<u64>().expect("a number") * batch).to_string()
    );
    assert!(last("Validation bpb:").ends_with(" 4.250000"));
    assert_eq!(
        last("CORE metric:").split_whitespace().next_back(),
        Some("0.1234")
    );
    assert!(last("Number of parameters:").contains("scaling: 131,096"));
    assert_eq!(
        last("Minimum validation bpb"),
        "Minimum validation bpb: 4.125000"
    );
}

#[test]
fn score_of_fewer_tasks_is_not_called_core() {
    let lines = lines().of(&record(
        7,
        &[("core_metric_20", 0.5), ("core_metric_20_se", 0.1)],
    ));
    assert_eq!(lines, ["Step 00007 | CORE-20 metric: 0.5000"]);
}

#[test]
fn resumed_run_prints_its_step_and_the_header() {
    let text = output(Some(38));
    assert!(
        text.starts_with("Resuming optimization from step 38\nVocab size: 512\n"),
        "{text}"
    );
}

#[test]
fn log_obeys_the_rules_of_sinks() {
    bdh::testing::sink_conforms(|_| log(io::sink()));
}
