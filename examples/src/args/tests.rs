//! Command lines of users and agents.

use super::command_line::flags;
use super::*;
use bdh::ops::Precision;
use bdh_models::scaling::{Recipe, Request};
use serde_json::json;
use std::fs;

fn parse(words: &str) -> Args {
    read(words).unwrap_or_else(|error| panic!("`{words}` should be accepted: {error}"))
}

fn read(words: &str) -> Result<Args, clap::Error> {
    try_parse_from(std::iter::once("nanochat_sweep").chain(words.split_whitespace()))
}

/// Asserts that a command line is an error with code 2, on stderr, whose text contains these parts.
fn refused(words: &str, parts: &[&str]) {
    let Err(error) = read(words) else {
        panic!("`{words}` should be refused")
    };
    let text = error.to_string();
    assert_eq!((error.exit_code(), error.use_stderr()), (2, true), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

fn recipe(args: &Args) -> Recipe {
    Recipe::derive(&args.request(args.vocab_size())).expect("a valid recipe")
}

#[test]
fn clap_definition_is_consistent() {
    command().debug_assert();
}

#[test]
fn command_line_for_a_laptop_is_small() {
    let args = parse("--depth 2 --n_embd_override 64 --device cpu --max-iterations 10");
    assert_eq!(
        (args.depth, args.n_embd_override, args.num_iterations),
        (2, Some(64), Some(10))
    );
    assert_eq!(
        (args.hardware.is_cpu(), args.tokenizer()),
        (true, Tokenizer::Bytes)
    );

    let recipe = recipe(&args);
    assert_eq!((recipe.config.n_head, recipe.config.vocab_size), (1, 257));
    assert_eq!(
        (recipe.total_batch_size, recipe.grad_accum_steps()),
        (2048, 1)
    );
    assert_eq!(recipe.num_iterations, 10);
    // Ten steps and two evaluations (forward is a third of the FLOPs): a minute's work even at 1e9 a second.
    let evaluations = 2.0 * recipe.flops_per_token() * args.eval_tokens() as f64 / 3.0;
    assert!(recipe.total_flops() + evaluations < 50e9);
}

#[test]
fn command_line_of_a_sweep_agent_is_parsed() {
    let args = parse("--depth=8 --n_embd_override=256 --lr_override=0.00012 --device=cuda");
    assert_eq!(
        (args.depth, args.n_embd_override, args.lr_override),
        (8, Some(256), Some(0.000_12))
    );
    assert_eq!(args.run_name(), "d8-w256-lr0.00012");
    let recipe = recipe(&args);
    assert_eq!((recipe.config.n_head, recipe.num_iterations), (4, 672));
    assert_eq!(recipe.rates.matrix.to_bits(), 0.000_12f64.to_bits());
}

#[test]
fn defaults_on_a_gpu_are_nanochats_twelve_layers() {
    let args = parse("--device cuda:1");
    let on_cuda = Request {
        precision: Precision::Bf16,
        ..Request::default()
    };
    assert_eq!(args.request(BPE_VOCAB), on_cuda);
    assert_eq!(args.hardware.spec().expect("a GPU").to_string(), "cuda:1");
    assert_eq!(
        (args.seed, args.eval_every.to_string()),
        (42, "250".to_owned())
    );
    assert_eq!(args.early_save(), EarlySave::default());
    assert_eq!((args.save_every, args.warmup_steps), (Every::Never, 40));
    assert_eq!(args.eval_tokens(), 41_943_040);
    assert_eq!((args.reduced(), args.run_name()), (None, "d12".to_owned()));
}

#[test]
fn python_values_and_repeated_flags_are_accepted() {
    let args = parse(
        "--depth=8 --lr_override=None --dry_run=True --quiet=False --depth=4 --eval_tokens=1e5",
    );
    assert_eq!(
        (args.depth, args.lr_override, args.dry_run, args.quiet),
        (4, None, true, false)
    );
    assert_eq!(args.eval_tokens(), 100_000);
    assert_eq!(parse("--lr_override=1e-05").lr_override, Some(1e-5));
}

#[test]
fn minus_one_means_the_default_like_in_nanochat() {
    let args =
        parse("--num-iterations=-1 --target-flops=-1.0 --total_batch_size -1 --eval-every -1");
    assert_eq!(
        (
            args.num_iterations,
            args.target_flops,
            args.total_batch_size
        ),
        (None, None, None)
    );
    assert_eq!(args.eval_every, Every::Never);
}

/// Every flag of `scripts/base_train.py`, of master and of the next version.
#[test]
fn every_flag_of_nanochat_is_accepted() {
    let args = parse(
        "--run=dummy --device-type= --fp8 --fp8-recipe=rowwise --depth=4 --aspect-ratio=64 --head-dim=128 \
         --max-seq-len=2048 --window-pattern=SSSL --num-iterations=-1 --target-flops=-1.0 \
         --target-param-data-ratio=-1 --device-batch-size=-1 --total-batch-size=-1 --embedding-lr=0.3 \
         --unembedding-lr=0.008 --weight-decay=0.28 --matrix-lr=0.02 --scalar-lr=0.5 --warmup-steps=40 \
         --warmdown-ratio=0.65 --final-lr-frac=0.05 --resume-from-step=-1 --eval-every=250 --eval-tokens=41943040 \
         --core-metric-every=999999 --core-metric-max-per-task=-1 --sample-every=-1 --save-every=-1 \
         --model-tag=d4 --num-shards=-1 --short-seq-len=512",
    );
    assert_eq!(
        (
            args.device_batch_size,
            args.num_shards,
            args.resume_from_step
        ),
        (None, None, None)
    );
    assert_eq!(args.target_param_data_ratio, 12.0);
    assert_eq!(
        (args.core_max_per_task, args.sample_every),
        (usize::MAX, Every::Never)
    );
    assert_eq!((args.run_name(), args.wandb_run()), ("d4".to_owned(), None));
    let again = parse("--sample-every=2000 --resume-from-step=20 --num-shards=8 --run=jan26");
    assert_eq!(
        (again.resume_from_step, again.num_shards),
        (Some(20), Some(8))
    );
    assert_eq!(
        (again.sample_every.to_string(), again.wandb_run()),
        ("2000".to_owned(), Some("jan26"))
    );
    refused("--fp8-recipe=fast", &["'fast'", "--fp8-recipe"]);
}

#[test]
fn settings_without_effect_have_one_line_each() {
    let notes = |words: &str| {
        let mut notes = parse(&format!("--device cpu {words}")).notes();
        notes.retain(|note| !note.contains("NANOCHAT_BASE_DIR")); // of whoever runs the tests
        notes
    };
    assert_eq!(notes(""), [""; 0]);
    for (words, parts) in [
        ("--fp8", ["--fp8 is not available", "in f32"]),
        (
            "--core-metric-every 999999",
            ["--core-metric-every 999999", "--core-bundle DIR"],
        ),
        (
            "--short-seq-len 256",
            ["--short-seq-len 256", "--nanochat-version master"],
        ),
    ] {
        let found = notes(words);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            parts.iter().all(|part| found[0].contains(part)),
            "{found:?}"
        );
        assert!(!found[0].contains('\n'), "{found:?}");
    }
    assert_eq!(
        notes("--short-seq-len 256 --nanochat-version next"),
        [""; 0]
    );
}

#[test]
fn name_of_the_run_has_two_spellings() {
    assert_eq!(parse("--model-tag a").name, parse("--name a").name);
    let both = parse("--model-tag a --name a");
    assert_eq!((both.name.as_deref(), both.model_tag), (Some("a"), None));
    refused(
        "--model-tag a --name b",
        &["--name b", "--model-tag a", "give one of them"],
    );
    refused("--model-tag ../a", &["'../a'", "directory"]);
}

#[test]
fn weight_decay_is_scaled_unless_it_is_overridden() {
    let decay = |words: &str| {
        let args = parse(&format!("--depth 8 --device cuda {words}"));
        recipe(&args).weight_decay
    };
    let usual = decay("");
    assert!((decay("--weight-decay 0.28") - usual).abs() < 1e-12);
    assert!((decay("--weight-decay 0.14") - 0.5 * usual).abs() < 1e-12);
    assert_eq!(decay("--weight-decay None"), usual);
    assert_eq!(decay("--weight-decay-override 0.1 --weight-decay 0.2"), 0.1);
}

#[test]
fn weight_decay_of_earlier_saved_arguments_stays_unscaled() {
    let saved = json!({ "depth": 8, "device": "cuda", "weight_decay": 0.1 });
    let args = from_saved(&saved).expect("saved arguments");
    assert_eq!(
        (args.weight_decay, args.weight_decay_override),
        (None, Some(0.1))
    );
    assert_eq!(recipe(&args).weight_decay, 0.1);
    let unset = json!({ "depth": 8, "weight_decay": null });
    let args = from_saved(&unset).expect("saved arguments");
    assert_eq!(
        (args.weight_decay, args.weight_decay_override),
        (None, None)
    );

    let saved = serde_json::to_value(parse("--weight-decay 0.1")).expect("plain data");
    let args = from_saved(&saved).expect("saved arguments");
    assert_eq!(
        (args.weight_decay, args.weight_decay_override),
        (Some(0.1), None)
    );
    assert!(from_saved(&Value::Null).is_ok(), "a run that saved nothing");
}

/// A run from before a flag existed can only be resumed if the flag's default is not saved.
#[test]
fn defaults_of_new_flags_are_not_saved() {
    let saved = serde_json::to_value(parse("")).expect("plain data");
    for flag in [
        "run",
        "model_tag",
        "fp8",
        "fp8_recipe",
        "resume_from_step",
        "init_from",
        "init_step",
        "sample_every",
        "packing",
        "strict_data",
        "log_style",
        "metric_names",
        "nanochat_version",
        "short_seq_len",
        "num_shards",
    ] {
        assert_eq!(saved.get(flag), None, "{flag}");
    }
    assert_eq!(saved["core_max_per_task"], 500);
    let changes = parse("").may_change();
    let is_free = |setting: &str| changes.iter().any(|change| change == setting);
    assert!(is_free("user.args.weight_decay_override") && is_free("user.args.log_style"));
    assert!(!is_free("user.args.packing"));
}

#[test]
fn new_flags_are_saved_and_parsed_again() {
    let words = "--device=cpu --packing=nanochat --strict-data --num-shards=3 --tokenizer=home/tokenizer \
                 --log-style=nanochat --metric-names=nanochat --nanochat-version=next --short-seq-len=128 \
                 --core-metric-max-per-task=-1 --sample-every=100 --init-from=model --init-step=20 --run=x --fp8 \
                 --weight-decay=0.2 --weight-decay-override=0.1";
    let before = parse(words);
    let saved = serde_json::to_value(&before).expect("plain data");
    assert_eq!(
        (&saved["packing"], &saved["nanochat_version"]),
        (&json!("nanochat"), &json!("next"))
    );
    assert_eq!(
        (&saved["core_max_per_task"], &saved["tokenizer"]),
        (&json!(-1), &json!("home/tokenizer"))
    );
    assert_eq!(from_saved(&saved).expect("saved arguments"), before);
}

#[test]
fn tokenizer_may_be_a_path() {
    let args = parse("--device cpu --tokenizer home/tokenizer");
    assert_eq!(args.tokenizer(), Tokenizer::Path("home/tokenizer".into()));
    assert_eq!(
        args.reduced().map(|note| note.contains("bytes as tokens")),
        Some(false)
    );
    refused(
        "--tokenizer home/tokenizer --vocab-size 512",
        &["--vocab-size 512", "`home/tokenizer` has its own ids"],
    );
}

#[test]
fn home_of_nanochat_fills_in_what_exists_there() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let home = NanochatHome {
        dir: dir.path().to_owned(),
    };
    let with_home = |words: &str| parse(words).with_home(&home);
    assert_eq!(
        with_home("--core-metric-every 5"),
        parse("--core-metric-every 5")
    );
    for name in ["base_data_climbmix", "tokenizer", "eval_bundle"] {
        fs::create_dir(dir.path().join(name)).expect("a directory");
    }
    let args = with_home("--core-metric-every 5");
    let data = dir.path().join("base_data_climbmix");
    assert_eq!(args.data.as_deref(), data.to_str());
    assert_eq!(
        args.tokenizer(),
        Tokenizer::Path(dir.path().join("tokenizer"))
    );
    assert_eq!(args.core_bundle, Some(dir.path().join("eval_bundle")));
    let words = "--data text.txt --tokenizer bytes";
    assert_eq!(with_home(words), parse(words), "given values, and no CORE");
    let trained = with_home("--vocab-size 512 --tokenizer=None --device cuda");
    assert_eq!(trained.tokenizer(), Tokenizer::Bpe);
}

