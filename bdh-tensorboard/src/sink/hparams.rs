//! The table on TensorBoard's HParams page: what the run was given, and how it ended.
//!
//! TensorBoard goes by the first description of an experiment that it finds in any run, and hides whatever
//! that does not name. So there is none: it then shows all settings of all runs, and every scalar.

mod proto;

use crate::proto::{DataClass, DataType, Dim, Metadata, PluginData, Shape, Tensor, Value};
use bdh::{Outcome, RunInfo};
use prost::Message;
use proto::{HParam, HParams, Kind, SessionEnd, SessionStart};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The tag under which settings are found.
pub(super) const START: &str = "_hparams_/session_start_info";

/// The tag under which the end is found.
pub(super) const END: &str = "_hparams_/session_end_info";

const SUCCESS: i32 = 1;
const FAILURE: i32 = 2;

/// What the run was given.
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

/// How it ended, at `time` in seconds since 1970.
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

/// All is in the metadata; the tensor is there because there must be one.
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

/// The user's own configuration, or the trainer's and each group's schedule; and the seed.
fn settings(run: &RunInfo) -> BTreeMap<String, HParam> {
    let mut settings = BTreeMap::new();
    let user = &run.config["user"];
    if user.is_null() {
        flatten(String::new(), &run.config["trainer"], &mut settings);
        for group in run.config["groups"]
            .as_object()
            .into_iter()
            .flat_map(|groups| groups.values())
        {
            let name = group["name"].as_str().unwrap_or_default();
            flatten(
                format!("schedule.{name}"),
                &group["schedule"],
                &mut settings,
            );
        }
    } else {
        flatten(String::new(), user, &mut settings);
    }
    flatten("seed".to_owned(), &run.seed.into(), &mut settings);
    settings
}

/// Gives each value a key, `a.b` for what is nested; `null` has none, as text would make a column of text.
fn flatten(key: String, value: &Json, into: &mut BTreeMap<String, HParam>) {
    let kind = match value {
        Json::Null => return,
        Json::Object(map) => {
            for (name, value) in map {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                flatten(key, value, into);
            }
            return;
        }
        Json::Bool(value) => Kind::Bool(*value),
        Json::Number(number) => to_number(number),
        Json::String(text) => Kind::String(text.clone()),
        Json::Array(_) => Kind::String(value.to_string()),
    };
    let key = if key.is_empty() {
        "config".to_owned()
    } else {
        key
    };
    into.insert(key, HParam { kind: Some(kind) });
}

/// A number, or its digits where a float would have others.
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
            seed,
            config,
            resumed_at: None,
            resumed_record: None,
            notes: Vec::new(),
            started_at: 0.0,
            feedback: bdh::Feedback::default(),
        };
        let kind = |kind: Kind| match kind {
            Kind::Number(number) => number.to_string(),
            Kind::String(text) => format!("{text:?}"),
            Kind::Bool(bool) => bool.to_string(),
        };
        let shown = settings(&run).into_iter().map(|(key, value)| {
            format!("{key}={}", value.kind.map(kind).expect("each has a value"))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn settings_are_the_users_flattened_without_nulls_and_with_the_seed() {
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
    fn settings_are_the_trainers_and_the_schedules_where_the_user_gave_none() {
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
    fn a_seed_too_large_for_a_float_keeps_its_digits() {
        for seed in [0, (1 << 53) - 1] {
            assert_eq!(shown(Json::Null, seed), format!("seed={seed}"));
        }
        for seed in [1 << 53, u64::MAX] {
            assert_eq!(shown(Json::Null, seed), format!("seed=\"{seed}\""));
        }
    }
}
