//! Differences between the configuration of a checkpoint and the one that resumes it.

use crate::cadence::Cadence;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Setting that differs between a run and its resumption.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigChange {
    /// Path of the setting in the configuration, such as `trainer.steps` or `user.depth`.
    pub key: String,
    /// Value in the checkpoint; `None` if it was not set.
    pub was: Option<Value>,
    /// Value in the new configuration; `None` if it is not set.
    pub is: Option<Value>,
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (was, is) = (shown(self.was.as_ref()), shown(self.is.as_ref()));
        let key = &self.key;
        write!(f, "{key}: {was} then, {is} now")
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(value) => value.to_string(),
        None => "unset".to_owned(),
    }
}

/// Key of the model's number of parameters. It may never change: the weights would not fit.
const PARAMETERS: &str = "parameters";

/// Keys that may always change, because no result depends on them.
const FREE: [&str; 2] = ["trainer.checkpoint", "trainer.keep_checkpoints"];

/// Returns the settings that differ and may not; `allowed` has keys, or prefixes of keys, that may.
pub(crate) fn between(was: &Value, is: &Value, allowed: &[String]) -> Vec<ConfigChange> {
    let mut changes = Vec::new();
    let (was, is) = (without_cadences(was), without_cadences(is));
    compare("", Some(&was), Some(&is), &mut changes);
    changes.retain(|change| {
        let is_free = FREE.iter().any(|name| covers(name, &change.key));
        !is_free && !is_allowed(allowed, &change.key)
    });
    changes
}

/// Names of a callback's cadence: the present one, and those in checkpoints of the first edition.
const CADENCES: [&str; 5] = ["on", "cadence", "every", "record", "at"];

/// Returns a configuration without the cadences of its callbacks, which may always change: no weight depends on them.
fn without_cadences(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(callbacks) = config.get_mut("callbacks") {
        remove_cadences(callbacks);
    }
    config
}

fn remove_cadences(value: &mut Value) {
    match value {
        Value::Object(settings) => {
            settings.retain(|name, value| !(CADENCES.contains(&&**name) && is_cadence(value)));
            settings.values_mut().for_each(remove_cadences);
        }
        Value::Array(callbacks) => callbacks.iter_mut().for_each(remove_cadences),
        _ => {}
    }
}

fn is_cadence(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.parse::<Cadence>().is_ok())
}

/// Returns whether a setting may differ: its key, or a prefix of it, is in `allowed`.
pub(crate) fn is_allowed(allowed: &[String], key: &str) -> bool {
    key != PARAMETERS && allowed.iter().any(|name| covers(name, key))
}

fn covers(name: &str, key: &str) -> bool {
    key.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Adds the differences of two values to `changes`. Objects are compared key by key, other values as a whole.
fn compare(key: &str, was: Option<&Value>, is: Option<&Value>, changes: &mut Vec<ConfigChange>) {
    if let (Some(Value::Object(was)), Some(Value::Object(is))) = (was, is) {
        let new = is.keys().filter(|name| !was.contains_key(*name));
        for name in was.keys().chain(new) {
            compare(&joined(key, name), was.get(name), is.get(name), changes);
        }
    } else if was != is {
        changes.push(ConfigChange {
            key: key.to_owned(),
            was: was.cloned(),
            is: is.cloned(),
        });
    }
}

/// Returns the path of a setting in the object at `key`.
fn joined(key: &str, name: &str) -> String {
    if key.is_empty() {
        return name.to_owned();
    }
    format!("{key}.{name}")
}

/// Lists the changes, one per line, and explains how to allow them.
pub(crate) fn explain(changes: &[ConfigChange]) -> String {
    let mut lines = String::new();
    let mut keys = Vec::new();
    for change in changes {
        lines += &format!("\n  {change}");
        keys.push(format!("{:?}", change.key));
    }
    if changes.iter().any(|change| change.key == PARAMETERS) {
        return format!(
            "{lines}\nThe weights do not fit this model: use the old values, or start a new run"
        );
    }
    format!(
        "{lines}\nUse the old values, or allow the new ones: `.allow_changed([{}])`",
        keys.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(was: &Value, is: &Value, allowed: &[&str]) -> Vec<String> {
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        between(was, is, &allowed)
            .into_iter()
            .map(|change| change.key)
            .collect()
    }

    #[test]
    fn cadences_of_callbacks_may_change() {
        let is = json!({ "callbacks": { "norms": { "on": "every 2 steps", "params": "*" } } });
        for name in CADENCES {
            let norms = json!({ name: "every step", "params": "*" });
            let was = json!({ "callbacks": { "norms": norms } });
            assert_eq!(keys(&was, &is, &[]), [""; 0], "{name}");
        }
        let other = json!({ "callbacks": { "norms": { "on": "every step", "params": "head*" } } });
        assert_eq!(keys(&other, &is, &[]), ["callbacks.norms.params"]);
        let (one, two) = (json!({ "every": 3 }), json!({ "every": 4 })); // a count, not a cadence
        let (was, is) = (
            json!({ "callbacks": { "x": one } }),
            json!({ "callbacks": { "x": two } }),
        );
        assert_eq!(keys(&was, &is, &[]), ["callbacks.x.every"]);
        let list = |on: &str| json!({ "callbacks": { "a+b": [{ "on": on }, null] } });
        assert_eq!(keys(&list("last"), &list("first"), &[]), [""; 0]);
    }

    #[test]
    fn changes_have_paths_and_omit_allowed_settings() {
        let was = json!({ "trainer": { "steps": 10, "seed": 1, "checkpoint": "last" }, "user": { "lr": 0.1 } });
        let is = json!({ "trainer": { "steps": 20, "seed": 1, "checkpoint": "never" }, "user": { "depth": 2 } });
        assert_eq!(
            keys(&was, &is, &[]),
            ["trainer.steps", "user.lr", "user.depth"]
        );
        assert_eq!(keys(&was, &is, &["user"]), ["trainer.steps"]);
        assert_eq!(
            keys(&was, &is, &["user.l", "trainer.steps"]),
            ["user.lr", "user.depth"]
        );
        assert_eq!(keys(&was, &was, &[]), Vec::<String>::new());
    }

    #[test]
    fn explanations_list_changes_and_how_to_allow_them() {
        let text = explain(&between(&json!({ "lr": 0.1 }), &json!({ "depth": 2 }), &[]));
        let expected = "\n  lr: 0.1 then, unset now\n  depth: unset then, 2 now\nUse the old values, \
                        or allow the new ones: `.allow_changed([\"lr\", \"depth\"])`";
        assert_eq!(text, expected);
    }
}
