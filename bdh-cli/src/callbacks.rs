//! Callbacks that a file can name, printed as such a file.

use crate::page::say;
use bdh::{CallbackEntry, registered_callbacks};
use serde_json::Value;

const HEAD: &str = "\
# The callbacks that a file for --callbacks can name, in the form of such a file: take what you need.
# The settings are what they are if you leave them out. Each also takes `every`, such as
# \"every 100 steps | last\", in place of its own cadence; `name`; and `on_error = \"abort\"`.";

/// Columns of a list of keys.
const COLUMNS: usize = 100;

/// Prints each callback that the program has registered, with its keys and its settings.
pub fn print() {
    say(HEAD);
    for entry in registered_callbacks() {
        say(format_args!("\n{}", describe(entry)));
    }
}

/// A few lines of TOML: the name, what it records, and each setting with its default.
fn describe(entry: &CallbackEntry) -> String {
    let default = entry.default();
    let keys = default
        .as_ref()
        .map(|callback| callback.keys())
        .unwrap_or_default();
    let config = default.map_or(Value::Null, |callback| callback.config());
    let settings = (entry.options)()
        .iter()
        .map(|option| match toml(&config[option]) {
            Some(value) => format!("{option} = {value}"),
            None => format!("# {option} is not set"),
        });
    let head = [
        "[[callback]]".to_owned(),
        format!("use = \"{}\"", entry.name),
    ];
    let lines = head.into_iter().chain(settings).chain(records(&keys));
    lines.collect::<Vec<_>>().join("\n")
}

/// The keys as comments, as many on a line as fit.
fn records(keys: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for key in keys {
        let begin = if lines.is_empty() {
            "# records "
        } else {
            "#         "
        };
        match lines
            .last_mut()
            .filter(|line| line.len() + key.len() + 2 <= COLUMNS)
        {
            Some(line) => *line += &format!(", {key}"),
            None => lines.push(format!("{begin}{key}")),
        }
    }
    lines
}

/// A value as a file says it; none for one that is not set.
fn toml(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Array(values) => {
            let values: Vec<_> = values.iter().filter_map(toml).collect();
            Some(format!("[{}]", values.join(", ")))
        }
        Value::Object(fields) => {
            let field = |(name, value)| Some(format!("{name} = {}", toml(value)?));
            let fields: Vec<_> = fields.iter().filter_map(field).collect();
            Some(if fields.is_empty() {
                "{}".into()
            } else {
                format!("{{ {} }}", fields.join(", "))
            })
        }
        value => Some(value.to_string()), // a number, `true`, or a text in quotes are the same in JSON
    }
}
