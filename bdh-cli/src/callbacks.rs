//! A list of the registered callbacks, printed as a file for `--callbacks`.

use crate::page::say;
use bdh::registry;
use bdh::registry::CallbackEntry;
use serde_json::{Map, Value};

const HEAD: &str = "\
# All callbacks that a file for --callbacks can name. Copy what you need.
# Each setting is shown with its default. Every callback also takes `name`, `on_error = \"abort\"`
# and `on`, such as \"every 100 steps | last\", which replaces its own cadence.";

/// Widest line of a list of keys, in columns of the terminal.
const COLUMNS: usize = 100;

/// Prints each callback that the program has registered, with its keys and its settings.
pub fn print() {
    say(HEAD);
    for entry in registry::all() {
        say(format_args!("\n{}", describe(entry)));
    }
}

/// Returns a few lines of TOML: the name, each setting with its default, and the keys that the callback records.
fn describe(entry: &CallbackEntry) -> String {
    let (config, keys) = match entry.default() {
        Some(callback) => (callback.config(), callback.keys()),
        None => (Value::Null, Vec::new()), // it has settings without a default
    };
    let mut lines = vec![
        "[[callback]]".to_owned(),
        format!("use = \"{}\"", entry.name),
    ];
    for option in (entry.options)() {
        lines.push(setting(option, &config[option]));
    }
    lines.extend(comments(&keys));
    lines.join("\n")
}

/// Returns the line of a setting; a comment if its value is null.
fn setting(name: &str, value: &Value) -> String {
    match toml(value) {
        Some(value) => format!("{name} = {value}"),
        None => format!("# {name} is not set"),
    }
}

/// Returns the keys as lines of comments, filled up to [`COLUMNS`].
fn comments(keys: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for key in keys {
        match lines.last_mut() {
            Some(line) if line.len() + key.len() + 2 <= COLUMNS => {
                line.push_str(", ");
                line.push_str(key);
            }
            Some(_) => lines.push(format!("#         {key}")),
            None => lines.push(format!("# records {key}")),
        }
    }
    lines
}

/// Returns a value in TOML; `None` for one that is not set.
fn toml(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Array(values) => {
            let values: Vec<_> = values.iter().filter_map(toml).collect();
            Some(format!("[{}]", values.join(", ")))
        }
        Value::Object(fields) => Some(table(fields)),
        // TOML writes numbers, booleans and quoted text as JSON does.
        value => Some(value.to_string()),
    }
}

/// Returns the fields of an object as an inline table.
fn table(fields: &Map<String, Value>) -> String {
    let mut settings = Vec::new();
    for (name, value) in fields {
        if let Some(value) = toml(value) {
            settings.push(format!("{name} = {value}"));
        }
    }
    if settings.is_empty() {
        return "{}".to_owned();
    }
    format!("{{ {} }}", settings.join(", "))
}
