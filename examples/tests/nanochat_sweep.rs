//! Tests of the program `nanochat_sweep`, run in an empty directory.

#[path = "support/program.rs"]
mod program;

use bdh_callbacks as _; // linked, or none of its callbacks would be registered here
use program::{Ended, contains};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::process::Command;

/// Flags of a model and a text so small that a step takes milliseconds.
const SMALL: &str = "--depth=2 --n-embd-override=64 --device=cpu --data=text.txt --max-seq-len=32 \
                     --micro-batch=2 --eval-tokens=64";

type Place = program::Place<Sweep>;

/// Program under test.
struct Sweep;

impl program::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

#[test]
fn log_backend_selects_the_sinks() {
    for (backend, expected) in [
        ("none", [false; 2]),
        ("tensorboard", [true, false]),
        ("console,tensorboard,wandb", [true; 2]),
    ] {
        let place = Place::new();
        let mut command = place.command(&format!(
            "{SMALL} --max-iterations 2 --name a --log_backend {backend}"
        ));
        let ended = Ended::from(
            command
                .env("WANDB_MODE", "offline")
                .output()
                .expect("the program starts"),
        );
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let has_events = fs::read_dir(place.at("runs/a"))
            .expect("the run directory")
            .any(|file| {
                file.expect("a file")
                    .file_name()
                    .to_string_lossy()
                    .contains("tfevents")
            });
        assert_eq!(
            [has_events, place.at("runs/a/wandb").exists()],
            expected,
            "{backend}"
        );
        assert_eq!(
            ended.out.contains("wandb sync "),
            expected[1],
            "{}",
            ended.out
        );
    }
    let ended = Place::new().run(&format!("{SMALL} --log_backend tensorbord"));
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .err
            .contains("use tensorboard, wandb, jsonl and console"),
        "{}",
        ended.err
    );
}

#[test]
fn callbacks_are_listed_with_their_keys_and_settings() {
    let place = Place::new();
    let ended = place.run("--list-callbacks");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let norms = ended
        .out
        .split("\n\n")
        .find(|entry| entry.contains("use = \"norms\"\n"));
    contains(
        norms.expect("norms are listed"),
        &["per_parameter = false", "# records train/weight_norm, "],
    );
    assert!(
        ended.out.lines().all(|line| line.len() <= 130),
        "{}",
        ended.out
    );
    assert!(!place.at("runs").exists());
}

#[test]
fn listed_callbacks_are_a_valid_file_of_defaults() {
    let list = Place::new().run("--list-callbacks").out;
    let built = bdh::registry::from_toml(&list).expect("a file of callbacks");
    let known = bdh::registry::all();
    assert_eq!(built.len(), known.len());
    for (built, entry) in built.iter().zip(known) {
        let default = entry
            .default()
            .expect("each of ours can do without settings");
        assert_eq!(
            (built.name(), built.config()),
            (entry.name.to_owned(), default.config())
        );
        let is_told = |option: &&str| {
            list.contains(&format!("\n{option} = ")) || list.contains(&format!("\n# {option} is"))
        };
        assert!((entry.options)().iter().all(is_told), "{}", entry.name);
    }
}

