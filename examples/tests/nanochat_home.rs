//! Runs of `nanochat_sweep` on data, tokenizer and checkpoints that nanochat made.

#[path = "support/homes.rs"]
mod homes;
#[path = "support/program.rs"]
mod programs;

use homes::{homes, number_after, succeeds};
use programs::{Ended, contains};
use serde_json::Value;
use std::fs;

type Place = programs::Place<Sweep>;

/// Program under test.
struct Sweep;

impl programs::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

/// Returns nanochat's flags with a few more, which take precedence.
fn words(home: &homes::Home, more: &str) -> String {
    format!("{} --log-backend=none {more}", home.flags().join(" "))
}

#[test]
fn home_is_trained_on_with_nanochats_flags_and_lines() {
    for home in homes() {
        let place = Place::new();
        let more = "--num-iterations=4 --save-every=-1 --log-style=nanochat";
        let out = home.succeeds(&place, &words(&home, more));
        let ids = home.expected["vocab"].as_f64().expect("a vocabulary");
        let uniform = ids.ln();
        contains(
            &out,
            &[
                "Using user-provided number of iterations: 4",
                "Step 00000 | Validation bpb: ",
                &format!("step 00000/00004 (0.00%) | loss: {uniform:.1}"),
                &format!("step 00003/00004 (75.00%) | loss: {uniform:.1}"),
                "Step 00004 | Validation bpb: ",
                "\nnum_steps=4\n",
            ],
        );
        let run = format!("runs/{}", home.tag());
        let meta = home.last();
        let at_once = ["device_batch_size", "max_seq_len"].map(|key| meta[key].as_u64());
        let at_once = at_once.into_iter().flatten().product::<u64>();
        let accumulated = meta["total_batch_size"].as_u64().expect("a size") / at_once;
        for (step, line) in (1..).zip(&place.metrics(&run)[1..]) {
            // The weights are others, but an untrained model predicts every token about equally.
            let loss = line["train/loss"].as_f64().expect("a loss");
            assert!((loss - uniform).abs() < 0.02, "{loss}");
            let state = &home.expected["train_states"][(step * accumulated - 1) as usize];
            for (key, expected) in [
                ("data/pq_idx", "pq_idx"),
                ("data/rg_idx", "rg_idx"),
                ("train/epoch", "epoch"),
            ] {
                assert_eq!(line[key].as_f64(), state[expected].as_f64(), "{key}");
            }
        }
        assert!(place.at(&run).join("tokenizer.json").exists());
        let run = place.json(&format!("{run}/run.json"));
        assert_eq!(run["summary"]["num_steps"], 4);
        assert_eq!(run["config"]["user"]["args"]["packing"], "nanochat");
    }
}

#[test]
fn run_of_nanochat_goes_on_with_its_optimizer_and_data() {
    for home in homes() {
        let place = Place::new();
        let (last, run) = (home.last(), format!("runs/{}", home.tag()));
        let step = last["step"].as_u64().expect("a step");
        let (from, end) = (format!("--resume-from-step={step}"), step + 5);
        let more = format!("--num-iterations={end} --save-every=2");
        let out = home.succeeds(&place, &words(&home, &format!("{more} {from}")));
        contains(&out, &[&format!(", step {step}"), "run completed"]);

        let metrics = place.metrics(&run);
        let steps: Vec<_> = metrics.iter().map(|line| line["step"].as_u64()).collect();
        assert_eq!(steps, (step..=end).map(Some).collect::<Vec<_>>());
        let bpb = metrics[0]["val_bpb"].as_f64();
        let expected = last["val_bpb"].as_f64().expect("a loss");
        let bpb = bpb.expect("an eval at the start");
        assert!((bpb - expected).abs() < 1e-5, "{bpb}, not {expected}");
        let end_bpb = metrics[5]["val_bpb"].as_f64().expect("an eval at the end");
        assert!(end_bpb < expected, "{end_bpb} after {expected}");

        // The run is now one of this program, with checkpoints of its own.
        let kept = end - 1;
        let again = format!("{more} --resume-from-step={kept}");
        let out = home.succeeds(&place, &words(&home, &again));
        let resumed = format!("resumes  {run}/checkpoints/step_{kept:08}");
        contains(&out, &[&resumed]);
        assert_eq!(place.metrics(&run)[5]["val_bpb"], metrics[5]["val_bpb"]);

        let missing = words(&home, &format!("{more} --resume-from-step=3"));
        let ended = Ended::from(home.command(&place, &missing).output().expect("it starts"));
        assert_eq!(ended.code, Some(2), "{}", ended.out);
        let expected = format!("no checkpoint of step 3: it has {kept}, {end}");
        contains(&ended.err, &[&expected]);
    }
}

