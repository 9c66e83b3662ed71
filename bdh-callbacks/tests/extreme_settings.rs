//! Settings at their extremes are refused in a sentence, or work: no panic, no abort, no memory without end.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Callback, OnError, Problem, callbacks_from_toml, every, registered_callbacks};
use serde_json::{Map, Value, json};

/// Trains the tiny model with a callback of these settings; gives the refusal, or what failed.
fn outcome(name: &str, settings: &Map<String, Value>) -> Result<Vec<Problem>, String> {
    let entry = registered_callbacks()
        .into_iter()
        .find(|entry| entry.name == name);
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
        .map(|fitted| fitted.problems)
        .map_err(|error| error.to_string())
}

/// The values that a number in a configuration may have.
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

/// Every setting of every callback that is a number, or may be one.
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
    for entry in registered_callbacks() {
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
fn every_number_of_every_callback_at_its_extremes_is_refused_in_a_sentence_or_works() {
    let _alone = tiny::alone();
    let numbers = numbers();
    assert!(numbers.len() > 20, "{numbers:?}");
    for (name, key, usual) in numbers {
        for value in extremes(&usual) {
            let mut settings = Map::from_iter([(key.clone(), value.clone())]);
            if name == "samples" {
                settings.entry("max_tokens").or_insert(json!(3));
                settings.insert("cadence".to_owned(), json!("last"));
                settings.insert("prompts".to_owned(), json!(["abc"]));
            }
            match outcome(name, &settings) {
                Ok(problems) => {
                    let is_panic = |problem: &Problem| problem.error.contains("panicked");
                    assert!(
                        !problems.iter().any(is_panic),
                        "{name} with {key} = {value}: {problems:?}"
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
fn what_cannot_work_is_refused_with_the_value_and_what_would() {
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
fn cadences_at_their_extremes_are_refused_in_a_sentence_or_work() {
    let _alone = tiny::alone();
    for every in [
        "every 18446744073709551615 steps | last",
        "every 18446744073709551615 tokens | last",
        "every 1e300s | last",
        "every 1e-300s | last",
        "every 0s",
        "log-spaced 4294967295 per decade",
        "at 0,18446744073709551615 steps",
        "between 0 and 18446744073709551615 steps",
    ] {
        let text = format!("[[callback]]\nuse = \"norms\"\nevery = \"{every}\"");
        let built = callbacks_from_toml(&text)
            .and_then(|callbacks| tiny::run(6).callbacks(callbacks).build());
        match built {
            Ok(trainer) => assert_eq!(trainer.fit().expect("a fit").problems, [], "{every}"),
            Err(error) => assert!(error.to_string().contains("cadence"), "{every}: {error}"),
        }
    }
}

#[test]
fn a_run_without_end_is_planned() {
    let callbacks: [Box<dyn Callback>; 2] = [
        Box::new(bdh_callbacks::Samples::default()),
        Box::new(bdh_callbacks::EarlyCheckpoints::default()),
    ];
    let trainer = tiny::run(u64::MAX)
        .callbacks(callbacks)
        .build()
        .expect("until it is stopped");
    assert_eq!(trainer.plan().rows[1].firings, None);
}

/// The tiny model, which sees no more than 4 tokens.
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
fn samples_of_a_model_that_sees_less_than_their_context_are_made_from_what_it_sees() {
    let samples = bdh_callbacks::Samples::builder()
        .prompts(["abcdefgh"])
        .max_tokens(20)
        .build();
    let samples = bdh::Attach::or_else(samples.expect("valid settings"), OnError::Abort);
    let task = bdh::NextToken::new(tiny::Rows::of(2), tiny::val()).vocabulary(tiny::Letters);
    let run = bdh::Trainer::builder(
        task,
        Short {
            inner: tiny::Tiny::new(0.0),
        },
    )
    .stop_on_signals(false);
    let run = run
        .optimizer(burn::optim::AdamWConfig::new().build(), 0.01)
        .steps(2)
        .callback(samples);
    run.build().expect("a valid run").fit().expect("no panic");
}
