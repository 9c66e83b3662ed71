//! Tests of `nanochat_sweep core` on small runs and bundles.

#[path = "../../bdh-models/tests/support/core_bundle.rs"]
mod core_bundle;
#[path = "support/program.rs"]
mod programs;

use bdh_models::core_eval::{Kind, TASKS};
use programs::contains;
use serde_json::Value;
use std::fs;

const SMALL: &str = "--depth=2 --n-embd-override=64 --device=cpu --data=text.txt --max-seq-len=32 \
                     --micro-batch=4 --eval-tokens=64 --log-backend=none";

type Place = programs::Place<Sweep>;

/// Program under test.
struct Sweep;

impl programs::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

/// Returns a directory with a bundle of all tasks except two.
fn place() -> Place {
    let place = Place::new();
    core_bundle::write(&place.at("bundle"), |task| {
        !["squad", "coqa"].contains(&task.label)
    });
    place
}

#[test]
fn run_is_evaluated_in_any_precision() {
    let place = place();
    place.succeeds(&format!("{SMALL} --precision bf16 --steps 2 --name a"));
    let words = "core --run runs/a --bundle=bundle --core_max_per_task 12 --device cpu";
    contains(&place.succeeds(words), &["step 2, in bf16"]);
    contains(
        &place.succeeds(&format!("{words} --precision f32")),
        &["step 2, in f32"],
    );
}

#[test]
fn newest_checkpoint_is_evaluated_with_any_tokenizer() {
    for tokenizer in ["", "--tokenizer=bpe --vocab-size=300"] {
        let place = place();
        place.succeeds(&format!(
            "{SMALL} {tokenizer} --steps 3 --save-every 1 --name a"
        ));
        fs::remove_file(place.at("text.txt")).expect("the text"); // the run has saved its tokenizer
        let words = "core --run runs/a --bundle=bundle --core_max_per_task 12 --device cpu";
        let out = place.succeeds(words);
        contains(
            &out,
            &[
                "step_00000003, step 3",
                "task  ",
                "\nhellaswag_zeroshot  ",
                "\nCORE-20 ",
                "standard error of item sampling",
                "missing: squad, coqa",
                "runs/a/core.json in ",
            ],
        );
        assert!(out.lines().all(|line| line.chars().count() <= 130), "{out}");

        let file = place.json("runs/a/core.json");
        assert_eq!(
            (&file["step"], &file["max_per_task"]),
            (&3.into(), &12.into())
        );
        assert_eq!(file["core"]["name"], "CORE-20");
        let tasks = file["core"]["tasks"].as_array().expect("a list");
        assert_eq!(tasks.len(), 20);
        assert!(tasks.iter().all(|task| task["items"] == 12));
        let mean = tasks
            .iter()
            .map(|task| task["centered"].as_f64().expect("a number"))
            .sum::<f64>()
            / 20.0;
        assert!((file["core"]["score"].as_f64().expect("a number") - mean).abs() < 1e-12);

        assert_eq!(place.json("runs/a/core.json"), file);
        place.succeeds(words); // once more gives the same
        assert_eq!(place.json("runs/a/core.json"), file);
    }
}

#[test]
fn tokenizer_of_a_run_that_saved_none_is_trained_again() {
    let place = place();
    place.succeeds(&format!(
        "{SMALL} --tokenizer=bpe --vocab-size=300 --steps 2 --name a"
    ));
    let words = "core --run runs/a --bundle=bundle --core_max_per_task 12 --device cpu";
    place.succeeds(words);
    let file = place.json("runs/a/core.json");

    fs::remove_file(place.at("runs/a/tokenizer.json")).expect("the saved tokenizer");
    place.succeeds(words);
    assert_eq!(place.json("runs/a/core.json"), file);

    fs::write(place.at("text.txt"), "another text ".repeat(300)).expect("a text");
    let ended = place.run(words);
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    contains(&ended.err, &["the run was trained on another text"]);
}

#[test]
fn core_without_tasks_is_a_note() {
    let place = place();
    let out = place.succeeds(&format!("{SMALL} --steps 1 --core-metric-every 2 --name a"));
    contains(
        &out,
        &["note: --core-metric-every 2 has no effect", "run completed"],
    );
}

