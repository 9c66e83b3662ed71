//! What the programs in this folder share: their command line, what they print, and where their runs are.

#![forbid(unsafe_code)]

pub mod args;
pub mod page;
pub mod program;
pub mod run_dir;

/// The code of docs/callbacks.md compiles, and its tests pass.
#[cfg(doctest)]
#[doc = include_str!("../../docs/callbacks.md")]
struct CallbacksPage;
