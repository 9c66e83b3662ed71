//! Settings and outcome of a run, for TensorBoard's HParams page.
//!
//! TensorBoard uses the first description of an experiment that it finds in any run, and hides everything that is not
//! in it. So none is written: TensorBoard then shows all settings of all runs, and every scalar.

mod proto;

use crate::proto::{DataClass, DataType, Dim, Metadata, PluginData, Shape, Tensor, Value};
use bdh::{Outcome, RunInfo};
use prost::Message;
use proto::{HParam, HParams, Kind, SessionEnd, SessionStart};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Tag of the settings.
pub(super) const START: &str = "_hparams_/session_start_info";

/// Tag of the outcome.
pub(super) const END: &str = "_hparams_/session_end_info";

const SUCCESS: i32 = 1;
const FAILURE: i32 = 2;

/// Returns the settings of a run.
pub(super) fn start(run: &RunInfo) -> Value {
    let info = SessionStart {
        hparams: settings(run),
        start_time_secs: run.started_at,
    };
    value(
        START,
        &HParams {
            session_start_info: Some(info),
            session_end_info: None,
        },
    )
}

/// Returns the outcome of a run that ended at `time`, in seconds since 1970.
pub(super) fn end(outcome: &Outcome, time: f64) -> Value {
    let status = if matches!(outcome, Outcome::Failed(_)) {
        FAILURE
    } else {
        SUCCESS
    };
    let info = SessionEnd {
        status,
        end_time_secs: time,
    };
    value(
        END,
        &HParams {
            session_start_info: None,
            session_end_info: Some(info),
        },
    )
}

/// Returns a value whose content is in its metadata; the empty tensor is required by readers.
fn value(tag: &str, content: &HParams) -> Value {
    let plugin = PluginData {
        plugin_name: "hparams".to_owned(),
        content: content.encode_to_vec(),
    };
    let tensor = Tensor {
        dtype: DataType::Float.into(),
        shape: Some(Shape {
            dim: vec![Dim { size: 0 }],
        }),
        ..Tensor::default()
    };
    let metadata = Metadata {
        plugin_data: Some(plugin),
        data_class: DataClass::Tensor.into(),
    };
    Value {
        tag: tag.to_owned(),
        tensor: Some(tensor),
        metadata: Some(metadata),
    }
}

/// Returns the seed with the user's configuration, or with the trainer's settings if there is none.
fn settings(run: &RunInfo) -> BTreeMap<String, HParam> {
    let mut settings = BTreeMap::new();
    let user = &run.config["user"];
    if user.is_null() {
        add_trainer_settings(&run.config, &mut settings);
    } else {
        flatten(String::new(), user, &mut settings);
    }
    flatten("seed".to_owned(), &run.seed.into(), &mut settings);
    settings
}

/// Adds the trainer's settings and the schedule of each parameter group.
fn add_trainer_settings(config: &Json, settings: &mut BTreeMap<String, HParam>) {
    flatten(String::new(), &config["trainer"], settings);
    let Some(groups) = config["groups"].as_object() else {
        return;
    };
    for group in groups.values() {
        let name = group["name"].as_str().unwrap_or_default();
        flatten(format!("schedule.{name}"), &group["schedule"], settings);
    }
}

/// Adds each value under a key, `a.b` for a nested one.
///
/// `null` is left out: written as text, it would turn the whole column into text.
fn flatten(key: String, value: &Json, into: &mut BTreeMap<String, HParam>) {
    let kind = match value {
        Json::Null => return,
        Json::Object(map) => {
            for (name, value) in map {
                flatten(nested(&key, name), value, into);
            }
            return;
        }
        Json::Bool(value) => Kind::Bool(*value),
        Json::Number(number) => to_number(number),
        Json::String(text) => Kind::String(text.clone()),
        Json::Array(_) => Kind::String(value.to_string()),
    };
    let name = if key.is_empty() {
        "config".to_owned()
    } else {
        key
    };
    into.insert(name, HParam { kind: Some(kind) });
}

fn nested(key: &str, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else {
        format!("{key}.{name}")
    }
}

/// Returns a number, or its digits as text where a float would change them.
fn to_number(number: &serde_json::Number) -> Kind {
    let float = number.as_f64().unwrap_or(f64::NAN);
    let is_exact = number.is_f64() || float.abs() < (1_u64 << 53) as f64;
    if is_exact {
        Kind::Number(float)
    } else {
        Kind::String(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(config: Json, seed: u64) -> String {
        let run = RunInfo {
            name: "run".to_owned(),
            dir: None,
            steps: 1,
            length: 1.into(),
            seed,
            config,
            eval_sets: vec!["val".to_owned()],
            resumed_at: None,
            resumed_record: None,
            notes: Vec::new(),
            started_at: 0.0,
            feedback: bdh::sink::Feedback::default(),
        };
        let kind = |kind: Kind| match kind {
            Kind::Number(number) => number.to_string(),
            Kind::String(text) => format!("{text:?}"),
            Kind::Bool(bool) => bool.to_string(),
        };
        let shown = settings(&run).into_iter().map(|(key, value)| {
            format!(
                "{key}={}",
                value.kind.map(kind).expect("every setting has a value")
            )
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn settings_are_the_flattened_user_config_and_seed() {
        let user = json!({
            "lr": 0.1, "depth": 2, "tied": true, "name": "a", "none": null,
            "data": { "files": ["x", 1], "mix": { "code": 0.5 }, "empty": {} },
        });
        let expected =
            r#"data.files="[\"x\",1]" data.mix.code=0.5 depth=2 lr=0.1 name="a" seed=7 tied=true"#;
        assert_eq!(
            shown(json!({ "user": user, "trainer": { "steps": 3 } }), 7),
            expected
        );
        assert_eq!(shown(json!({ "user": 5 }), 7), "config=5 seed=7");
    }

    #[test]
    fn settings_default_to_the_trainer_and_its_schedules() {
        let config = json!({
            "trainer": { "steps": 3, "clip_grad_norm": null },
            "groups": { "matrix": { "name": "matrix", "schedule": { "peak": 0.5, "decay": "cosine" } } },
            "user": null,
        });
        let expected = r#"schedule.matrix.decay="cosine" schedule.matrix.peak=0.5 seed=1 steps=3"#;
        assert_eq!(shown(config, 1), expected);
        assert_eq!(shown(Json::Null, 1), "seed=1");
    }

    #[test]
    fn seed_too_large_for_a_float_keeps_its_digits() {
        for seed in [0, (1 << 53) - 1] {
            assert_eq!(shown(Json::Null, seed), format!("seed={seed}"));
        }
        for seed in [1 << 53, u64::MAX] {
            assert_eq!(shown(Json::Null, seed), format!("seed=\"{seed}\""));
        }
    }
}