#[test]
fn next_version_takes_smaller_micro_batches_of_deep_models() {
    let rows = |depth: usize, version: &str| {
        let words = format!("--depth {depth} --nanochat-version {version} --device cuda");
        recipe(&parse(&words)).micro_batch
    };
    assert_eq!([12, 20, 28].map(|depth| rows(depth, "next")), [32, 16, 8]);
    assert_eq!(
        [12, 20, 28].map(|depth| rows(depth, "master")),
        [32, 32, 32]
    );
    refused("--nanochat-version 2", &["'2'", "master or next"]);
}

#[test]
fn peak_is_given_or_that_of_a_gpu() {
    assert_eq!(parse("--device cpu").peak_flops(), None);
    assert_eq!(
        parse("--device cpu --peak-flops 1e12").peak_flops(),
        Some(1e12)
    );
    assert_eq!(
        parse("--device cuda --peak-flops 1e12").peak_flops(),
        Some(1e12)
    );
}

#[test]
fn every_alias_sets_its_flag() {
    for flag in [
        "--num-iterations",
        "--max-iterations",
        "--max_iterations",
        "--steps",
        "--num_iterations",
    ] {
        assert_eq!(
            parse(&format!("{flag} 7")).num_iterations,
            Some(7),
            "{flag}"
        );
    }
    assert_eq!(parse("--micro-batch 4").device_batch_size, Some(4));
    let metal = parse("--device_type mps")
        .hardware
        .spec()
        .expect("a Mac's GPU");
    assert_eq!(metal.to_string(), "metal");
}

