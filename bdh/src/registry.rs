//! Registered callbacks, which a configuration file composes by name.

mod options;

use crate::cadence::Cadence;
use crate::callback::{Callback, CallbackExt, ErrorPolicy};
use crate::error::ConfigError;
use crate::failure::BoxError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::mem;

/// A registered callback type. `#[callback("name")]` writes the entry.
pub struct CallbackEntry {
    /// Name in a configuration.
    pub name: &'static str,
    /// Module, file and line of the registration, for the error if two types have one name.
    pub place: &'static str,
    /// Builds a callback from its settings.
    pub build: fn(Value) -> Result<Box<dyn Callback>, serde_json::Error>,
    /// Returns the names of the settings.
    pub options: fn() -> &'static [&'static str],
}

impl fmt::Debug for CallbackEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackEntry")
            .field("name", &self.name)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

inventory::collect!(CallbackEntry);

impl CallbackEntry {
    /// Builds a callback of type `C` from settings. Unknown keys are an error if `C` has the attribute
    /// `#[serde(deny_unknown_fields)]`.
    ///
    /// # Errors
    ///
    /// If `C` cannot be deserialized from the settings.
    pub fn build_as<C: Callback + DeserializeOwned + 'static>(
        settings: Value,
    ) -> Result<Box<dyn Callback>, serde_json::Error> {
        serde_json::from_value::<C>(settings).map(|callback| Box::new(callback) as _)
    }

    /// Returns the names of the settings of a callback of type `C`.
    #[must_use]
    pub fn options_of<C: DeserializeOwned>() -> &'static [&'static str] {
        options::of::<C>()
    }

    /// Builds the callback without settings; `None` if it requires some.
    #[must_use]
    pub fn default(&self) -> Option<Box<dyn Callback>> {
        (self.build)(Value::Object(Map::new())).ok()
    }
}

/// Returns the registered callbacks of all linked crates, sorted by name.
///
/// A crate that no code names is not linked. A program that uses `bdh_callbacks` only through registered names needs
/// the line `use bdh_callbacks as _;`.
#[must_use]
pub fn all() -> Vec<&'static CallbackEntry> {
    let mut entries: Vec<_> = inventory::iter::<CallbackEntry>().collect();
    // `inventory` visits entries in the order in which they were linked, which may change from build to build.
    entries.sort_unstable_by_key(|entry| (entry.name, entry.place));
    entries
}

/// Returns the entry of the callback that is registered under a name.
fn registered(name: &str) -> Result<&'static CallbackEntry, ConfigError> {
    let mut entries = all();
    entries.retain(|entry| entry.name == name);
    match entries[..] {
        [] => Err(ConfigError::UnknownCallback {
            name: name.to_owned(),
            known: known_names(),
        }),
        [entry] => Ok(entry),
        _ => {
            let places: Vec<_> = entries.iter().map(|entry| entry.place).collect();
            Err(ConfigError::AmbiguousCallback {
                name: name.to_owned(),
                places: places.join(" and "),
            })
        }
    }
}

