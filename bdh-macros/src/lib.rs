//! The attribute macro `#[callback]` of `bdh`. Use it as `bdh::callback`.

#![forbid(unsafe_code)]

mod callback;

use proc_macro::TokenStream;

/// Completes an `impl Callback for …` block, and registers the callback if the attribute has a name.
///
/// - `#[callback]` adds `hooks()`, the list of the hooks in the block. Hooks that are not in it cost nothing.
/// - `#[callback(on)]` also adds `cadence()`, which returns the type's field `on`, a `bdh::Cadence`.
/// - `#[callback("grad_norm")]` also adds `name()` and `config()`, and registers the type: a configuration file can
///   contain `use = "grad_norm"`. The type must implement `serde::Serialize` and `serde::Deserialize`, preferably with
///   `#[serde(deny_unknown_fields)]`, so that misspelt settings are errors.
/// - `#[callback("grad_norm", on)]` does all of this.
///
/// Methods that the block already has are kept. The registration expands to
/// `bdh::inventory::submit! { bdh::registry::CallbackEntry { … } }`.
#[proc_macro_attribute]
pub fn callback(arguments: TokenStream, item: TokenStream) -> TokenStream {
    callback::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