#[test]
fn note_on_the_cpu_lists_only_smaller_defaults() {
    let note = parse("--device cpu")
        .reduced()
        .expect("the CPU has defaults of its own");
    for part in [
        "on the CPU",
        "context 256 (--max-seq-len 2048)",
        "--total-batch-size 524288",
        "--tokenizer bpe",
    ] {
        assert!(note.contains(part), "{note}");
    }
    let note = parse("--device cpu --max-seq-len 512 --total-batch-size 1024").reduced();
    assert!(note.is_some_and(|note| !note.contains("context") && !note.contains("micro-batch")));
    let all =
        "--device cpu --max-seq-len 64 --total-batch-size 64 --tokenizer bytes --eval-tokens 64";
    assert_eq!(parse(all).reduced(), None);
}

#[test]
fn default_batch_on_the_cpu_is_one_micro_batch() {
    let sizes = |words: &str| {
        let recipe = recipe(&parse(&format!(
            "--device cpu --depth 2 --n-embd-override 64 {words}"
        )));
        (
            recipe.micro_batch,
            recipe.total_batch_size,
            recipe.grad_accum_steps(),
        )
    };
    assert_eq!(sizes("--micro-batch 4 --max-seq-len 64"), (4, 256, 1));
    assert_eq!(sizes("--total-batch-size 16384"), (8, 16_384, 8));
}