/// Lists the registered names, for an error.
fn known_names() -> String {
    let mut names: Vec<_> = all().iter().map(|entry| entry.name).collect();
    names.dedup();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

/// Callback in a configuration: the settings that every callback takes, and in `settings` the callback's own.
#[derive(Debug, Deserialize)]
struct CallbackConfig {
    r#use: String,
    name: Option<String>,
    prefix: Option<String>,
    on: Option<Value>,
    on_error: Option<ErrorPolicy>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    callback: Vec<CallbackConfig>,
}

/// Builds the callbacks of a TOML text, in order.
///
/// Each `[[callback]]` has the registered name as `use`, and may have `on` (a cadence), `name`, `prefix` and `on_error`
/// (`"disable"` or `"abort"`). All other keys are the callback's own settings.
///
/// # Errors
///
/// [`ConfigError::Syntax`] if the text is not such a TOML document; [`ConfigError::UnknownCallback`], with the known
/// names; [`ConfigError::AmbiguousCallback`], with the places where the name was registered; or
/// [`ConfigError::Callback`] if a setting is wrong, with the keys that would work.
///
/// # Examples
///
/// ```
/// # use bdh::{Cadence, Callback, callback};
/// # #[derive(serde::Deserialize, serde::Serialize)] #[serde(deny_unknown_fields)] struct Pulse { label: String }
/// # #[callback("pulse")] impl Callback for Pulse {}
/// let callbacks = bdh::registry::from_toml(
///     r#"
///     [[callback]]
///     use = "pulse"
///     on = "every 100 steps | last"
///     label = "still alive"
///     "#,
/// )?;
/// assert_eq!(callbacks[0].name(), "pulse");
/// # Ok::<(), bdh::ConfigError>(())
/// ```
pub fn from_toml(text: &str) -> Result<Vec<Box<dyn Callback>>, ConfigError> {
    let document: Document =
        toml::from_str(text).map_err(|error| ConfigError::Syntax(error.into()))?;
    document.callback.into_iter().map(build).collect()
}

/// Builds the callbacks of a YAML text, in order. The key `callback:` holds a list, with the keys of [`from_toml`].
///
/// # Errors
///
/// The errors of [`from_toml`]; [`ConfigError::Syntax`] if the text is not such a YAML document.
pub fn from_yaml(text: &str) -> Result<Vec<Box<dyn Callback>>, ConfigError> {
    let document: Document =
        serde_norway::from_str(text).map_err(|error| ConfigError::Syntax(error.into()))?;
    document.callback.into_iter().map(build).collect()
}

fn build(config: CallbackConfig) -> Result<Box<dyn Callback>, ConfigError> {
    let name = config.r#use.clone();
    let entry = registered(&name)?;
    configured(entry, config).map_err(|source| ConfigError::Callback { name, source })
}

fn configured(
    entry: &CallbackEntry,
    mut config: CallbackConfig,
) -> Result<Box<dyn Callback>, BoxError> {
    // A callback with its own setting `on` gets the cadence itself: one that must see every step and records on some
    // (such as a throughput over a window) would otherwise be called on the steps of the cadence only.
    if (entry.options)().contains(&"on")
        && let Some(on) = config.on.take()
    {
        config.settings.insert("on".to_owned(), on);
    }
    // Unless refused, a callback that allows unknown settings would ignore the former name, and act on every step.
    let takes_every = (entry.options)().contains(&"every");
    if config.settings.contains_key("every") && !takes_every {
        return Err("`every` is now `on`, as in `on = \"every 100 steps\"`".into());
    }
    let own = Value::Object(mem::take(&mut config.settings));
    let callback = (entry.build)(own).map_err(with_common_settings)?;
    set_common(callback, config)
}

/// Sets the cadence, prefix, name and error policy of a callback.
fn set_common(
    mut callback: Box<dyn Callback>,
    config: CallbackConfig,
) -> Result<Box<dyn Callback>, BoxError> {
    if let Some(on) = config.on {
        let cadence: Cadence = serde_json::from_value(on)?;
        callback = Box::new(callback.on(cadence));
    }
    // The prefix ends the callback's name, unless a name is set after it.
    if let Some(prefix) = config.prefix {
        callback = Box::new(callback.prefix(prefix));
    }
    if let Some(name) = config.name {
        callback = Box::new(callback.named(name));
    }
    if let Some(policy) = config.on_error {
        callback = Box::new(callback.on_error(policy));
    }
    Ok(callback)
}

/// Adds the settings that every callback takes to an error that lists a callback's own.
fn with_common_settings(error: serde_json::Error) -> BoxError {
    let text = error.to_string();
    if text.starts_with("unknown field") {
        format!("{text}; every callback also takes `on`, `name`, `prefix` and `on_error`").into()
    } else {
        error.into()
    }
}

#[doc(hidden)]
pub use serde_json::Value as Config;

/// Returns a callback's settings as a configuration spells them. The code of `#[callback("name")]` calls it.
///
/// Settings that cannot be serialized become the text of the error: a run does not fail for its own description.
#[doc(hidden)]
pub fn config_of<C: Serialize>(callback: &C) -> Value {
    serde_json::to_value(callback)
        .unwrap_or_else(|error| Value::String(format!("cannot be serialized: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    mod first {
        #[derive(serde::Deserialize, serde::Serialize)]
        struct Twice {}

        #[crate::callback("registered_twice")]
        impl crate::callback::Callback for Twice {}
    }

    mod second {
        #[derive(serde::Deserialize, serde::Serialize)]
        struct Twice {}

        #[crate::callback("registered_twice")]
        impl crate::callback::Callback for Twice {}
    }

    #[test]
    fn former_name_of_the_cadence_is_refused() {
        let text = "[[callback]]\nuse = \"lenient\"\nevery = \"every 5 steps\"";
        let error = from_toml(text)
            .err()
            .expect("`every` is no setting")
            .to_string();
        assert!(error.contains("`every` is now `on`"), "{error}");
    }

    mod lenient {
        #[derive(serde::Deserialize, serde::Serialize)]
        struct Lenient {}

        #[crate::callback("lenient")]
        impl crate::callback::Callback for Lenient {}
    }

    #[test]
    fn name_registered_twice_is_refused_with_both_places() {
        let error = from_toml("[[callback]]\nuse = \"registered_twice\"").err();
        let error = error.expect("the name is ambiguous").to_string();
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
    fn name_registered_twice_is_listed_once() {
        let error = from_toml("[[callback]]\nuse = \"registered_thrice\"").err();
        let Some(ConfigError::UnknownCallback { known, .. }) = error else {
            panic!("the name is not registered")
        };
        assert_eq!(known.matches("registered_twice").count(), 1, "{known}");
    }
}