#[test]
fn core_during_training_does_not_change_the_run() {
    let place = place();
    let words = format!("{SMALL} --steps 5 --eval-every -1 --early-save off");
    place.succeeds(&format!("{words} --name without"));
    let flags = "--core-metric-every 2 --core-bundle bundle --core-max-per-task 12";
    let out = place.succeeds(&format!("{words} {flags} --name with"));
    contains(
        &out,
        &["step 2: CORE-20 ", "step 4: CORE-20 ", "step 5: CORE-20 "],
    );

    let key = |line: &Value| line["core_metric_20"].is_f64();
    let metrics = place.metrics("runs/with");
    let at: Vec<_> = metrics
        .iter()
        .filter(|line| key(line))
        .map(|line| line["step"].clone())
        .collect();
    assert_eq!(at, [2, 4, 5]);
    for line in metrics.iter().filter(|line| key(line)) {
        assert!(
            line["core/winograd"].is_f64() && line["core_metric_20_se"].is_f64(),
            "{line}"
        );
        assert!(
            line["val_bpb"].is_f64(),
            "a record with CORE has the loss: {line}"
        );
    }
    for (with, without) in metrics.iter().zip(place.metrics("runs/without")) {
        assert_eq!(with["train/loss"], without["train/loss"]);
        assert_eq!(with["train/weight_norm"], without["train/weight_norm"]);
    }
    let [with, without] = ["with", "without"].map(|name| {
        let path = format!("runs/{name}/checkpoints/step_00000005/model.safetensors");
        fs::read(place.at(&path)).expect("a checkpoint")
    });
    assert_eq!(with, without);

    // The callback and the command agree on the same weights.
    place.succeeds("core --run runs/with --bundle bundle --core-max-per-task 12");
    let file = place.json("runs/with/core.json");
    assert_eq!(file["core"]["score"], metrics[5]["core_metric_20"]);

    // `evaluate` measures the loss too.
    place.succeeds(
        "evaluate --run runs/with --core-bundle bundle --core-max-per-task 12 --device cpu",
    );
    let all = place.json("runs/with/evaluate.json");
    assert_eq!(all["core"], file["core"]);
    let (bpb, expected) = (all["val_bpb"].as_f64(), metrics[5]["val_bpb"].as_f64());
    assert!((bpb.expect("a loss") - expected.expect("a loss")).abs() < 1e-9);
}

#[test]
fn score_of_all_22_tasks_is_called_core() {
    let place = Place::new();
    core_bundle::write(&place.at("bundle/eval_data"), |_| true);
    let flags = "--core-metric-every 1 --core-bundle bundle --core-metric-max-per-task 12";
    let out = place.succeeds(&format!("{SMALL} --steps 1 {flags} --name a"));
    contains(&out, &["step 1: CORE "]);
    let line = &place.metrics("runs/a")[1];
    assert!(
        line["core_metric"].is_f64() && line["core_metric_se"].is_f64(),
        "{line}"
    );
    let plan = place.succeeds(&format!("{SMALL} --steps 1 {flags} --dry-run"));
    contains(&plan, &["core_metric"]);
}

#[test]
fn user_errors_are_one_sentence_and_write_nothing() {
    let place = place();
    let broken = TASKS
        .iter()
        .find(|task| task.kind == Kind::Schema)
        .expect("a task");
    core_bundle::write_task(&place.at("broken"), broken, "{\"gold\": 0}\n");
    fs::create_dir_all(place.at("runs/empty")).expect("a directory");
    let training = format!("{SMALL} --steps 2");
    for (words, parts) in [
        (
            format!("{training} --core-bundle bundle"),
            &["needs --core-metric-every STEPS"][..],
        ),
        (
            format!("{training} --core-metric-every 1 --core-bundle none"),
            &["`none` has none of CORE's tasks"],
        ),
        (
            format!("{training} --core-metric-every 1 --core-bundle broken"),
            &[
                "winograd_wsc.jsonl`, line 1",
                "`context_options` is missing",
            ],
        ),
        (
            format!("{training} --core-metric-every 1 --core-bundle bundle --core-max-per-task 5"),
            &["task jeopardy has 5 items", "needs 11 items or more"],
        ),
        ("core".to_owned(), &["--run <DIR>"]),
        (
            "core --run runs/empty --bundle none".to_owned(),
            &["`none` has none of CORE's tasks"],
        ),
        (
            "core --run runs/empty --bundle bundle".to_owned(),
            &["`runs/empty` has no complete checkpoint"],
        ),
    ] {
        let before = place.files();
        let ended = place.run(&words);
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(2), ""),
            "{words}\n{}",
            ended.err
        );
        for part in parts {
            assert!(
                ended.err.contains(part),
                "`{part}` is missing for `{words}` in: {}",
                ended.err
            );
        }
        assert_eq!(place.files(), before, "{words} wrote something");
    }
}
