//! That a configuration builds by name what is built in code.

use super::CallbackCheck;
use crate::callback::{Callback, OnError};
use crate::registry::{callbacks_from_toml, registered_callbacks};

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Checks that a configuration builds by name what is built in code, with what was said in
    /// [`by_name`](Self::by_name), and that it builds the same from its own [`config`](Callback::config).
    ///
    /// # Panics
    ///
    /// If it does not, with what is different.
    pub fn is_built_by_name(&self) {
        let Some((name, settings)) = &self.by_name else {
            return;
        };
        let text = format!("[[callback]]\nuse = \"{name}\"\n{settings}");
        let built = callbacks_from_toml(&text).map(|mut callbacks| callbacks.remove(0));
        let built = built.unwrap_or_else(|error| panic!("`{name}` cannot be built: {error:?}"));
        assert_same(name, "by name", &*built, &(self.make)());
        assert_eq!(
            built.name(),
            *name,
            "`{name}` is registered under another name than its own"
        );

        let entry = registered_callbacks()
            .into_iter()
            .find(|entry| entry.name == name);
        let again = entry.expect("it was built by name").build;
        let again = again(built.config()).unwrap_or_else(|error| {
            panic!("`{name}` cannot be built from its own `config`: {error}")
        });
        assert_same(name, "from its own `config`", &*again, &*built);
    }
}

/// Checks that two callbacks, one of them built in some way, are alike.
fn assert_same(name: &str, how: &str, built: &dyn Callback, other: &dyn Callback) {
    let describe = |callback: &dyn Callback| {
        let aborts = callback.on_error() == OnError::Abort;
        [
            ("name", callback.name()),
            ("hooks", callback.hooks().to_string()),
            ("cadence", callback.cadence().to_string()),
            ("keys", callback.keys().join(" ")),
            ("files", callback.files(100).join(" ")),
            ("settings", callback.config().to_string()),
            ("error policy", format!("abort: {aborts}")),
        ]
    };
    for ((what, built), (_, other)) in describe(built).into_iter().zip(describe(other)) {
        assert!(
            built == other,
            "built {how}, the {what} of `{name}` are `{built}` and not `{other}`"
        );
    }
}
