//! Reference models, data, and the programs people run.

#![forbid(unsafe_code)]

pub mod args;
pub mod core;
pub mod data;
pub mod gpt2;
pub mod hatchling;
mod init;
mod layers;
pub mod nanochat;
pub mod page;
pub mod program;
pub mod run_dir;
pub mod scaling;

/// Of every program that uses this library: a step's tensors take the memory that the last step's have freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The code of docs/callbacks.md compiles, and its tests pass.
#[cfg(doctest)]
#[doc = include_str!("../../docs/callbacks.md")]
struct CallbacksPage;
