//! Tests of the program `bdh_shakespeare`.

#[path = "support/program.rs"]
mod program;
#[path = "../../bdh/tests/support/snapshot.rs"]
mod snapshot;

use program::contains;
use safetensors::SafeTensors;
use serde_json::Value;
use snapshot::snapshot;
use std::fs;

type Place = program::Place<Shakespeare>;

/// Program under test.
struct Shakespeare;

impl program::Name for Shakespeare {
    const NAME: &'static str = "bdh_shakespeare";
}

/// Flags of a model and a text so small that a step takes milliseconds.
const SMALL: &str = "--device cpu --data text.txt --n_layer 2 --n_embd 16 --mlp-internal-dim-multiplier 4 \
                     --block_size 16 --batch-size 2 --eval_iters 2 --max_new_tokens 8";

/// Returns the keys of a line with a prefix.
fn keys<'a>(line: &'a Value, prefix: &str) -> Vec<&'a str> {
    let keys = line
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str());
    keys.filter(|key| key.starts_with(prefix)).collect()
}

/// Returns the names of the files in a folder.
fn names(place: &Place, dir: &str) -> Vec<String> {
    let files = fs::read_dir(place.at(dir)).expect("the folder");
    files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect()
}

/// Returns the loss in a line like the original's, `Step: 100/200 loss 4.32`, with our additions.
fn printed_loss<'a>(out: &'a str, step: &str) -> &'a str {
    let line = out
        .lines()
        .find_map(|line| line.strip_prefix(&format!("Step: {step} loss ")));
    line.expect(step).split(' ').next().expect("a loss")
}

#[test]
fn all_values_are_recorded_on_their_steps() {
    let place = Place::new();
    let out = place.succeeds(&format!(
        "{SMALL} --max_iters 200 --log_backend tensorboard --log_train_freq 20 --eval_freq 40 --generate_freq 80"
    ));
    contains(
        &out,
        &[
            "Step: 1/200 loss 5.5",
            "Step: 100/200 loss ",
            "Step: 200/200 loss ",
            "Step 00160 | val loss ",
            "FLOPs per token",
            " GiB available",
            "tensorboard --logdir runs",
            "To be or not to be",
            "run completed",
        ],
    );
    assert!(
        out.lines()
            .any(|line| line.starts_with("Step: 100/200") && line.contains("eta ")),
        "{out}"
    );

    let metrics = place.metrics("runs/bdh-tiny");
    let losses = |from, to| {
        let steps = metrics
            .iter()
            .filter(move |line| (from..=to).contains(&line["step"].as_u64().unwrap_or(0)));
        steps
            .map(|line| line["train/loss"].as_f64().expect("a loss"))
            .collect::<Vec<_>>()
    };
    for (step, recorded) in [
        ("1/200", losses(1, 1)),
        ("100/200", losses(2, 100)),
        ("200/200", losses(101, 200)),
    ] {
        let mean = recorded.iter().sum::<f64>() / recorded.len() as f64;
        assert_eq!(printed_loss(&out, step), format!("{mean:.2}"), "{step}");
    }
    let with = |key: &str| {
        let lines = metrics.iter().filter(|line| !line[key].is_null());
        lines
            .map(|line| line["step"].as_u64().expect("a step"))
            .collect::<Vec<_>>()
    };
    let by_20: Vec<_> = [1].into_iter().chain((20..=200).step_by(20)).collect();
    for key in [
        "train/loss",
        "lr",
        "train/grad_norm",
        "train/grad_norm/encoder_v",
    ] {
        assert_eq!(with(key), by_20, "{key}");
    }
    assert_eq!(with("train/tok_per_sec"), by_20[1..]);
    assert_eq!(with("train/step_time"), by_20[1..]);
    for key in [
        "val/loss",
        "val/perplexity",
        "val/accuracy",
        "norm/weight/decoder",
    ] {
        assert_eq!(with(key), [40, 80, 120, 160, 200], "{key}");
    }
    for key in [
        "activations/0.x/zeros",
        "activations/1.xy/zeros",
        "weights/encoder",
    ] {
        assert_eq!(with(key), [40, 80, 120, 160, 200], "{key}");
    }
    assert_eq!(with("samples/0"), [80, 160, 200]);
    assert_eq!(with("samples/entropy"), [80, 160, 200]);
    let last = &metrics[metrics.len() - 1];
    assert_eq!(keys(last, "activations/").len(), 2 * 3 * 5);
    let text = last["samples/2"]["text"].as_str().expect("a text");
    assert!(
        text.starts_with("In a galaxy far, far away") && text.len() > 25,
        "{text}"
    );
    let zeros = |key: &str| last[key].as_f64().expect("a share");
    assert!(zeros("activations/1.xy/zeros") >= zeros("activations/1.x/zeros"));
    let perplexity = last["val/loss"].as_f64().expect("a loss").exp();
    assert!(
        (last["val/perplexity"].as_f64().expect("a perplexity") / perplexity - 1.0).abs() < 1e-9
    );

    assert!(
        names(&place, "runs/bdh-tiny")
            .iter()
            .any(|name| name.contains("tfevents"))
    );
    let model = fs::read(place.at("runs/bdh-tiny/checkpoints/step_00000200/model.safetensors"));
    let model = model.expect("a checkpoint of the last step");
    let model = SafeTensors::deserialize(&model).expect("safetensors");
    assert_eq!(
        model.tensor("encoder").expect("an encoder").shape(),
        [4, 16, 16]
    );
    assert_eq!(model.len(), 5);
}

