//! Flags of nanochat's scripts: each is accepted, and what the scripts look for is in the log.

#[path = "support/program.rs"]
mod programs;

use programs::contains;

/// Sizes for a laptop, in nanochat's spelling.
const LAPTOP: &str = "--device-type=cpu --aspect-ratio=32 --head-dim=32 --max-seq-len=32 --total-batch-size=256 \
                      --data=text.txt --log-backend=none --log-style=nanochat";

type Place = programs::Place<Sweep>;

/// Program under test.
struct Sweep;

impl programs::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

/// Returns the line that a script finds with `grep PATTERN | tail -1`.
fn last<'a>(out: &'a str, pattern: &str) -> &'a str {
    let line = out.lines().rfind(|line| line.contains(pattern));
    line.unwrap_or_else(|| panic!("`{pattern}` is missing in:\n{out}"))
}

/// Returns the first number of a line, which may have commas.
fn number(line: &str) -> f64 {
    let mut parts = line.split(|letter: char| !(letter.is_ascii_digit() || ",.".contains(letter)));
    let part = parts.find(|part| part.contains(|letter: char| letter.is_ascii_digit()));
    let digits = part.expect("a number").replace(',', "");
    digits.parse().expect("a number")
}

#[test]
fn scaling_laws_script_runs_and_finds_its_lines() {
    let place = Place::new();
    let out = place.succeeds(&format!(
        "--depth=2 --target-flops=1e9 --target-param-data-ratio=-1 --run=dummy --model-tag=scaling_d2 \
         --eval-tokens=256 --core-metric-every=999999 --core-metric-max-per-task=-1 --sample-every=-1 \
         --save-every=-1 --device-batch-size=2 {LAPTOP}"
    ));
    let counts = [
        "wte ",
        "value_embeds ",
        "lm_head ",
        "transformer_matrices ",
        "scalars ",
        "total ",
    ];
    for name in counts {
        assert!(
            number(last(&out, name).split_once(':').expect("a count").1) > 0.0,
            "{name}"
        );
    }
    let steps = number(
        last(&out, "Calculated number of iterations")
            .split_once(':')
            .expect("steps")
            .1,
    );
    assert!(steps >= 2.0, "{steps}");
    assert_eq!(
        place.json("runs/scaling_d2/run.json")["steps"].as_f64(),
        Some(steps)
    );
    let bpb = last(&out, "Validation bpb:")
        .rsplit(' ')
        .next()
        .expect("a loss");
    assert!(bpb.parse::<f64>().is_ok_and(|bpb| bpb > 1.0), "{bpb}");
    contains(&out, &["note: --core-metric-every 999999 has no effect"]);
}

#[test]
fn miniseries_script_runs_and_finds_its_lines() {
    let place = Place::new();
    let out = place.succeeds(&format!(
        "--depth=2 --run=dummy --model-tag=mini_d2 --core-metric-every=999999 --core-metric-max-per-task=-1 \
         --sample-every=-1 --save-every=-1 --device-batch-size=-1 --num-iterations=2 --eval-tokens=256 {LAPTOP}"
    ));
    let parameters = last(&out, "Number of parameters:");
    assert!(number(parameters) > 1e4);
    assert!(number(parameters.split_once("scaling: ").expect("both counts").1) > 1e4);
    last(&out, "Validation bpb:");
    last(&out, "Total training time:");
}

#[test]
fn every_flag_of_the_training_script_is_accepted() {
    let place = Place::new();
    let out = place.succeeds(
        "--run=dummy --device-type=cpu --fp8 --fp8-recipe=rowwise --depth=2 --aspect-ratio=32 --head-dim=32 \
         --max-seq-len=32 --window-pattern=SSSL --num-iterations=2 --target-flops=-1 \
         --target-param-data-ratio=-1 --device-batch-size=-1 --total-batch-size=256 --embedding-lr=0.3 \
         --unembedding-lr=0.008 --weight-decay=0.28 --matrix-lr=0.02 --scalar-lr=0.5 --warmup-steps=1 \
         --warmdown-ratio=0.65 --final-lr-frac=0.05 --resume-from-step=-1 --eval-every=1 --eval-tokens=256 \
         --core-metric-every=-1 --core-metric-max-per-task=500 --sample-every=1 --save-every=1 --model-tag=all \
         --data=text.txt --log-backend=none"
    );
    contains(
        &out,
        &[
            "note: --fp8 is not available",
            "run completed",
            "\nval_bpb=",
        ],
    );
    let samples = &place.metrics("runs/all")[2]["samples/0"]["text"];
    assert!(
        samples.as_str().is_some_and(|text| text.len() > 20),
        "{samples}"
    );
}

#[test]
fn summary_is_printed_and_saved() {
    let place = Place::new();
    let out = place.succeeds(&format!(
        "--depth=2 --num-iterations=3 --model-tag=s --eval-tokens=256 {LAPTOP}"
    ));
    let summary = &place.json("runs/s/run.json")["summary"];
    let lines: Vec<_> = out
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    for key in [
        "val_bpb",
        "training_seconds",
        "total_seconds",
        "tokens",
        "num_steps",
        "num_params",
        "run_dir",
    ] {
        let (_, text) = lines.iter().find(|(name, _)| *name == key).expect(key);
        match text.parse::<f64>() {
            Ok(number) => {
                let saved = summary[key].as_f64().expect(key);
                assert!(
                    (number - saved).abs() < 1e-3 * saved.max(1.0),
                    "{key}: {number}, {saved}"
                );
            }
            Err(_) => assert_eq!(summary[key], *text, "{key}"),
        }
    }
    assert_eq!(summary["num_steps"], 3);
    assert_eq!(summary["tokens"], 3 * 256);
}
