//! What changes inside a sweep.

use super::Given;
use super::lookup::{Found, SettingsError, read_text};
use serde_json::{Map, Value};
use std::path::Path;

/// The variable that names the file of an agent's choices.
pub(super) const PARAMS: &str = "WANDB_SWEEP_PARAM_PATH";

/// The values that an agent of W&B's has chosen for this process, by name; `None` where no agent has started it.
///
/// On the command line they stand too, as texts. Here they have their types, so a program should let them win.
///
/// # Errors
///
/// If `WANDB_SWEEP_PARAM_PATH` names a file that is not what an agent writes.
pub fn sweep_values() -> Result<Option<Map<String, Value>>, SettingsError> {
    let Some(text) = std::env::var(PARAMS).ok().filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    params(&Found {
        place: PARAMS.to_owned(),
        text,
    })
    .map(Some)
}

/// The builder's settings without those that the sweep decides, and a warning for each of these.
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

/// The choices in the file that an agent wrote: `key: {value: v}` for each, and `wandb_version: 1`.
pub(super) fn params(path: &Found) -> Result<Map<String, Value>, SettingsError> {
    let expected =
        "the file should hold `wandb_version: 1`, and `key: {value: …}` for each parameter";
    let wrong = |why: String| path.wrong(format!("{why}; {expected}"));
    let text = read_text(Path::new(&path.text)).map_err(|error| wrong(error.to_string()))?;
    let parsed: Option<Map<String, Value>> =
        serde_norway::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut params = Map::new();
    for (key, value) in parsed.unwrap_or_default() {
        match (key.as_str(), value) {
            ("wandb_version", version) if version == 1 => {}
            ("wandb_version", version) => return Err(wrong(format!("it is of version {version}"))),
            (_, Value::Object(mut entry)) if entry.contains_key("value") => {
                params.insert(key, entry.remove("value").unwrap_or_default());
            }
            _ => return Err(wrong(format!("`{key}` has no `value`"))),
        }
    }
    Ok(params)
}
