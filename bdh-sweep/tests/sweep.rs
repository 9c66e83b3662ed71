//! Sweep files mean the same as to W&B, by its own `sweeps` package.

#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;

use bdh_sweep::{Goal, Hyperband, Method, Progress, Sweep};
use judges::Judge;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

/// Returns the answers of the `sweeps` package; `None` if it is not installed.
fn ask(questions: &[Value]) -> Option<Vec<Value>> {
    let judge = Judge::modern()?;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    serde_json::to_writer(&file, questions).expect("a file");
    let answers = judge.json("sweeps_oracle.py", [file.path()]);
    Some(answers.as_array().expect("a list").clone())
}

fn sweep(method: &str, parameters: &Value) -> Value {
    json!({ "method": method, "metric": { "name": "loss" }, "parameters": parameters })
}

fn read(file: &Value) -> Result<Sweep, String> {
    // YAML contains JSON.
    file.to_string()
        .parse()
        .map_err(|error: bdh_sweep::SweepError| error.to_string())
}

fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(a), Some(b)) => {
            let is_whole = |value: &Value| value.is_i64() || value.is_u64();
            is_whole(ours) == is_whole(theirs) && (a - b).abs() <= 1e-9 * b.abs().max(1e-3)
        }
        _ => ours == theirs,
    }
}

#[test]
fn quantiles_match_the_sweeps_package() {
    let parameters = [
        json!({ "value": "adam" }),
        json!({ "value": null }),
        json!({ "values": [8, 12, 16] }),
        json!({ "values": ["a", true, null, 0.5, 3, 4, 5] }),
        json!({ "values": ["a", "b", "c"], "probabilities": [0.2, 0.5, 0.3] }),
        json!({ "min": 3, "max": 17 }),
        json!({ "min": -4, "max": 4, "distribution": "int_uniform" }),
        json!({ "min": 0.5, "max": 2.5 }),
        json!({ "min": 1, "max": 3, "distribution": "uniform" }),
        json!({ "min": 0, "max": 10, "q": 2, "distribution": "q_uniform" }),
        json!({ "min": 0.0, "max": 1.0, "q": 0.25, "distribution": "q_uniform" }),
        json!({ "min": 0.0, "max": 9.0, "distribution": "q_uniform" }),
        json!({ "min": -9.2, "max": -4.6, "distribution": "log_uniform" }),
        json!({ "min": 1e-4, "max": 1e-2, "distribution": "log_uniform_values" }),
        json!({ "min": 0.0, "max": 5.0, "q": 4, "distribution": "q_log_uniform" }),
        json!({ "min": 1.0, "max": 512.0, "q": 8, "distribution": "q_log_uniform_values" }),
        json!({ "min": 1.0, "max": 4.0, "distribution": "inv_log_uniform" }),
        json!({ "min": 1e-3, "max": 0.5, "distribution": "inv_log_uniform_values" }),
        json!({ "distribution": "normal" }),
        json!({ "mu": 3.0, "sigma": 0.25, "distribution": "normal" }),
        json!({ "mu": 3.0, "sigma": 4.0, "q": 1, "distribution": "q_normal" }),
        json!({ "mu": -1.0, "sigma": 0.5, "distribution": "log_normal" }),
        json!({ "mu": 1.0, "sigma": 0.5, "q": 0.5, "distribution": "q_log_normal" }),
        json!({ "a": 2.0, "b": 5.0, "distribution": "beta" }),
        json!({ "distribution": "beta" }),
        json!({ "a": 0.5, "b": 0.5, "q": 0.1, "distribution": "q_beta" }),
    ];
    // Avoids multiples of 1 / list length, where the last bit decides.
    let at: Vec<f64> = (0..200).map(|i| (f64::from(i) + 0.37) / 200.0).collect();
    let questions: Vec<_> = parameters
        .iter()
        .map(|parameter| json!({ "ask": "quantiles", "parameter": parameter, "at": at }))
        .collect();
    let Some(answers) = ask(&questions) else {
        return;
    };
    for (parameter, theirs) in parameters.iter().zip(&answers) {
        let space = read(&sweep("random", &json!({ "x": parameter })))
            .expect("valid")
            .space();
        for (p, theirs) in at.iter().zip(theirs.as_array().expect("a list")) {
            let ours = &space.at(&[*p])["x"];
            assert!(
                same(ours, theirs),
                "{parameter} at {p}: {ours}, and sweeps has {theirs}"
            );
        }
    }
}

