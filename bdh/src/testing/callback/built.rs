//! Check that a configuration file and code build equal callbacks.

use super::CallbackCheck;
use crate::callback::{Callback, ErrorPolicy};
use crate::registry;
use serde_json::Value;

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Checks that a configuration builds an equal callback, with the arguments of [`by_name`](Self::by_name), and
    /// another equal one from the callback's own [`config`](Callback::config).
    ///
    /// # Panics
    ///
    /// If a callback differs. The text names the difference.
    pub fn is_built_by_name(&self) {
        let Some((name, settings)) = &self.by_name else {
            return;
        };
        let built = build_by_name(name, settings);
        assert_same(name, "by name", &*built, &(self.make)());
        assert_eq!(
            built.name(),
            *name,
            "`{name}` is registered under another name than its own"
        );
        let again = build_from_config(name, built.config());
        assert_same(name, "from its own `config`", &*again, &*built);
    }
}

/// Builds a callback from a configuration file with its name and settings.
fn build_by_name(name: &str, settings: &str) -> Box<dyn Callback> {
    let text = format!("[[callback]]\nuse = \"{name}\"\n{settings}");
    match registry::from_toml(&text) {
        Ok(mut callbacks) => callbacks.remove(0),
        Err(error) => panic!("`{name}` cannot be built: {error:?}"),
    }
}

/// Builds a callback from the configuration of an equal one.
fn build_from_config(name: &str, config: Value) -> Box<dyn Callback> {
    let entry = registry::all().into_iter().find(|entry| entry.name == name);
    let entry = entry.expect("the callback was built by name");
    match (entry.build)(config) {
        Ok(callback) => callback,
        Err(error) => panic!("`{name}` cannot be built from its own `config`: {error}"),
    }
}

/// Checks that a callback that was built in some way equals another one.
fn assert_same(name: &str, how: &str, built: &dyn Callback, other: &dyn Callback) {
    for ((what, built), (_, other)) in describe(built).into_iter().zip(describe(other)) {
        assert!(
            built == other,
            "`{name}` built {how} differs: its {what} is `{built}` instead of `{other}`"
        );
    }
}

/// Returns everything by which two callbacks are compared.
fn describe(callback: &dyn Callback) -> [(&'static str, String); 7] {
    let policy = match callback.error_policy() {
        ErrorPolicy::Disable => "disable",
        ErrorPolicy::Abort => "abort",
    };
    [
        ("name", callback.name()),
        ("list of hooks", callback.hooks().to_string()),
        ("cadence", callback.cadence().to_string()),
        ("list of keys", callback.keys().join(" ")),
        ("list of files", callback.files(100).join(" ")),
        ("configuration", callback.config().to_string()),
        ("error policy", policy.to_owned()),
    ]
}
