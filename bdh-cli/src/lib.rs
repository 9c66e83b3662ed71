//! The command `bdh` as a library: its subcommands, for programs that offer them as their own.
//!
//! | module | has |
//! |---|---|
//! | [`sweep`] | the trials of a sweep file, each a process of any program |
//! | [`compare`] | runs side by side: terminal, CSV, a page for a browser |
//! | [`forecast`] | where runs will end, and how far to trust that |
//! | [`wandb`] | sends and repairs W&B's logs |
//! | [`callbacks`] | the callbacks that a file can name |
//! | [`runs`] | which runs, by what metric |
//! | [`page`] | lines for a terminal |
//!
//! Each subcommand is a type that derives [`clap::Args`] or [`clap::Subcommand`], with a method `run`.
//!
//! ```no_run
//! use bdh_cli::{Program, compare, sweep};
//! use clap::Parser;
//!
//! /// Trains my models.
//! #[derive(Parser)]
//! enum Words {
//!     Sweep(sweep::Args),
//!     #[command(mut_arg("metric", |metric| metric.default_value("accuracy")))]
//!     Compare(compare::Args),
//! }
//!
//! fn main() -> bdh::Result<()> {
//!     let program = Program { command: "my-program", metric: "accuracy", trains: true };
//!     let _code = match Words::parse() {
//!         Words::Sweep(args) => args.run(&program)?,
//!         Words::Compare(args) => args.run()?,
//!     };
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

pub mod callbacks;
pub mod compare;
pub mod forecast;
mod live;
pub mod page;
pub mod runs;
pub mod sweep;
pub mod wandb;

/// Exit code of a program that Ctrl-C or SIGTERM ended, as a shell reports it.
pub const INTERRUPTED: u8 = 130;

/// Program that offers the subcommands.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// How it is called, for advice on what to call next: `bdh`, or `cargo run --example name --`.
    pub command: &'a str,
    /// Metric of a sweep file that names none.
    pub metric: &'a str,
    /// Whether the program itself trains a run, and so is the one to call for a sweep file without `command`.
    pub trains: bool,
}

impl Program<'_> {
    /// The command `bdh`.
    pub const BDH: Program<'static> = Program {
        command: "bdh",
        metric: "val/loss",
        trains: false,
    };
}

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