#[test]
fn unknown_flag_is_named_with_a_similar_one() {
    refused(
        "--n_embd_overide=384",
        &["'--n_embd_overide'", "'--n-embd-override'"],
    );
    refused("--detph 8", &["'--detph'", "'--depth'"]);
    refused("--lr 0.1", &["'--lr'"]);
    refused("stray --depth 8", &["'stray'"]);
}

#[test]
fn errors_name_the_value_and_suggest_another() {
    refused(
        "--max-iterations -5",
        &["'-5'", "--num-iterations", "must be at least 1"],
    );
    refused("--max-iterations 0", &["'0'", "must be at least 1"]);
    refused(
        "--max-iterations",
        &["--num-iterations", "value is required"],
    );
    refused("--seed -1", &["'-1'", "--seed", "must be at least 0"]);
    refused("--depth 0", &["'0'", "--depth", "must be at least 1"]);
    refused("--depth eight", &["'eight'", "whole number"]);
    refused("--depth 1.5", &["'1.5'", "whole number"]);
    refused("--depth=", &["--depth"]);
    refused(
        "--lr_override=nan",
        &["'nan'", "--lr-override", "finite number above 0"],
    );
    refused("--lr-override=fast", &["'fast'", "expected a number"]);
    refused("--weight-decay=-1", &["'-1'", "0 or more"]);
    refused("--warmdown-ratio=2", &["'2'", "between 0 and 1"]);
    refused("--early-save 10%,x", &["'10%,x'", "10%,25%,50%"]);
    refused("--eval-every=-2", &["'-2'", "-1 for never"]);
    refused("--device tpu", &["'tpu'", "cuda:0"]);
    refused("--tokenizer words", &["'words'", "bytes", "bpe"]);
    refused("--name ../elsewhere", &["'../elsewhere'", "directory"]);
    refused("--dry-run=maybe", &["'maybe'", "--dry-run"]);
}