#[test]
fn grid_order_matches_the_sweeps_package() {
    let parameters = json!({
        "width": { "values": [256, 384] },
        "depth": { "min": 2, "max": 4 },
        "seed": { "value": 7 },
        "optimizer": { "parameters": {
            "name": { "values": ["muon", "adamw"] },
            "beta": { "min": 0.5, "max": 1.0, "q": 0.25, "distribution": "q_uniform" },
            "more": { "parameters": { "decay": { "values": [0.0, 0.1] } } },
        } },
    });
    let file = sweep("grid", &parameters);
    let space = read(&file).expect("valid").space();
    let ours: Vec<_> = space.grid().expect("a grid").map(Value::Object).collect();
    assert_eq!(ours.len(), 2 * 3 * 2 * 2 * 2);
    assert_eq!(
        space
            .grid()
            .expect("a grid")
            .nth(17)
            .map(Value::Object)
            .as_ref(),
        ours.get(17)
    );
    assert_eq!(space.grid().expect("a grid").nth(48), None);
    let Some(answers) = ask(&[json!({ "ask": "grid", "sweep": file, "count": ours.len() })]) else {
        return;
    };
    assert_eq!(Value::Array(ours), answers[0]);
}

#[test]
fn grid_may_have_more_points_than_fit_into_memory() {
    let all = json!({ "min": i64::MIN, "max": i64::MAX });
    let tiny_steps = json!({ "min": 0.0, "max": 1.0, "q": 1e-12, "distribution": "q_uniform" });
    let file = sweep(
        "grid",
        &json!({ "a": all, "b": tiny_steps, "c": { "values": [1, 2] } }),
    );
    let text = file.to_string().replace("1e-12", "1.0e-12"); // without a dot W&B reads a text
    let space = text.parse::<Sweep>().expect("valid").space();
    let mut grid = space.grid().expect("a grid");
    assert_eq!(grid.next().expect("the first")["a"], json!(i64::MIN));
    let point = grid.nth(2_000_000_000_001).expect("one far away");
    assert_eq!(
        (&point["a"], &point["c"]),
        (&json!(i64::MIN + 1), &json!(1))
    );
}

#[test]
fn hyperband_matches_the_sweeps_package() {
    let rules = [
        json!({ "type": "hyperband", "min_iter": 3 }),
        json!({ "type": "hyperband", "min_iter": 2, "eta": 2, "strict": false }),
        json!({ "type": "hyperband", "max_iter": 27, "s": 2 }),
        json!({ "type": "hyperband", "max_iter": 20, "s": 3, "eta": 2, "strict": true }),
    ];
    let value = proptest::num::f64::NORMAL.prop_map(|x| (x % 10.0).abs());
    let run = (
        proptest::collection::vec(value, 0..30),
        proptest::bool::weighted(0.7),
    );
    let runs = proptest::collection::vec(run, 1..12);
    let mut runner = TestRunner::deterministic();
    let mut cases = Vec::new();
    for rule in &rules {
        for goal in ["minimize", "maximize"] {
            for _ in 0..40 {
                let runs = runs.new_tree(&mut runner).expect("runs").current();
                let runs: Vec<_> = runs
                    .into_iter()
                    .map(|(history, is_running)| Progress {
                        history,
                        is_running,
                    })
                    .collect();
                cases.push((rule, goal, runs));
            }
        }
    }
    let question = |(rule, goal, runs): &(&Value, &str, Vec<Progress>)| {
        let runs = runs
            .iter()
            .map(|run| json!({ "history": run.history, "is_running": run.is_running }));
        let metric = json!({ "name": "loss", "goal": goal });
        let file = json!({
            "method": "random", "metric": metric, "early_terminate": rule, "parameters": { "x": { "min": 0.0, "max": 1.0 } },
        });
        json!({ "ask": "ends", "sweep": file, "runs": runs.collect::<Vec<_>>() })
    };
    let questions: Vec<_> = cases.iter().map(question).collect();
    let Some(answers) = ask(&questions) else {
        return;
    };
    let mut ended = 0;
    for ((rule, goal, runs), theirs) in cases.iter().zip(&answers) {
        let hyperband: Hyperband = serde_json::from_value((*rule).clone()).expect("valid");
        let goal = if *goal == "minimize" {
            Goal::Minimize
        } else {
            Goal::Maximize
        };
        let ours = hyperband.ends(runs, goal);
        let ours: Vec<_> = (0..runs.len()).filter(|index| ours[*index]).collect();
        assert_eq!(json!(ours), *theirs, "{rule} {goal:?} {runs:#?}");
        ended += ours.len();
    }
    assert!(ended > 100, "{ended}");
}

