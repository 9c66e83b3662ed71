//! The `#[callback]` attribute of `bdh`.
