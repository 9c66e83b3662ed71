//! Command lines of users and agents.

use super::*;
use bdh::ops::Precision;
use bdh_models::scaling::Recipe;

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
    let flags = flags(&plain(&before), &plain(&parse("")));
    let again = parse(&flags.join(" "));
    assert_eq!(
        Args {
            name: again.name.clone(),
            quiet: false,
            ..before
        },
        again
    );
    assert_eq!(
        super::flags(&plain(&parse("")), &plain(&parse(""))),
        [""; 0]
    );
    assert_eq!(
        super::flags(&plain(&parse("--time-budget 5m")), &plain(&parse(""))),
        ["--time_budget=5min"]
    );
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