#[test]
fn example_command_line_trains_a_complete_run() {
    let place = Place::new();
    let out = place.succeeds("--depth 2 --n_embd_override 64 --device cpu --max-iterations 10");
    contains(
        &out,
        &[
            "Step: 1/10 loss ",
            "Step: 10/10 loss ",
            "no early checkpoint at 250, 500, 1000, because the run has 10 steps",
            "unigram",
            "val_bpb",
            "run completed",
            "runs/d2-w64",
        ],
    );
    // Bytes, 8 sequences of 256: a factor of sqrt(2048 / 2^19) = 1 / 16 for every rate, and sqrt(768 / 64) for tables.
    for (group, lr) in [
        ("matrix", "0.001250"),
        ("lm_head", "0.001732"),
        ("wte", "0.064952"),
        ("value_embeds", "0.032476"),
        ("resid_lambdas", "0.000313"),
        ("x0_lambdas", "0.031250"),
        ("smear", "0.200000"),
    ] {
        contains(&out, &[&format!("  {group:<13} lr {lr}")]);
    }
    assert!(
        out.lines().all(|line| line.chars().count() <= 100),
        "a line is too wide:\n{out}"
    );

    let run = place.json("runs/d2-w64/run.json");
    assert_eq!(
        (&run["status"], &run["steps"]),
        (&"completed".into(), &10.into())
    );
    assert!(
        run["final_metrics"]["val_bpb"]
            .as_f64()
            .is_some_and(|bpb| bpb < 8.1),
        "{run}"
    );
    assert_eq!(run["config"]["user"]["args"]["n_embd_override"], 64);
    assert!(run["config"]["user"]["text"]["levels"]["bigram"].is_f64());

    assert_eq!(place.steps("runs/d2-w64"), (0..=10).collect::<Vec<_>>());
    let metrics = place.metrics("runs/d2-w64");
    for line in &metrics[1..] {
        for key in [
            "train/loss",
            "train/weight_norm",
            "train/grad_norm",
            "lr",
            "train/tokens",
        ] {
            assert!(line[key].is_f64(), "{key} in {line}");
        }
        assert!(line["train/flops"].is_f64(), "{line}");
    }
    assert!(metrics[2]["train/tok_per_sec"].is_f64());
    for step in [0, 10] {
        assert!(
            metrics[step]["val_bpb"].is_f64()
                && metrics[step]["val_bpb"] == metrics[step]["val/bpb"]
        );
    }

    let model = fs::read(place.at("runs/d2-w64/checkpoints/step_00000010/model.safetensors"));
    let model = model.expect("a checkpoint of the last step");
    let model = SafeTensors::deserialize(&model).expect("safetensors");
    let shape = |name: &str| model.tensor(name).expect(name).shape().to_vec();
    assert_eq!(shape("transformer.wte.weight"), [320, 64]);
    assert_eq!(
        shape("transformer.h.1.mlp.c_fc.weight"),
        [256, 64],
        "PyTorch's [out, in]"
    );
    assert_eq!(shape("lm_head.weight"), [320, 64]);
    assert_eq!(model.len(), 21);
}

#[test]
fn spellings_of_a_sweep_agent_are_accepted() {
    let place = Place::new();
    let out = place.succeeds(
        "--depth=2 --n_embd_override=64 --lr_override=0.00012 --max_iterations=2 --device=cpu \
         --data=text.txt --max_seq_len=32 --eval_tokens=1e2 --weight_decay=None --dry_run=False",
    );
    contains(&out, &["  matrix        lr 0.000120 ", "Step: 2/2 loss"]);
    let run = place.json("runs/d2-w64-lr0.00012/run.json");
    assert_eq!(run["config"]["user"]["recipe"]["rates"]["matrix"], 0.00012);
    assert_eq!(
        run["config"]["groups"]["matrix"]["schedule"]["peak"],
        0.00012
    );
}

#[test]
fn early_checkpoints_are_kept_when_others_rotate() {
    let place = Place::new();
    place.succeeds(&format!(
        "{SMALL} --steps 8 --early-save 50% --save-every 1 --lr-override 1e-3"
    ));
    let checkpoints = place.at("runs/d2-w64-lr0.001/checkpoints");
    let mut names: Vec<_> = fs::read_dir(&checkpoints)
        .expect("checkpoints")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["ckpt_early_step_4", "step_00000007", "step_00000008"]
    );

    let early = checkpoints.join("ckpt_early_step_4");
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = fs::read(early.join(file)).expect(file);
        assert!(!SafeTensors::deserialize(&bytes).expect(file).is_empty());
    }
    let state = fs::read(early.join("state.json")).expect("the state");
    let state: Value = serde_json::from_slice(&state).expect("JSON");
    assert_eq!(state["clock"]["step"], 4);
    let args = &state["config"]["user"]["args"];
    assert_eq!(
        (&args["n_embd_override"], &args["lr_override"]),
        (&64.into(), &0.001.into())
    );
}

#[test]
fn default_names_are_numbered_and_given_names_are_not_reused() {
    let place = Place::new();
    let words = format!("{SMALL} --steps 1 --quiet");
    place.succeeds(&words);
    place.succeeds(&words);
    assert!(place.at("runs/d2-w64/run.json").exists());
    assert!(place.at("runs/d2-w64-2/run.json").exists());
    let parts = ["`runs/d2-w64` exists already", "--resume", "another --name"];
    place.refuses(&format!("{words} --name d2-w64"), &parts);
}

