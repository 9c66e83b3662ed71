//! The callbacks that a file can name.

use crate::page::say;
use bdh::{CallbackEntry, registered_callbacks};
use serde_json::Value;

/// Prints each callback with its keys and its settings.
pub(crate) fn callbacks() {
    say("callbacks for --callbacks FILE; each also takes `name`, `every` and `on_error`\n");
    for entry in registered_callbacks() {
        say(describe(entry));
    }
}

/// A few lines: the name, what it records, and each setting with its default.
fn describe(entry: &CallbackEntry) -> String {
    let default = entry.default();
    let keys = default.as_ref().map(|callback| callback.keys().join(", ")).unwrap_or_default();
    let config = default.map_or(Value::Null, |callback| callback.config());
    let mut text = format!("{}\n", entry.name);
    if !keys.is_empty() {
        text += &format!("  records  {keys}\n");
    }
    for option in (entry.options)() {
        let value = match &config[option] {
            Value::Null => "not set".to_owned(),
            value => value.to_string(),
        };
        text += &format!("  {option:<20} {value}\n");
    }
    text
}