#[test]
fn example_command_lines_work() {
    for (words, has_wandb) in [
        (
            "--log_backend wandb --wandb_project bdh-experiments --log_train_freq 10 --eval_freq 500 \
             --generate_freq 1000",
            true,
        ),
        (
            "--log_backend tensorboard --log_train_freq 10 --eval_freq 500",
            false,
        ),
        ("--log_backend none", false),
    ] {
        let place = Place::new();
        let mut command = place.command(&format!("{SMALL} --max_iters 12 {words}"));
        let ended = command
            .env("WANDB_MODE", "offline")
            .output()
            .expect("the program starts");
        let out = String::from_utf8(ended.stdout).expect("UTF-8");
        assert_eq!(ended.status.code(), Some(0), "{words}\n{out}");
        contains(&out, &["Step: 12/12 loss ", "run completed"]);
        assert_eq!(place.at("runs/bdh-tiny/wandb").exists(), has_wandb);
        assert_eq!(place.steps("runs/bdh-tiny"), [1, 10, 12]);
    }
}

#[test]
fn two_sinks_are_separated_by_a_comma() {
    let place = Place::new();
    let words = format!("{SMALL} --max_iters 2 --log-backend wandb,tensorboard --wandb_entity us");
    let mut command = place.command(&words);
    let ended = command
        .env("WANDB_MODE", "offline")
        .output()
        .expect("the program starts");
    assert_eq!(ended.status.code(), Some(0));
    let names = names(&place, "runs/bdh-tiny");
    for part in ["wandb", "tfevents", "metrics.jsonl", "checkpoints"] {
        assert!(
            names.iter().any(|name| name.contains(part)),
            "{part} is not in {names:?}"
        );
    }
    assert_eq!(
        place.json("runs/bdh-tiny/run.json")["config"]["user"]["args"]["wandb_entity"],
        "us"
    );
}

#[test]
fn every_flag_has_its_default_and_two_spellings() {
    let place = Place::new();
    let help = place.succeeds("--help");
    for (flag, default, value) in [
        ("log_backend", "wandb", "none"),
        ("wandb_project", "WANDB_PROJECT, or bdh-training", "other"),
        ("wandb_entity", "WANDB_ENTITY, or the key's own", "us"),
        ("log_train_freq", "10", "3"),
        ("eval_freq", "500", "4"),
        ("eval_iters", "100", "1"),
        ("generate_freq", "1000", "5"),
        (
            "prompt",
            "\"To be or not to be\" \"Once upon a time\" \"In a galaxy far, far away\"",
            "To",
        ),
    ] {
        let hyphens = flag.replace('_', "-");
        let (_, entry) = help
            .split_once(&format!("      --{hyphens} <"))
            .expect(flag);
        let entry = entry.lines().nth(1).expect("a description");
        contains(entry, &[&format!("[default: {default}]")]);
        for spelled in [flag, &hyphens] {
            let words = format!("{SMALL} --max_iters 2 --dry_run --{spelled}={value}");
            contains(&place.succeeds(&words), &["steps    2 of 32 tokens"]);
        }
    }
}