#[test]
#[cfg(unix)]
fn interrupted_run_is_saved_and_resumes() {
    use std::io::{BufRead, BufReader};

    let place = Place::new();
    let words =
        format!("{SMALL} --steps 300 --micro-batch 8 --name it --log-every 1 --eval-every -1");
    let mut child = place.command(&words).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let started = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.starts_with("Step: 1/300"));
    assert!(started);
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest:?}");
    assert!(
        rest.iter()
            .any(|line| line.contains("--resume --runs runs --name it")),
        "{rest:?}"
    );

    let run = place.json("runs/it/run.json");
    assert_eq!(
        (&run["status"], &run["outcome"]["stopped"]),
        (&"stopped".into(), &"signal".into())
    );
    let stopped = *place.steps("runs/it").last().expect("a step");
    assert!((1..300).contains(&stopped));
    assert!(
        place
            .at(&format!(
                "runs/it/checkpoints/step_{stopped:08}/manifest.json"
            ))
            .exists()
    );

    // The flags are the saved ones.
    let out = place.succeeds("--resume --name it");
    contains(&out, &["Step: 300/300", "run completed"]);
    assert_eq!(place.json("runs/it/run.json")["status"], "completed");
    assert_eq!(place.steps("runs/it"), (0..=300).collect::<Vec<_>>());

    let before = place.files();
    let out = place.succeeds("--resume --name it");
    contains(
        &out,
        &["`runs/it` is complete, at step 300 of a run of 300 steps"],
    );
    assert_eq!(place.files(), before);
}

#[test]
fn time_budget_takes_the_place_of_a_number_of_steps() {
    let place = Place::new();
    let words = format!("{SMALL} --name timed --log-backend none --time_budget 2s");
    place.refuses(
        &format!("{words} --steps 9"),
        &["--time-budget", "cannot be used with"],
    );
    let out = place.succeeds(&format!("{words} --early-save 1,50%"));
    contains(
        &out,
        &[
            "the run ends after 2s",
            "Step: 1 (0%) loss ",
            " (100%) loss ",
            "run completed",
        ],
    );
    assert_eq!(place.json("runs/timed/run.json")["steps"], 0);
    let last = place.metrics("runs/timed").pop().expect("a record");
    assert!(last["elapsed"].as_f64() >= Some(2.0), "{last}");
    let names = fs::read_dir(place.at("runs/timed/checkpoints")).expect("checkpoints");
    let early = names.filter(|name| {
        let name = name.as_ref().expect("an entry").file_name();
        name.to_string_lossy().starts_with("ckpt_early_step_")
    });
    assert_eq!(early.count(), 2, "one at step 1, and one after a second");
}

#[test]
fn user_errors_are_one_sentence_and_write_nothing() {
    let place = Place::new();
    fs::write(place.at("empty.txt"), "").expect("a file");
    fs::write(place.at("binary.txt"), "text\0text").expect("a file");
    fs::write(place.at("short.txt"), "fifteen letters").expect("a file");
    for (name, settings) in [
        ("unknown.toml", "use = \"histogramm\""),
        (
            "key.toml",
            "use = \"norms\"\nname = \"mine\"\nper_param = true",
        ),
        (
            "idle.toml",
            "use = \"norms\"\nname = \"mine\"\non = \"at 500 steps\"",
        ),
    ] {
        fs::write(place.at(name), format!("[[callback]]\n{settings}\n")).expect("a file");
    }
    fs::create_dir_all(place.at("runs/broken")).expect("a directory");
    fs::write(place.at("runs/broken/run.json"), "{\"config\": {}}").expect("a file");
    for (words, parts) in [
        ("--n_embd=64", &["'--n_embd'"][..]),
        (
            "--n_embd_override 100",
            &["width 100", "head size 64", "use 64 or 128"],
        ),
        (
            "--max-iterations 0",
            &["'0'", "--num-iterations", "at least 1"],
        ),
        (
            "--max-iterations -5",
            &["'-5'", "--num-iterations", "at least 1"],
        ),
        ("--seed -1", &["'-1'", "--seed", "at least 0"]),
        (
            "--data no-such.txt",
            &["`no-such.txt`", "`--data` takes a text file"],
        ),
        ("--data empty.txt", &["`empty.txt` is empty"]),
        ("--data binary.txt", &["`binary.txt` is not UTF-8 text"]),
        (
            "--data short.txt",
            &["val text has 3 tokens", "needs 33", "--max-seq-len"],
        ),
        ("--device tpu", &["'tpu'", "cpu, cuda"]),
        (
            "--runs text.txt/runs",
            &["--runs text.txt/runs", "`text.txt` is a file"],
        ),
        (
            "--early-save 500",
            &[
                "--early-save 500 never fires in a run of 10 steps",
                "up to 10",
            ],
        ),
        (
            "--log-every 11",
            &[
                "--log-every 11 never fires in a run of 10 steps",
                "10 or less",
            ],
        ),
        ("--callbacks none.toml", &["`none.toml` cannot be read"]),
        (
            "--callbacks unknown.toml",
            &["unknown callback `histogramm`", "norms, "],
        ),
        (
            "--callbacks key.toml",
            &[
                "callback `norms`",
                "unknown field `per_param`",
                "`per_parameter`",
            ],
        ),
        (
            "--callbacks idle.toml",
            &["mine", "`at 500 steps` never fires in a run of 10 steps"],
        ),
        (
            "--resume --name none",
            &["no run `runs/none`", "leave --resume out"],
        ),
        (
            "--resume --name broken",
            &["`runs/broken/run.json` cannot be read", "another name"],
        ),
    ] {
        place.refuses(&format!("{SMALL} --max-iterations 10 {words}"), parts);
    }
}

