//! Shared parts of the example programs: command line, output, run directories.

#![forbid(unsafe_code)]

pub mod args;
pub mod page;
pub mod program;
pub mod run_dir;

/// The code of docs/callbacks.md compiles, and its tests pass.
#[cfg(doctest)]
#[doc = include_str!("../../docs/callbacks.md")]
struct CallbacksPage;