#[test]
fn none_is_a_prompt_and_unsets_flags_without_a_default() {
    let place = Place::new();
    let words = format!("{SMALL} --max_iters 2 --log_backend none");
    // Spellings of a user and of a W&B agent.
    for (name, words_of_prompt) in [
        ("typed", "--prompt None"),
        ("agent", "--prompt=None"),
        ("alias", "--prompts None"),
    ] {
        let out = place.succeeds(&format!("{words} --name {name} {words_of_prompt}"));
        contains(&out, &["prompts  \"None\"\n"]);
        let args = &place.json(&format!("runs/{name}/run.json"))["config"]["user"]["args"];
        assert_eq!(
            args["prompt"],
            serde_json::json!(["None"]),
            "{words_of_prompt}"
        );
        let last = place
            .metrics(&format!("runs/{name}"))
            .pop()
            .expect("a record");
        let text = last["samples/0"]["text"].as_str().expect("a text");
        assert!(
            text.starts_with("None") && last["samples/1"].is_null(),
            "{last}"
        );
    }
    let both = format!("{words} --dry_run --prompt None --prompt=To");
    contains(&place.succeeds(&both), &["prompts  \"None\", \"To\"\n"]);

    // The defaults are printed.
    let out = place.succeeds(&format!(
        "{words} --dry_run --name None --preset=None --wandb_project None --grad_clip=None"
    ));
    contains(
        &out,
        &[
            "run      runs/bdh-tiny on cpu",
            "gradients not clipped",
            "\"Once upon a time\"",
        ],
    );
    // A flag with a default cannot be unset.
    for flag in ["--n_head", "--seed", "--temperature"] {
        let ended = place.run(&format!("{words} --dry_run {flag} None"));
        assert_eq!(ended.code, Some(2), "{flag}");
        contains(&ended.err, &["'None'", &flag.replace('_', "-")]);
    }
    contains(
        &place.succeeds("--help"),
        &["None unsets a flag without a default"],
    );
}

#[test]
fn plan_of_the_paper_preset_has_its_memory() {
    let place = Place::new();
    let ended = place.run("--device cpu --data text.txt --preset paper --dry_run");
    let said = if ended.code == Some(2) {
        ended.err
    } else {
        ended.out
    };
    contains(&said, &["about 121.4 GiB"]);
    let ended = place
        .run("--device cpu --data text.txt --preset paper --block_size 64 --batch_size 100000");
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    contains(
        &ended.err,
        &[
            "a step of 100000 windows of 64 tokens needs about ",
            " GiB are available: ",
        ],
    );
}

#[test]
fn learning_rate_schedule_is_recorded() {
    let place = Place::new();
    place.succeeds(&format!(
        "{SMALL} --max_iters 20 --log_backend none --log_train_freq 1 --warmup_iters 5 --final_lr_frac 0.1 \
         --learning_rate 0.01 --name cosine"
    ));
    let lrs: Vec<_> = place
        .metrics("runs/cosine")
        .iter()
        .map(|line| line["lr"].as_f64().expect("lr"))
        .collect();
    assert_eq!((lrs.len(), lrs[0], lrs[4]), (20, 0.002, 0.01));
    assert!(
        lrs[5..].is_sorted_by(|a, b| a >= b) && (lrs[19] - 0.001).abs() < 1e-12,
        "{lrs:?}"
    );
}