#[test]
#[cfg(not(feature = "cuda"))]
fn error_of_a_missing_device_names_its_feature() {
    let place = Place::new();
    place.refuses(
        &format!("{SMALL} --device cuda"),
        &["without `cuda`", "--features cuda"],
    );
    // A dry run works without the device.
    let out = place.succeeds(&format!(
        "{SMALL} --device cuda --depth 24 --total-batch-size 64 --dry-run"
    ));
    contains(&out, &["depth 24", "on cuda in bf16", "--features cuda"]);
}

#[test]
fn dry_run_prints_the_plan_and_writes_nothing() {
    let place = Place::new();
    let before = place.files();
    let out = place.succeeds(&format!("{SMALL} --steps 600 --dry-run"));
    contains(
        &out,
        &[
            "duration 600 steps",
            "  matrix        lr",
            "0, 250, 500, 600 (4×)",
        ],
    );
    contains(
        &out,
        &["ckpt_early_step_500", "no early checkpoint at 1000"],
    );
    assert_eq!(place.files(), before);
    contains(
        &place.succeeds("--help"),
        &["--n-embd-override", "Without flags", "compare", "forecast"],
    );
    assert_eq!(place.files(), before);
}

#[test]
fn run_on_four_devices_equals_one_with_the_same_batch() {
    let place = Place::new();
    let with = |flags: &str, name: &str| {
        let total = "--total-batch-size 256 --max-iterations 12 --eval-tokens 256";
        let out = place.succeeds(&format!(
            "{SMALL} {total} {flags} --log-backend none --name {name}"
        ));
        let run = place.json(&format!("runs/{name}/run.json"));
        (
            out,
            run["final_metrics"]["val_bpb"]
                .as_f64()
                .expect("bits per byte"),
        )
    };
    let (_, single) = with("", "one");
    let (out, four) = with("--devices 4", "four");
    contains(&out, &["accumulation 4", "on cpu:0-3 in f32"]);
    assert!((four / single - 1.0).abs() < 1e-4, "{four} and {single}");
    assert_eq!(
        place.json("runs/four/run.json")["config"]["trainer"]["devices"],
        4
    );

    // By default each device gets a micro-batch.
    let out = place.succeeds(&format!(
        "{SMALL} --devices 3 --max-iterations 1 --name three"
    ));
    contains(
        &out,
        &["batch    192 tokens = micro-batch 2 x context 32 x accumulation 3"],
    );
}

#[test]
fn uneven_and_unknown_devices_are_errors() {
    let place = Place::new();
    place.refuses(
        &format!("{SMALL} --devices 3 --total-batch-size 256"),
        &["on each of 3 devices"],
    );
    place.refuses(
        "--device cuda:0-3 --devices 8",
        &["the number of devices is 8", "`cuda:0-3` is 4"],
    );
    place.refuses(
        "--device cuda:0-3,2",
        &["unknown device `cuda:0-3,2`", "cuda:0-7"],
    );
    place.refuses(
        "--precision f16",
        &["unknown precision `f16`", "f32 or bf16"],
    );
}
