//! What differs between the configuration that a checkpoint was made with and the one that resumes it.

use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// A setting that was changed between a run and its resumption.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigChange {
    /// Where it stands in the configuration, such as `trainer.steps` or `user.depth`.
    pub key: String,
    /// Its value in the checkpoint; `None` if it was not there.
    pub was: Option<Value>,
    /// Its value now; `None` if it is gone.
    pub is: Option<Value>,
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |value: &Option<Value>| value.as_ref().map_or("unset".to_owned(), Value::to_string);
        write!(
            f,
            "{}: {} then, {} now",
            self.key,
            shown(&self.was),
            shown(&self.is)
        )
    }
}

/// How many numbers the model has. A checkpoint's weights fit no other model, whatever is allowed.
const PARAMETERS: &str = "parameters";

/// What may change without asking, because no number of the run depends on it.
const FREE: [&str; 2] = ["trainer.checkpoint", "trainer.keep_checkpoints"];

/// The settings that differ and are not allowed to: `allowed` names some, or all below a name.
pub(crate) fn between(was: &Value, is: &Value, allowed: &[String]) -> Vec<ConfigChange> {
    let mut changes = Vec::new();
    compare("", Some(was), Some(is), &mut changes);
    changes.retain(|change| {
        let free = FREE.iter().any(|name| covers(name, &change.key));
        !free && !is_allowed(allowed, &change.key)
    });
    changes
}

/// Whether a setting is allowed to differ: it is named, or it is below a name.
pub(crate) fn is_allowed(allowed: &[String], key: &str) -> bool {
    key != PARAMETERS && allowed.iter().any(|name| covers(name, key))
}

fn covers(name: &str, key: &str) -> bool {
    key.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Objects are compared by their keys, all else as a whole.
fn compare(key: &str, was: Option<&Value>, is: Option<&Value>, changes: &mut Vec<ConfigChange>) {
    if let (Some(Value::Object(was)), Some(Value::Object(is))) = (was, is) {
        let new = is.keys().filter(|name| !was.contains_key(*name));
        for name in was.keys().chain(new) {
            let below = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            compare(&below, was.get(name), is.get(name), changes);
        }
    } else if was != is {
        changes.push(ConfigChange {
            key: key.to_owned(),
            was: was.cloned(),
            is: is.cloned(),
        });
    }
}

/// The changes one a line, and how to allow them.
pub(crate) fn explain(changes: &[ConfigChange]) -> String {
    let lines: Vec<_> = changes
        .iter()
        .map(|change| format!("\n  {change}"))
        .collect();
    let lines = lines.concat();
    if changes.iter().any(|change| change.key == PARAMETERS) {
        return format!(
            "{lines}\nIts weights do not fit this model: give the old values, or begin a new run"
        );
    }
    let keys: Vec<_> = changes
        .iter()
        .map(|change| format!("{:?}", change.key))
        .collect();
    format!(
        "{lines}\nGive the old values, or allow the new ones: `.allow_changed([{}])`",
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
    fn what_differs_is_named_by_its_path_and_what_is_allowed_is_not() {
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
    fn a_change_reads_as_a_sentence() {
        let text = explain(&between(&json!({ "lr": 0.1 }), &json!({ "depth": 2 }), &[]));
        let expected = "\n  lr: 0.1 then, unset now\n  depth: unset then, 2 now\nGive the old values, \
                        or allow the new ones: `.allow_changed([\"lr\", \"depth\"])`";
        assert_eq!(text, expected);
    }
}
