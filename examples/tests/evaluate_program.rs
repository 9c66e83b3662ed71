//! Tests of `nanochat_sweep evaluate`.

#[path = "support/homes.rs"]
mod homes;
#[path = "support/program.rs"]
mod programs;

use homes::{homes, number_after, succeeds};
use programs::contains;
use std::fs;

const SMALL: &str = "--depth=2 --n-embd-override=64 --device=cpu --data=text.txt --max-seq-len=32 \
                     --micro-batch=4 --eval-tokens=256 --log-backend=none --early-save=off";

type Place = programs::Place<Sweep>;

/// Program under test.
struct Sweep;

impl programs::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

#[test]
fn every_checkpoint_of_a_run_has_the_recorded_loss() {
    let place = Place::new();
    place.succeeds(&format!(
        "{SMALL} --steps 4 --save-every 2 --eval-every 2 --name a"
    ));
    let metrics = place.metrics("runs/a");
    for step in [2, 4] {
        let out = place.succeeds(&format!("evaluate --run runs/a --step {step} --device cpu"));
        let expected = metrics[step]["val_bpb"].as_f64().expect("a loss");
        let bpb = number_after(&out, "val_bpb");
        assert!((bpb - expected).abs() < 1e-5, "{bpb}, not {expected}");
        let file = place.json("runs/a/evaluate.json");
        assert_eq!(file["step"], step);
        assert!((file["val_bpb"].as_f64().expect("a loss") - expected).abs() < 1e-9);
    }
    let parts = ["no checkpoint of step 3", "it has 2, 4"];
    place.refuses("evaluate --run runs/a --step 3 --device cpu", &parts);
}

#[test]
fn norms_and_histograms_are_those_of_the_run() {
    let place = Place::new();
    place.succeeds(&format!("{SMALL} --steps 3 --save-every 2 --name a"));
    let words = "evaluate --run runs/a --step 2 --norms --histograms --gradients --out all.json";
    let out = place.succeeds(&format!("{words} --device cpu"));
    contains(
        &out,
        &["weight_norm/matrix", "grad_norm/wte", "results  all.json"],
    );
    let statistics = &place.json("all.json")["statistics"];
    let metrics = place.metrics("runs/a");
    let near = |key: &str, expected: &serde_json::Value| {
        let (value, expected) = (statistics[key].as_f64(), expected.as_f64());
        let (value, expected) = (value.expect(key), expected.expect(key));
        assert!(
            (value / expected - 1.0).abs() < 1e-5,
            "{key}: {value}, not {expected}"
        );
    };
    near("train/weight_norm", &metrics[2]["train/weight_norm"]);
    near("train/grad_norm", &metrics[3]["train/grad_norm"]); // of the step after the checkpoint
    let counts = &statistics["weights/transformer.wte.weight"]["counts"];
    let counts = counts.as_array().expect("a histogram").iter();
    let all: u64 = counts.map(|count| count.as_u64().expect("a count")).sum();
    assert_eq!(all, 320 * 64);
    assert!(!place.at("runs/a/evaluate.json").exists());
}

#[test]
fn samples_need_neither_text_nor_loss() {
    let place = Place::new();
    place.succeeds(&format!(
        "{SMALL} --tokenizer=bpe --vocab-size=300 --steps 2 --name a"
    ));
    fs::remove_file(place.at("text.txt")).expect("the text");
    let mut command = place.command("evaluate --run runs/a --samples --device cpu");
    command.args(["--prompt", "line 7 of"]);
    let out = succeeds(command);
    contains(&out, &["note: no loss", "`text.txt`", "sample   line 7 of"]);
    let file = place.json("runs/a/evaluate.json");
    assert_eq!(file["samples"][0]["prompt"], "line 7 of");
    assert!(file["val_bpb"].is_null());

    place.refuses(
        "evaluate --run runs/a --data text.txt --device cpu",
        &["`text.txt`"],
    );
}

#[test]
fn checkpoints_of_nanochat_have_nanochats_loss() {
    for home in homes() {
        let place = Place::new();
        let from = home.checkpoints();
        for meta in home.metas() {
            let words = format!(
                "evaluate --checkpoint {} --step {} --device cpu --out e.json",
                from.display(),
                meta["step"]
            );
            // Without the variable of the home: it is found from the checkpoint.
            let out = succeeds(place.command(&words));
            let expected = meta["val_bpb"].as_f64().expect("a loss");
            let bpb = number_after(&out, "val_bpb");
            assert!((bpb - expected).abs() < 1e-5, "{bpb}, not {expected}");
            let file = place.json("e.json");
            assert!((file["val_bpb"].as_f64().expect("a loss") - expected).abs() < 1e-5);
        }
        // The validation shard alone is evaluated as a whole.
        let data = home.dir.join("base_data_climbmix");
        let mut shards: Vec<_> = fs::read_dir(data)
            .expect("shards")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        shards.sort();
        let last = shards.last().expect("a shard").display().to_string();
        let words = format!(
            "evaluate --run {} --device cpu --data {last}",
            from.display()
        );
        let bpb = number_after(&succeeds(place.command(&words)), "val_bpb");
        let expected = home.expected["val_bpb"].as_f64().expect("a loss");
        assert!((bpb - expected).abs() < 1e-5, "{bpb}, not {expected}");
    }
}

#[test]
fn norms_and_histograms_of_nanochats_checkpoint_are_measured() {
    for home in homes() {
        let place = Place::new();
        let from = home.checkpoints();
        let words = format!("evaluate --checkpoint {} --device cpu", from.display());
        let more = "--norms --histograms --gradients --samples --out all.json";
        let out = succeeds(place.command(&format!("{words} {more}")));
        contains(&out, &["weight_norm", "grad_norm/lm_head", "sample   "]);
        let statistics = &place.json("all.json")["statistics"];
        assert!(statistics["weights/lm_head.weight"]["counts"].is_array());
        place.refuses(&format!("{words} --histograms"), &["--out FILE"]);
    }
}