#[test]
fn contradicting_flags_are_errors() {
    refused(
        "--lr-override 0.01 --matrix-lr 0.02",
        &["--lr-override", "--matrix-lr"],
    );
    refused(
        "--tokenizer bytes --vocab-size 512",
        &["--vocab-size 512", "--tokenizer bpe", "257"],
    );
    refused("--device cpu --vocab-size 512", &["--tokenizer bpe"]);
    assert_eq!(
        parse("--device cpu --tokenizer bpe --vocab-size 512").vocab_size(),
        512
    );
}

#[test]
fn given_steps_after_the_end_are_errors_and_defaults_are_not() {
    let check =
        |words: &str, steps: u64| parse(words).check_steps(steps).map_err(|e| e.to_string());
    let message = "--early-save 500 never fires in a run of 10 steps: use steps up to 10, shares such as \
                   10%,25%,50%, or off";
    assert_eq!(check("--early-save 500", 10), Err(message.to_owned()));
    assert_eq!(check("--early-save 5,500", 10), Ok(()));
    assert_eq!(check("--early-save off", 10), Ok(()));
    assert_eq!(check("--depth 2", 10), Ok(()));
    let message = "--log-every 500 never fires in a run of 10 steps: use 10 or less";
    assert_eq!(check("--log-every 500", 10), Err(message.to_owned()));
    let timed = parse("--early-save 500 --log-every 500 --time-budget 5m");
    assert_eq!(
        timed.check_steps(timed.length(10)),
        Ok(()),
        "not known before"
    );
}

#[test]
fn time_budget_takes_the_place_of_a_number_of_steps() {
    let length = |words: &str| parse(words).length(10).to_string();
    assert_eq!(length(""), "10 steps");
    assert_eq!(length("--time_budget=90s"), "90 s");
    assert_eq!(length("--time-budget None"), "10 steps");
    for flag in ["--num-iterations 7", "--steps 7", "--target-flops 1e15"] {
        refused(
            &format!("--time-budget 5m {flag}"),
            &["--time-budget", "cannot be used with"],
        );
    }
    refused(
        "--time-budget 5",
        &["'5'", "--time-budget", "90s, 5m or 2h"],
    );
    refused("--time-budget 0s", &["'0s'", "expected a time"]);
}

#[test]
fn saved_flags_parse_to_the_same_arguments() {
    let words = "--depth=2 --n-embd-override=64 --lr-override=1e-05 --device=cpu --steps=20 \
                 --early-save=12.5%,50% --save-every=5 --tokenizer=bpe --data=a_b.txt --window-pattern=L";
    let before = parse(&format!("{words} --name x --quiet"));
    let plain = |args: &Args| serde_json::to_value(args).expect("arguments are plain data");
    let saved = flags(&plain(&before), &plain(&parse("")));
    let again = parse(&saved.join(" "));
    assert_eq!(
        Args {
            name: again.name.clone(),
            quiet: false,
            ..before
        },
        again
    );
    let of = |words: &str| flags(&plain(&parse(words)), &plain(&parse("")));
    assert_eq!(of(""), [""; 0]);
    assert_eq!(of("--time-budget 5m"), ["--time_budget=5min"]);
}

#[test]
fn help_is_grouped_and_has_every_default() {
    let help = read("--help").expect_err("help ends the program");
    assert_eq!((help.exit_code(), help.use_stderr()), (0, false));
    let text = help.to_string();
    assert!(text.starts_with("Trains one nanochat model"), "{text}");
    for heading in [
        "Model:",
        "Data:",
        "Duration:",
        "Batch:",
        "Optimization:",
        "Evaluation:",
        "Checkpoints:",
        "Run:",
    ] {
        assert!(text.contains(heading), "{heading}");
    }
    for argument in command().get_arguments() {
        let help = argument.get_help().map(ToString::to_string);
        let takes_value = argument.get_action().takes_values();
        if takes_value && argument.get_default_values().is_empty() {
            assert!(
                help.is_some_and(|help| help.contains("[default: ")),
                "the help of {} lacks its default",
                argument.get_id()
            );
        }
    }
}

#[test]
fn saved_arguments_are_named_like_the_flags() {
    let record =
        serde_json::to_value(parse("--device cuda --depth 8")).expect("arguments are plain data");
    assert_eq!(record["depth"], 8);
    assert_eq!(record["device"], "cuda");
    assert_eq!(record["early_save"], Value::Null);
    assert_eq!(record["save_every"], "never");
}
