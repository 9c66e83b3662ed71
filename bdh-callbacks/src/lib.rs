//! Callbacks and sinks for `bdh`.
