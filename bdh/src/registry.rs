//! Callbacks by name, so that a configuration file can compose them.

mod options;

use crate::callback::{Attach, Callback, OnError};
use crate::{Cadence, ConfigError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A registered callback. `#[callback("name")]` writes it.
pub struct CallbackEntry {
    /// The name that a configuration uses.
    pub name: &'static str,
    /// Builds one from its settings.
    pub build: fn(Value) -> Result<Box<dyn Callback>, serde_json::Error>,
    /// The names of its settings.
    pub options: fn() -> &'static [&'static str],
}

inventory::collect!(CallbackEntry);

impl CallbackEntry {
    /// Builds a callback of type `C` from settings; unknown keys are an error if `C` says
    /// `#[serde(deny_unknown_fields)]`.
    ///
    /// # Errors
    ///
    /// What the deserialization of `C` says.
    pub fn build_as<C: Callback + DeserializeOwned + 'static>(
        settings: Value,
    ) -> Result<Box<dyn Callback>, serde_json::Error> {
        serde_json::from_value::<C>(settings).map(|callback| Box::new(callback) as _)
    }

    /// The names of the settings of a callback of type `C`.
    #[must_use]
    pub fn options_of<C: DeserializeOwned>() -> &'static [&'static str] {
        options::of::<C>()
    }

    /// One with nothing set, if it can do without settings.
    #[must_use]
    pub fn default(&self) -> Option<Box<dyn Callback>> {
        (self.build)(Value::Object(Map::new())).ok()
    }
}

/// All callbacks that the program was linked with, in the order of their names.
///
/// A crate that is never named in code is not linked: a program that uses only the registered names of
/// `bdh_callbacks` says `use bdh_callbacks as _;`.
#[must_use]
pub fn registered_callbacks() -> Vec<&'static CallbackEntry> {
    let mut entries: Vec<_> = inventory::iter::<CallbackEntry>().collect();
    entries.sort_unstable_by_key(|entry| entry.name);
    entries
}

fn known_names() -> String {
    let names: Vec<_> = registered_callbacks().iter().map(|entry| entry.name).collect();
    names.join(", ")
}

/// One callback of a configuration: which, when, under what name; the rest are its own settings.
#[derive(Debug, Deserialize)]
struct CallbackConfig {
    r#use: String,
    name: Option<String>,
    every: Option<Cadence>,
    on_error: Option<OnError>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    callback: Vec<CallbackConfig>,
}

/// Builds the callbacks that a TOML text lists.
///
/// # Errors
///
/// [`ConfigError::Syntax`], [`ConfigError::UnknownCallback`] with the known names, or
/// [`ConfigError::Callback`] with the keys that would work.
///
/// # Examples
///
/// ```
/// # use bdh::{Cadence, Callback, callback};
/// # #[derive(serde::Deserialize)] #[serde(deny_unknown_fields)] struct Pulse { label: String }
/// # #[callback("pulse")] impl Callback for Pulse {}
/// let callbacks = bdh::callbacks_from_toml(
///     r#"
///     [[callback]]
///     use = "pulse"
///     every = "every 100 steps | last"
///     label = "still alive"
///     "#,
/// )?;
/// assert_eq!(callbacks[0].name(), "pulse");
/// # Ok::<(), bdh::ConfigError>(())
/// ```
pub fn callbacks_from_toml(text: &str) -> Result<Vec<Box<dyn Callback>>, ConfigError> {
    let document: Document =
        toml::from_str(text).map_err(|error| ConfigError::Syntax(error.into()))?;
    document.callback.into_iter().map(build).collect()
}

/// Builds the callbacks that a YAML text lists under `callback:`.
///
/// # Errors
///
/// As [`callbacks_from_toml`].
pub fn callbacks_from_yaml(text: &str) -> Result<Vec<Box<dyn Callback>>, ConfigError> {
    let document: Document =
        serde_norway::from_str(text).map_err(|error| ConfigError::Syntax(error.into()))?;
    document.callback.into_iter().map(build).collect()
}

fn build(config: CallbackConfig) -> Result<Box<dyn Callback>, ConfigError> {
    let CallbackConfig { r#use: wanted, name, every, on_error, settings } = config;
    let entry =
        inventory::iter::<CallbackEntry>().find(|entry| entry.name == wanted).ok_or_else(|| {
            ConfigError::UnknownCallback { name: wanted.clone(), known: known_names() }
        })?;
    let mut callback = (entry.build)(Value::Object(settings))
        .map_err(|error| ConfigError::Callback { name: wanted, source: error.into() })?;
    if let Some(every) = every {
        callback = Box::new(callback.every(every));
    }
    if let Some(name) = name {
        callback = Box::new(callback.named(name));
    }
    if let Some(on_error) = on_error {
        callback = Box::new(callback.or_else(on_error));
    }
    Ok(callback)
}
