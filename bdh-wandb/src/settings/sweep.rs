//! Settings that a W&B sweep decides.

use super::Given;
use super::lookup::{Found, SettingsError, read_text};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::Path;

/// Variable that names the file with an agent's values.
pub(super) const PARAMS: &str = "WANDB_SWEEP_PARAM_PATH";

/// Returns the values that a W&B sweep agent chose for this process, by name; `None` if no agent started it.
///
/// The agent passes the same values on the command line as text. Here they have their types, so a program should prefer
/// them.
///
/// # Errors
///
/// If `WANDB_SWEEP_PARAM_PATH` names a file in another format than an agent's.
pub fn sweep_values() -> Result<Option<Map<String, Value>>, SettingsError> {
    match std::env::var(PARAMS) {
        Ok(text) if !text.is_empty() => {
            let place = PARAMS.to_owned();
            params(&Found { place, text }).map(Some)
        }
        _ => Ok(None),
    }
}

/// Returns the builder's settings without those that the sweep decides, and adds a warning for each of these.
pub(super) fn without_path(given: &Given, warnings: &mut Vec<String>) -> Given {
    let mut given = given.clone();
    let decided = [
        ("project", &mut given.project),
        ("entity", &mut given.entity),
        ("run_id", &mut given.run_id),
    ];
    for (name, value) in decided {
        if let Some(value) = value.take() {
            warnings.push(format!(
                "{name} `{value}` is ignored: the run belongs to a sweep"
            ));
        }
    }
    given
}

/// Reads the values in an agent's file: `key: {value: v}` for each, and `wandb_version: 1`.
pub(super) fn params(path: &Found) -> Result<Map<String, Value>, SettingsError> {
    let mut params = Map::new();
    for (key, value) in parse(path)? {
        match (key.as_str(), value) {
            ("wandb_version", version) if version == 1 => {}
            ("wandb_version", version) => {
                return Err(wrong(path, &format_args!("its version is {version}")));
            }
            (_, Value::Object(mut entry)) if entry.contains_key("value") => {
                params.insert(key, entry.remove("value").unwrap_or_default());
            }
            _ => return Err(wrong(path, &format_args!("`{key}` has no `value`"))),
        }
    }
    Ok(params)
}

/// Reads the keys of an agent's file; an empty file has none.
fn parse(path: &Found) -> Result<Map<String, Value>, SettingsError> {
    let text = read_text(Path::new(&path.text)).map_err(|error| wrong(path, &error))?;
    let parsed: Option<Map<String, Value>> =
        serde_norway::from_str(&text).map_err(|error| wrong(path, &error))?;
    Ok(parsed.unwrap_or_default())
}

fn wrong(path: &Found, why: &dyn Display) -> SettingsError {
    path.wrong(format!(
        "{why}; the file should contain `wandb_version: 1`, and `key: {{value: …}}` for each parameter"
    ))
}
