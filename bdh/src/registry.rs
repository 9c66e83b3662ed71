//! Callbacks by name, so that a configuration file can compose them.

mod options;

use crate::cadence::Cadence;
use crate::callback::{Attach, Callback, OnError};
use crate::error::ConfigError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A registered callback. `#[callback("name")]` writes it.
pub struct CallbackEntry {
    /// The name that a configuration uses.
    pub name: &'static str,
    /// Where it was registered, module and file, for the error where two have one name.
    pub place: &'static str,
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
    entries.sort_unstable_by_key(|entry| (entry.name, entry.place));
    entries
}

/// The one callback that is registered under a name.
fn registered(name: &str) -> Result<&'static CallbackEntry, ConfigError> {
    let mut entries = registered_callbacks();
    let known = || {
        let mut names: Vec<_> = registered_callbacks()
            .iter()
            .map(|entry| entry.name)
            .collect();
        names.dedup();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    entries.retain(|entry| entry.name == name);
    match entries[..] {
        [] => Err(ConfigError::UnknownCallback {
            name: name.to_owned(),
            known: known(),
        }),
        [entry] => Ok(entry),
        _ => {
            let places: Vec<_> = entries.iter().map(|entry| entry.place).collect();
            let (name, places) = (name.to_owned(), places.join(" and "));
            Err(ConfigError::AmbiguousCallback { name, places })
        }
    }
}

/// One callback of a configuration: which, when, under what name; the rest are its own settings.
#[derive(Debug, Deserialize)]
struct CallbackConfig {
    r#use: String,
    name: Option<String>,
    prefix: Option<String>,
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
/// [`ConfigError::Syntax`]; [`ConfigError::UnknownCallback`] with the known names;
/// [`ConfigError::AmbiguousCallback`] with the places where the name was registered; or
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
    let CallbackConfig {
        r#use: wanted,
        name,
        prefix,
        every,
        on_error,
        settings,
    } = config;
    let mut callback = (registered(&wanted)?.build)(Value::Object(settings)).map_err(|error| {
        ConfigError::Callback {
            name: wanted,
            source: error.into(),
        }
    })?;
    if let Some(every) = every {
        callback = Box::new(callback.every(every));
    }
    if let Some(prefix) = prefix {
        callback = Box::new(callback.prefix(prefix));
    }
    if let Some(name) = name {
        callback = Box::new(callback.named(name));
    }
    if let Some(on_error) = on_error {
        callback = Box::new(callback.or_else(on_error));
    }
    Ok(callback)
}

#[cfg(test)]
mod tests {
    use super::*;

    mod first {
        #[derive(serde::Deserialize)]
        struct Twice {}

        #[crate::callback("registered_twice")]
        impl crate::callback::Callback for Twice {}
    }

    mod second {
        #[derive(serde::Deserialize)]
        struct Twice {}

        #[crate::callback("registered_twice")]
        impl crate::callback::Callback for Twice {}
    }

    #[test]
    fn a_name_that_two_callbacks_have_is_refused_with_both_places() {
        let error = callbacks_from_toml("[[callback]]\nuse = \"registered_twice\"").err();
        let error = error.expect("nobody knows which").to_string();
        let begin =
            "two callbacks are registered as `registered_twice`, in bdh::registry::tests::first (";
        assert!(error.starts_with(begin), "{error}");
        assert!(
            error.contains(" and bdh::registry::tests::second ("),
            "{error}"
        );
        let lines = error.matches("registry.rs:").count();
        assert_eq!(lines, 2, "{error}");
    }

    #[test]
    fn a_name_that_two_callbacks_have_keeps_no_other_from_being_built() {
        let error = callbacks_from_toml("[[callback]]\nuse = \"registered_thrice\"").err();
        let Some(ConfigError::UnknownCallback { known, .. }) = error else {
            panic!("it is not registered")
        };
        assert_eq!(known.matches("registered_twice").count(), 1, "{known}");
    }
}