#[test]
fn checkpoint_gives_settings_and_weights_of_a_new_run() {
    for home in homes() {
        let place = Place::new();
        let from = home.checkpoints();
        let init = format!("--init-from={}", from.display());
        let kept = ["--device-batch-size", "--total-batch-size", "--eval-tokens"];
        let mut small = home.flags();
        small.retain(|flag| kept.iter().any(|kept| flag.starts_with(kept)));
        let small = small.join(" ") + " --device=cpu --early-save=off --log-backend=none --steps=2";
        let out = home.succeeds(&place, &format!("{small} {init} --name a"));
        let step = home.last()["step"].as_u64().expect("a step");
        contains(&out, &[&format!(", step {step}"), "run completed"]);
        let metrics = place.metrics("runs/a");
        let bpb = metrics[0]["val_bpb"].as_f64().expect("an eval");
        let expected = home.last()["val_bpb"].as_f64().expect("a loss");
        assert!((bpb - expected).abs() < 1e-5, "{bpb}, not {expected}");

        let first = home.metas().remove(0);
        let chosen = format!("--init-step={}", first["step"]);
        home.succeeds(&place, &format!("{small} {init} {chosen} --name b"));
        let bpb = place.metrics("runs/b")[0]["val_bpb"].as_f64();
        let expected = first["val_bpb"].as_f64().expect("a loss");
        assert!((bpb.expect("an eval") - expected).abs() < 1e-5);

        let other = format!("{small} {init} --depth=40 --name c");
        let ended = Ended::from(home.command(&place, &other).output().expect("it starts"));
        assert_eq!((ended.code, &*ended.out), (Some(2), ""));
        contains(
            &ended.err,
            &["--depth 40 contradicts", "a model with --depth"],
        );
        assert!(!place.at("runs/c").exists());
    }
}

#[test]
fn exported_run_evaluates_to_the_same_loss() {
    for home in homes() {
        let place = Place::new();
        let more = "--num-iterations=2 --save-every=-1 --eval-every=-1";
        home.succeeds(&place, &words(&home, more));
        let run = format!("runs/{}", home.tag());
        let expected = place.metrics(&run)[2]["val_bpb"].as_f64();

        let export = format!("export --nanochat {run} out/base_checkpoints/d2");
        let out = home.succeeds(&place, &export);
        contains(
            &out,
            &[
                "out/base_checkpoints/d2/model_000002.pt",
                "meta_000002.json",
            ],
        );
        let meta = place.json("out/base_checkpoints/d2/meta_000002.json");
        let settings: Value = home.last()["model_config"].clone();
        assert_eq!(meta["model_config"], settings);
        assert_eq!(meta["val_bpb"].as_f64(), expected);
        assert!(place.at("out/tokenizer/tokenizer.pkl").exists());

        // Without the home's variable: the exported tokenizer is found beside the checkpoint.
        let data = home.dir.join("base_data_climbmix");
        let evaluate = format!(
            "evaluate --checkpoint out/base_checkpoints/d2 --device cpu --data {}",
            data.display()
        );
        let bpb = number_after(&succeeds(place.command(&evaluate)), "val_bpb");
        assert!((bpb - expected.expect("a loss")).abs() < 1e-5);
    }
}

#[test]
fn home_may_be_read_only_and_its_text_may_be_packed_once() {
    for home in homes() {
        let place = Place::new();
        let more = "--packing best-fit --num-iterations=2 --save-every=-1";
        let out = home.succeeds(&place, &words(&home, more));
        contains(&out, &["token shards in ", "prepared", "parquet"]);
        let made = fs::read_dir(place.at("cache/bdh/prepared")).expect("prepared data");
        assert_eq!(made.count(), 1);
        let out = home.succeeds(&place, &words(&home, &format!("{more} --model-tag=again")));
        assert!(!out.contains("prepared in"), "{out}");
    }
}
