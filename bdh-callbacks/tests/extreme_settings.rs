//! Extreme settings work, or are refused with a sentence: no panic, no abort, no unbounded memory.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::{Callback, ErrorPolicy, Warning, registry};
use serde_json::{Map, Value, json};

/// Trains the tiny model with a callback of these settings. Returns the run's warnings, or the error.
fn outcome(name: &str, settings: &Map<String, Value>) -> Result<Vec<Warning>, String> {
    let entry = registry::all().into_iter().find(|entry| entry.name == name);
    let entry = entry.expect("a registered callback");
    let callback =
        (entry.build)(Value::Object(settings.clone())).map_err(|error| error.to_string())?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = tiny::run(6)
        .grad_accum_steps(2)
        .clip_grad_norm(1.0)
        .eval(every(2))
        .run_dir(dir.path());
    let trainer = run
        .callback(callback)
        .build()
        .map_err(|error| error.to_string())?;
    trainer
        .fit()
        .map(|fitted| fitted.warnings)
        .map_err(|error| error.to_string())
}

/// Returns extreme values of a numeric setting.
fn extremes(usual: &Value) -> Vec<Value> {
    match usual {
        Value::Number(number) if number.is_f64() => [0.0, 1.0, -1.0, 1e300, 5e-324, -1e300]
            .map(Value::from)
            .into(),
        _ => vec![
            json!(0),
            json!(1),
            json!(u64::MAX),
            json!(u32::MAX),
            json!(1_000_000_000),
            json!(-1),
        ],
    }
}

/// Returns every numeric setting of every callback, optional ones included.
fn numbers() -> Vec<(&'static str, String, Value)> {
    let optional = [
        ("early_stop", "threshold", json!(0.5)),
        ("early_stop", "divergence", json!(0.5)),
        ("samples", "top_k", json!(3)),
        ("samples", "top_p", json!(0.5)),
        ("throughput", "peak_flops", json!(1e9)),
    ];
    let mut all: Vec<_> = optional
        .into_iter()
        .map(|(name, key, value)| (name, key.to_owned(), value))
        .collect();
    for entry in registry::all() {
        let config = entry
            .default()
            .map(|callback| callback.config())
            .unwrap_or_default();
        for (key, value) in config.as_object().into_iter().flatten() {
            if value.is_number() {
                all.push((entry.name, key.clone(), value.clone()));
            }
        }
    }
    all
}

#[test]
fn extreme_numbers_work_or_are_refused_with_a_sentence() {
    let _alone = tiny::alone();
    let numbers = numbers();
    assert!(numbers.len() > 20, "{numbers:?}");
    for (name, key, usual) in numbers {
        for value in extremes(&usual) {
            let mut settings = Map::from_iter([(key.clone(), value.clone())]);
            if name == "samples" {
                settings.entry("max_tokens").or_insert(json!(3));
                settings.insert("on".to_owned(), json!("last"));
                settings.insert("prompts".to_owned(), json!(["abc"]));
            }
            match outcome(name, &settings) {
                Ok(warnings) => {
                    let is_panic = |warning: &Warning| warning.cause.contains("panicked");
                    assert!(
                        !warnings.iter().any(is_panic),
                        "{name} with {key} = {value}: {warnings:?}"
                    );
                }
                Err(text) => {
                    assert!(
                        text.len() > 20 && !text.contains("panicked"),
                        "{name} with {key} = {value}: {text}"
                    );
                }
            }
        }
    }
}

#[test]
fn refusals_have_the_value_and_values_that_work() {
    let refused = |name: &str, key: &str, value: Value| {
        outcome(name, &Map::from_iter([(key.to_owned(), value)])).expect_err("it cannot work")
    };
    let wrong = |name: &str| format!("the settings of callback `{name}` are wrong: ");
    assert_eq!(
        refused("histograms", "bins", json!(1_000_000_000)),
        wrong("histograms") + "`bins` is 1000000000; use 1 to 10000, such as 64"
    );
    assert_eq!(
        refused("early_stop", "patience", json!(0)),
        wrong("early_stop") + "`patience` is 0; use 1 or more"
    );
    assert_eq!(
        refused("checkpoints", "keep", json!(0)),
        wrong("checkpoints") + "`keep` is 0; use 1 or more"
    );
    for name in ["histograms", "norms", "ratios", "overlay", "ridges"] {
        assert_eq!(
            refused(name, "params", json!({ "limit": 0 })),
            wrong(name) + "`limit` is 0; use 1 or more"
        );
    }
}

#[test]
fn extreme_cadences_work_or_are_refused_with_a_sentence() {
    let _alone = tiny::alone();
    for on in [
        "every 18446744073709551615 steps | last",
        "every 18446744073709551615 tokens | last",
        "every 1e300s | last",
        "every 1e-300s | last",
        "every 0s",
        "log-spaced 4294967295 per decade",
        "at 0,18446744073709551615 steps",
        "between 0 and 18446744073709551615 steps",
    ] {
        let text = format!("[[callback]]\nuse = \"norms\"\non = \"{on}\"");
        let built = registry::from_toml(&text)
            .and_then(|callbacks| tiny::run(6).callbacks(callbacks).build());
        match built {
            Ok(trainer) => assert_eq!(trainer.fit().expect("a fit").warnings, [], "{on}"),
            Err(error) => assert!(error.to_string().contains("cadence"), "{on}: {error}"),
        }
    }
}

#[test]
fn endless_run_is_planned() {
    let callbacks: [Box<dyn Callback>; 2] = [
        Box::new(bdh_callbacks::Samples::default()),
        Box::new(bdh_callbacks::EarlyCheckpoints::default()),
    ];
    let trainer = tiny::run(u64::MAX)
        .callbacks(callbacks)
        .build()
        .expect("a valid run");
    assert_eq!(trainer.plan().rows[1].firings, None);
}

/// The tiny model with a context of 4 tokens.
#[derive(bdh::burn::module::Module, Debug)]
struct Short {
    inner: tiny::Tiny,
}

use bdh::burn;

impl bdh::CausalLm for Short {
    fn logits(
        &self,
        tokens: burn::tensor::Tensor<2, burn::tensor::Int>,
        probe: &bdh::Probe<'_>,
    ) -> burn::tensor::Tensor<3> {
        assert!(tokens.dims()[1] <= 4, "longer than its table of positions");
        self.inner.logits(tokens, probe)
    }

    fn max_context(&self) -> Option<usize> {
        Some(4)
    }
}

#[test]
fn samples_keep_to_the_context_of_the_model() {
    let samples = bdh_callbacks::Samples::default()
        .prompts(["abcdefgh"])
        .max_tokens(20);
    let samples = bdh::CallbackExt::on_error(samples, ErrorPolicy::Abort);
    let task = bdh::NextToken::new().vocabulary(tiny::Letters);
    let model = Short {
        inner: tiny::Tiny::new(0.0),
    };
    let run = bdh::Trainer::builder(task, model)
        .train_data(tiny::Rows::of(2))
        .eval_data("val", tiny::val())
        .stop_on_signals(false);
    let run = run
        .optimizer(burn::optim::AdamWConfig::new().build(), 0.01)
        .steps(2)
        .callback(samples);
    run.build().expect("a valid run").fit().expect("no panic");
}
