//! The `#[callback]` attribute of `bdh`. Use it through `bdh::callback`.

#![forbid(unsafe_code)]

mod callback;

use proc_macro::TokenStream;

/// Goes on an `impl Callback for …`: records which hooks it wrote, and registers it under a name.
///
/// - `#[callback]` writes `hooks()`, so that hooks which were not written cost nothing.
/// - `#[callback("norms")]` also writes `name()` and lets configuration files say `use = "norms"`; the
///   type must then implement `serde::Deserialize`, best with `#[serde(deny_unknown_fields)]`.
///
/// It does nothing that you could not write by hand: the two methods, and
/// `bdh::inventory::submit! { bdh::CallbackEntry { … } }`.
#[proc_macro_attribute]
pub fn callback(arguments: TokenStream, item: TokenStream) -> TokenStream {
    callback::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