#[test]
fn validation_matches_the_sweeps_package() {
    let one = |parameter: Value| sweep("random", &json!({ "x": parameter }));
    let files = [
        one(json!({ "min": 0.0, "max": 1.0 })),
        one(json!({ "min": 1, "max": 1 })),
        one(json!({ "min": 2.0, "max": 1.0 })),
        one(json!({ "min": 0.0 })),
        one(json!({ "values": [] })),
        one(json!({ "values": [1], "min": 0 })),
        one(json!({ "value": 1, "values": [1] })),
        one(json!({ "values": [1, 2], "probabilities": [0.5] })),
        one(json!({ "values": [1, 2], "probabilities": [0.5, 0.6] })),
        one(json!({ "distribution": "normal", "sigma": -1.0 })),
        one(json!({ "distribution": "normal", "min": 0.0 })),
        one(json!({ "distribution": "gaussian" })),
        one(json!({ "distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0 })),
        one(json!({ "distribution": "log_uniform_values", "min": 0.0, "max": 1.0 })),
        one(json!({ "distribution": "int_uniform", "min": 0.5, "max": 2 })),
        one(json!({ "parameters": { "y": { "value": 1 } } })),
        one(json!({ "parameters": { "y": { "value": 1 } }, "value": 2 })),
        one(json!({})),
        json!({ "method": "hillclimb", "parameters": { "x": { "value": 1 } } }),
        json!({ "parameters": { "x": { "value": 1 } } }),
        json!({ "method": "random", "parameters": { "x": { "value": 1 } }, "early_terminate": { "type": "median" }, "metric": { "name": "loss" } }),
        json!({ "method": "random", "parameters": { "x": { "value": 1 } }, "metrik": { "name": "loss" } }),
        json!({ "method": "bayes", "metric": { "name": "loss", "goal": "maximize" }, "run_cap": 5, "parameters": { "x": { "min": 0, "max": 9 } },
                "project": "p", "entity": "e", "description": "d", "name": "n", "program": "p", "command": ["${program}", "${args}"] }),
    ];
    let questions: Vec<_> = files
        .iter()
        .map(|file| json!({ "ask": "is_valid", "sweep": file }))
        .collect();
    let Some(answers) = ask(&questions) else {
        return;
    };
    for (file, theirs) in files.iter().zip(&answers) {
        let ours = read(file);
        assert_eq!(ours.is_ok(), *theirs == json!(true), "{file}: {ours:?}");
    }
}

#[test]
fn errors_have_the_key_the_line_and_a_correction() {
    let head = "method: random\nmetric: { name: loss }\nparameters:\n  depth: { values: [2, 4] }\n";
    for (rest, parts) in [
        (
            "  lr:\n    min: 0.1\n    maks: 1.0\n",
            &["parameters.lr", "`maks`", "`max`", "line 7"][..],
        ),
        (
            "  lr:\n    min: 2.0\n    max: 1.0\n",
            &[
                "parameters.lr",
                "min 2.0 is not less than max 1.0",
                "line 6",
            ],
        ),
        (
            "  lr:\n    min: 0.1\n    max: 1.0\n    distribution: log_unifrom\n",
            &[
                "parameters.lr",
                "`log_unifrom`",
                "`log_uniform_values`",
                "line 8",
            ],
        ),
        (
            "  lr:\n    values: [1]\n    q: 2\n",
            &[
                "parameters.lr",
                "`q` is not for this distribution, which takes values",
                "line 6",
            ],
        ),
        ("  lr: 0.1\n", &["parameters.lr", "0.1", "line 5"]),
        (
            "  lr:\n    min: 1\n    max: 1000\n    distribution: log_uniform\n",
            &[
                "parameters.lr",
                "exponents of e",
                "`distribution: log_uniform_values`",
            ],
        ),
        ("eta: 3\n", &["`eta`", "`run_cap`", "line 5"]),
        (
            "early_terminate:\n  type: hyperband\n",
            &["early_terminate", "`min_iter`", "line 6"],
        ),
    ] {
        let error = format!("{head}{rest}")
            .parse::<Sweep>()
            .expect_err(rest)
            .to_string();
        for part in parts {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }
    let uncountable = "method: grid\nparameters:\n  lr: { min: 0.1, max: 1.0 }\n";
    let error = uncountable
        .parse::<Sweep>()
        .expect_err("no grid")
        .to_string();
    assert!(
        error.contains("`lr`") && error.contains("q_uniform"),
        "{error}"
    );
}

/// Parses a search over `lr` with these settings.
fn with_lr(settings: &str) -> Result<Sweep, String> {
    let yaml = format!("method: random\nparameters:\n  lr: {{ {settings} }}\n");
    yaml.parse()
        .map_err(|error: bdh_sweep::SweepError| error.to_string())
}

/// Asserts that the result is an error with these parts.
fn refused<T: std::fmt::Debug>(result: Result<T, String>, parts: &[&str]) {
    let error = result.expect_err(parts[0]);
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
}

#[test]
fn values_that_differ_for_wandb_are_rejected_with_a_line() {
    let one = |value: &str| with_lr(&format!("values: [0.5, {value}]"));
    for (value, part) in [
        (".inf", "not a finite number"),
        ("-.INF", "not a finite number"),
        (".nan", "not a finite number"),
        ("off", "`off` is false to W&B"),
        ("Yes", "`Yes` is true to W&B"),
        ("524_288", "is 524288 to W&B"),
        ("010", "is 8 to W&B"),
        (
            "1e-3",
            "`1e-3` is a text to W&B, which reads YAML 1.1, and 0.001 here: write 0.001",
        ),
        ("12:30", "is 750 to W&B"),
        ("2026-11-30", "a date to W&B"),
    ] {
        refused(one(value), &[part, "at line 3"]);
        let quoted = one(&format!("\"{value}\"")).expect("a text in quotes is a text");
        assert_eq!(quoted.space().at(&[0.9])["lr"], json!(value));
    }
    for (value, expected) in [
        ("true", json!(true)),
        ("null", json!(null)),
        ("adam", json!("adam")),
        ("1.0e-3", json!(0.001)),
    ] {
        let space = one(value).expect("the same everywhere").space();
        assert_eq!(space.at(&[0.9])["lr"], expected);
    }
    // Keys are checked too, and values of W&B's own keys.
    let key = "method: random\nparameters:\n  off: { value: 1 }\n".parse::<Sweep>();
    refused(
        key.map_err(|error| error.to_string()),
        &["`off` is false to W&B", "line 3"],
    );
    let name =
        "name: 2026-11-30\nmethod: random\nparameters: { lr: { value: 1 } }\n".parse::<Sweep>();
    refused(
        name.map_err(|error| error.to_string()),
        &["a date to W&B", "line 1"],
    );
}

#[test]
fn merge_and_repeated_keys_are_rejected_and_a_bom_is_skipped() {
    let parse = |text: &str| text.parse::<Sweep>().map_err(|error| error.to_string());
    let lr = "lr: { min: 0.1, max: 1.0 }";
    let marked = parse(&format!("\u{feff}method: random\nparameters: {{ {lr} }}\n"));
    assert_eq!(
        marked,
        parse(&format!("method: random\nparameters: {{ {lr} }}\n"))
    );
    assert!(marked.is_ok());
    let merged =
        format!("method: random\nparameters:\n  a: &a {{ value: 1 }}\n  <<: {{ {lr} }}\n  b: *a\n");
    refused(parse(&merged), &["`<<` merges keys in W&B only", "line 4"]);
    refused(
        parse("method: random\nparameters:\n  b:\n    <<: { value: 1 }\n"),
        &["<<", "line 4"],
    );
    let twice = |below: &str| parse(&format!("method: random\nparameters:\n{below}"));
    refused(
        twice(&format!("  {lr}\n  {lr}\n")),
        &["`lr` occurs here twice", "line 3"],
    );
    refused(
        twice("  a: { parameters: { b: { value: 1 }, b: { value: 2 } } }\n"),
        &["`b` occurs here twice"],
    );
    refused(
        twice("  a: { value: 1, value: 2 }\n"),
        &["duplicate field `value`", "line 3"],
    );
    refused(
        parse("method: random\nmethod: grid\n"),
        &["duplicate field `method`"],
    );
}

#[test]
fn words_of_a_file_are_read_as_by_pyyaml() {
    let words = vec![
        "yes",
        "Yes",
        "YES",
        "yEs",
        "no",
        "on",
        "off",
        "OFF",
        "y",
        "n",
        "true",
        "True",
        "FALSE",
        "~",
        "null",
        "Null",
        "nil",
        "0",
        "-0",
        "+7",
        "7",
        "010",
        "-010",
        "08",
        "0_7",
        "0o10",
        "0x1F",
        "0x_1",
        "-0x10",
        "0b11",
        "0b12",
        "524_288",
        "1_",
        "_1",
        "12:30",
        "-190:20:30",
        "12:60",
        "1:2:3",
        "0:30",
        "1.",
        "0.5",
        ".5",
        "-.5",
        "+.5",
        "-0.5",
        "1_0.5",
        "1e-3",
        "1e3",
        "1E5",
        "1.0e-3",
        "1.e+3",
        "1.0e3",
        "1.0E+3",
        ".1e+2",
        "190:20:30.5",
        "1.2.3",
        "inf",
        "nan",
        "1-2-3",
        "10%",
        "a:b",
        "18446744073709551615",
        "18446744073709551616",
        "1.0e+308",
        "adam",
        "-x",
        "+",
        "1e",
        "e5",
        "0.1e-5",
    ];
    let Some(answers) = ask(&[json!({ "ask": "yaml", "words": words })]) else {
        return;
    };
    let mut refusals = 0;
    for (word, theirs) in words.iter().zip(answers[0].as_array().expect("a list")) {
        match with_lr(&format!("value: {word}")) {
            Ok(sweep) => assert_eq!(sweep.space().at(&[])["lr"], *theirs, "{word}"),
            Err(why) => {
                assert!(
                    why.contains(&format!("`{word}`")) && why.contains("line 3"),
                    "{why}"
                );
                refusals += 1;
            }
        }
    }
    assert!(
        (20..40).contains(&refusals),
        "{refusals}: unambiguous words are accepted"
    );
}

#[test]
fn learning_rate_given_as_an_exponent_is_rejected() {
    for law in ["log_uniform", "q_log_uniform", "inv_log_uniform"] {
        let error = with_lr(&format!("distribution: {law}, min: 0.0001, max: 0.01"));
        refused(
            error,
            &[
                "min 0.0001 is an exponent of e, and e^0.0001 is 1.0001",
                "`distribution: log_uniform_values`",
            ],
        );
    }
    assert!(with_lr("distribution: log_uniform, min: -9.2, max: 0.5").is_ok());
    assert!(with_lr("distribution: q_log_uniform, min: 0, max: 5").is_ok());
}

#[test]
fn command_without_values_is_rejected() {
    let parse = |command: &str| {
        let text = format!(
            "method: grid\nparameters: {{ lr: {{ values: [1, 2] }} }}\ncommand: {command}\n"
        );
        text.parse::<Sweep>().map_err(|error| error.to_string())
    };
    for command in ["[train]", "[]", "[train, '${program}', args]"] {
        refused(
            parse(command),
            &["`command` passes no values", "add the word '${args}'"],
        );
    }
    for command in [
        "[train, '${args}']",
        "['${args_json_file}']",
        "['${args_no_boolean_flags}']",
    ] {
        assert!(parse(command).is_ok(), "{command}");
    }
}

#[test]
fn extreme_settings_work_or_are_rejected_quickly() {
    let began = std::time::Instant::now();
    let finite = |settings: &str| {
        let space = with_lr(settings)
            .unwrap_or_else(|error| panic!("{settings}: {error}"))
            .space();
        let mut before = f64::NEG_INFINITY;
        for p in [
            0.0,
            f64::EPSILON / 2.0,
            1e-9,
            0.1,
            0.5,
            0.9,
            1.0 - 1e-9,
            1.0,
        ] {
            let value = space.at(&[p])["lr"].as_f64().unwrap_or(f64::NAN);
            assert!(
                value.is_finite() && value >= before - 1e-12,
                "{settings} at {p}: {value} after {before}"
            );
            before = value;
        }
    };
    for settings in [
        "distribution: normal",
        "distribution: log_normal, sigma: 5.0",
        "distribution: beta, a: 0.001, b: 0.001",
        "distribution: beta, a: 0.001, b: 1000000.0",
        "distribution: beta, a: 1000000.0, b: 0.001",
        "distribution: beta, a: 1000000.0, b: 1000000.0",
        "distribution: uniform, min: -1.0e+300, max: 1.0e+300",
        "min: -9223372036854775808, max: 9223372036854775807",
    ] {
        finite(settings);
    }
    for (settings, part) in [
        (
            "distribution: beta, a: 1.0e-300, b: 1.0",
            "must be from 0.001 to 1000000",
        ),
        (
            "distribution: beta, a: 1.0, b: 1.0e+300",
            "must be from 0.001 to 1000000",
        ),
        (
            "distribution: log_normal, sigma: 1.0e+9",
            "beyond the largest number",
        ),
        (
            "distribution: normal, sigma: 1.0e+308",
            "beyond the largest number",
        ),
        ("min: -1.7e+308, max: 1.7e+308", "beyond the largest number"),
    ] {
        refused(with_lr(settings), &[part, "line 3"]);
    }
    let stops = |settings: &str| {
        let head =
            "method: random\nmetric: { name: loss }\nparameters: { lr: { min: 0.1, max: 1.0 } }\n";
        let text = format!("{head}early_terminate: {{ type: hyperband, {settings} }}\n");
        text.parse::<Sweep>().map_err(|error| error.to_string())
    };
    refused(
        stops("max_iter: 1.0e+300, s: 1.0e+18, eta: 1.0000001"),
        &["more than 100 bands", "line 4"],
    );
    refused(
        stops("max_iter: 27, s: -1.0e+18"),
        &["there is no band", "line 4"],
    );
    let widest = stops("max_iter: 27, s: 1.0e+18")
        .expect("three bands")
        .early_terminate
        .expect("a rule");
    let runs = vec![
        Progress {
            history: vec![1.0; 100],
            is_running: true
        };
        3
    ];
    assert_eq!(widest.ends(&runs, Goal::Minimize), [false; 3]);
    assert!(stops("min_iter: 1.0e+300, eta: 1.0e+300").is_ok());
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn megabyte_file_is_read_or_rejected_quickly() {
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(200_000), close.repeat(200_000));
        format!("method: random\nparameters:\n  lr: {open}{close}\n")
    };
    let many: Vec<_> = (0..60_000).map(|value| format!("{value}.5")).collect();
    let nested = |depth: usize| {
        let (open, close) = ("{ parameters: { a: ".repeat(depth), " } }".repeat(depth));
        format!("method: random\nparameters: {{ a: {open}{{ value: 1 }}{close} }}\n")
    };
    for (text, is_valid) in [
        (deep("[", "]"), false),
        (deep("{a: ", "}"), false),
        (deep("\n  - ", ""), false),
        (
            format!(
                "method: random\nparameters:\n  lr:\n  {}1\n",
                "- ".repeat(200_000)
            ),
            false,
        ),
        (
            format!(
                "method: random\nparameters:\n  lr:\n  {}1\n",
                "? ".repeat(200_000)
            ),
            false,
        ),
        (
            format!(
                "method: random\nparameters:\n  lr: {}1\n",
                "&a ".repeat(200_000)
            ),
            false,
        ),
        (
            format!(
                "method: random\nparameters:\n  lr: {{ values: [{}] }}\n",
                many.join(", ")
            ),
            true,
        ),
        (nested(40), true),
        (nested(5_000), false),
    ] {
        let began = std::time::Instant::now();
        let read = text
            .parse::<Sweep>()
            .map(drop)
            .map_err(|error| error.to_string());
        assert_eq!(read.is_ok(), is_valid, "{read:?}");
        let head: String = text.chars().take(60).collect();
        assert!(
            began.elapsed().as_secs() < 10,
            "{:?} for {head}",
            began.elapsed()
        );
    }
}

#[test]
fn sweep_file_at_the_root_is_the_requested_search() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sweep.yaml");
    let sweep = Sweep::read(path).expect("a sweep");
    assert_eq!(sweep.method, Method::Random);
    let metric = sweep.metric.as_ref().expect("a metric");
    assert_eq!(
        (metric.name.as_str(), metric.goal),
        ("val_bpb", Goal::Minimize)
    );
    let space = sweep.space();
    let names: Vec<_> = space.random(42, 0).keys().cloned().collect();
    assert_eq!(names, ["depth", "lr_override", "n_embd_override"]);
    let trials: Vec<Map<String, Value>> = (0..200).map(|index| space.random(42, index)).collect();
    for trial in &trials {
        let lr = trial["lr_override"].as_f64().expect("a number");
        assert!((1e-4..=1e-2).contains(&lr));
        assert!([8, 12, 16].contains(&trial["depth"].as_i64().expect("a number")));
        assert!(
            [256, 384, 512, 768].contains(&trial["n_embd_override"].as_i64().expect("a number"))
        );
    }
    let below = trials
        .iter()
        .filter(|trial| trial["lr_override"].as_f64() < Some(1e-3))
        .count();
    assert!(
        (70..=130).contains(&below),
        "about half of the trials are in each decade: {below} of 200"
    );
    assert_eq!(
        space.random(42, 5),
        trials[5],
        "a trial depends only on its number"
    );
}

#[test]
fn values_are_formatted_as_by_python() {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-7),
        json!(u64::MAX),
        json!("a b"),
        json!("it's"),
        json!([
            "it's",
            "\"both\" it's",
            "back\\slash",
            "line\nbreak\ttab",
            "ünï",
            "\u{1}"
        ]),
        json!({ "depth": 2, "in": { "lr": 1e-5, "on": false }, "list": [1.0, null, []], "empty": {} }),
    ];
    values.extend(
        [
            0.0,
            -0.0,
            1.0,
            0.1,
            1e-4,
            1e-5,
            1.5e-7,
            1e15,
            1e16,
            1.5e16,
            123_456.789,
            1e300,
            5e-324,
            0.1 + 0.2,
        ]
        .map(|x| json!(x)),
    );
    let Some(theirs) = ask(&[json!({ "ask": "spelled", "values": values })]) else {
        return;
    };
    let file: Sweep = read(
        &json!({ "method": "random", "parameters": { "x": { "value": 1 } },
                                    "command": ["${args_no_equals}"] }),
    )
    .expect("a sweep");
    let ours: Vec<String> = values
        .iter()
        .map(|value| {
            let values = Map::from_iter([("x".to_owned(), value.clone())]);
            file.command_line(&values, "", std::path::Path::new(""))
                .expect("words")
                .remove(1)
        })
        .collect();
    assert_eq!(json!(ours), theirs[0]);
}