#[test]
fn resumed_run_equals_the_uninterrupted_run() {
    let place = Place::new();
    let words =
        format!("{SMALL} --log_backend none --log_train_freq 1 --eval_freq 4 --save_freq 4");
    place.succeeds(&format!("{words} --max_iters 8 --name whole"));
    place.succeeds(&format!("{words} --max_iters 4 --name part"));
    let changed = "trainer.steps,user.args.max_iters";
    let longer = "--resume --name part --max_iters 8";
    let flag = format!("--allow-changed {changed}");
    let refused = place.run(longer);
    assert_eq!(refused.code, Some(2));
    contains(&refused.err, &["trainer.steps: 4 then, 8 now", &flag]);
    place.succeeds(&format!("{longer} {flag}")); // dropout and data continue from the checkpoint
    let before = snapshot(place.0.path());
    let out = place.succeeds("--resume --name part");
    contains(
        &out,
        &["complete, at step 8 of a run of 8 steps", "--max-iters"],
    );
    assert_eq!(snapshot(place.0.path()), before);
    let wider = format!(
        "--resume --name part --n_embd 32 --max_iters 9 --allow-changed {changed},user.args.n_embd,\
                         user.model.n_embd,groups.default.elements,parameters"
    );
    let refused = place.run(&wider);
    assert_eq!(refused.code, Some(2));
    contains(
        &refused.err,
        &["parameters: ", "The weights do not fit this model"],
    );
    let losses = |run: &str| {
        let metrics = place.metrics(run);
        metrics
            .iter()
            .map(|line| (line["step"].clone(), line["train/loss"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(losses("runs/part"), losses("runs/whole"));
}

#[test]
fn time_budget_takes_the_place_of_a_number_of_steps() {
    let place = Place::new();
    let words = format!("{SMALL} --log_backend none --name timed");
    place.refuses(
        &format!("{words} --time-budget 2s --max_iters 4"),
        &["--time-budget", "cannot be used with", "--max-iters"],
    );
    place.refuses(
        &format!("{words} --time-budget 2"),
        &["'2'", "--time-budget", "expected a time"],
    );
    let out = place.succeeds(&format!("{words} --time-budget 2s"));
    contains(
        &out,
        &[
            "for 2 s",
            "Step: 1 (0%) loss 5.",
            "eta 2s",
            " (100%) loss ",
            "run completed",
        ],
    );
    let mut steps = out.lines().filter(|line| line.starts_with("Step: "));
    assert!(steps.all(|line| !line.contains("/0 ")), "{out}");
    let run = place.json("runs/timed/run.json");
    assert_eq!(
        (&run["steps"], &run["config"]["trainer"]["seconds"]),
        (&0.into(), &2.0.into())
    );
    let metrics = place.metrics("runs/timed");
    let last = metrics.last().expect("a record");
    assert!(last["elapsed"].as_f64() >= Some(2.0), "{last}");
    assert!(last["val/loss"].is_f64(), "{last}");

    let before = snapshot(place.0.path());
    let out = place.succeeds("--resume --name timed");
    let parts = ["`runs/timed` is complete", "of 2 s", "--time-budget"];
    contains(&out, &parts);
    assert_eq!(snapshot(place.0.path()), before);
}

#[test]
fn user_errors_are_one_sentence_and_write_nothing() {
    let place = Place::new();
    for (words, parts) in [
        ("--top_k 0", &["'0'", "--top-k", "at least 1"][..]),
        ("--top_k 257", &["'257'", "--top-k", "at most 256"]),
        ("--max_new_tokens 0", &["--max-new-tokens", "at least 1"]),
        ("--eval_iters 0", &["--eval-iters", "at least 1"]),
        ("--prompt=", &["--prompt", "at least one byte"]),
        (
            "--block_size 3000",
            &[
                "`block_size` is 3000",
                "validation split has",
                "smaller --block-size",
            ],
        ),
        ("--n_embd 15", &["n_embd 15 times", "multiple of 8"]),
        ("--dropout 1", &["`dropout` is 1", "such as 0.1"]),
        ("--preset huge", &["'huge'"]),
        (
            "--batch_size 1000000000",
            &["GiB are available", "--batch-size "],
        ),
        (
            "--log_backend tensorbord",
            &["tensorbord", "tensorboard, wandb"],
        ),
        (
            "--data none.txt",
            &["`none.txt`", "`--data` takes a text file"],
        ),
        ("--device tpu", &["'tpu'", "cpu, cuda"]),
        ("--resume --name none", &["no run `runs/none`"]),
    ] {
        place.refuses(&format!("{SMALL} --max_iters 4 {words}"), parts);
    }
}

#[test]
fn run_larger_than_memory_is_an_error() {
    let place = Place::new();
    // On any machine a billion windows are too many, and some rows of the tiny preset fit.
    place.refuses(
        "--device cpu --data text.txt --batch_size 1000000000",
        &[
            "1000000000 windows of 64 tokens",
            "GiB, and ",
            "use --batch-size",
        ],
    );
    let out =
        place.succeeds("--device cpu --data text.txt --preset tiny --dry_run --log_backend none");
    contains(
        &out,
        &[
            "425984 parameters",
            "9.83e6 FLOPs per token",
            "400 of 512 tokens",
            "norms ",
        ],
    );
    assert!(!place.at("runs").exists());
}
