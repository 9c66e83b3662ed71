//! The subcommands of `bdh` as a library, for programs that offer them as their own.
//!
//! | module | does |
//! |---|---|
//! | [`sweep`] | runs the trials of a sweep file, each as a process of any program |
//! | [`compare`] | compares runs on the terminal, as CSV or as a page for a browser |
//! | [`forecast`] | predicts how runs will end, and measures how accurate that is |
//! | [`average`] | averages the weights of checkpoints |
//! | [`wandb`] | uploads and repairs W&B logs |
//! | [`callbacks`] | lists the callbacks that a file can name |
//! | [`runs`] | arguments that select runs and their metric |
//! | [`page`] | prints lines on a terminal |
//!
//! Each subcommand is a type that derives [`clap::Args`] or [`clap::Subcommand`], with a method `run`.
//!
//! ```no_run
//! use bdh_cli::{Program, compare, sweep};
//! use clap::Parser;
//!
//! /// Trains my models.
//! #[derive(Parser)]
//! enum Command {
//!     Sweep(sweep::Args),
//!     #[command(mut_arg("metric", |metric| metric.default_value("accuracy")))]
//!     Compare(compare::Args),
//! }
//!
//! fn main() -> bdh::Result<()> {
//!     let program = Program { command: "my-program", metric: "accuracy", trains: true };
//!     let _code = match Command::parse() {
//!         Command::Sweep(args) => args.run(&program)?,
//!         Command::Compare(args) => args.run()?,
//!     };
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

pub mod average;
pub mod callbacks;
pub mod compare;
pub mod forecast;
mod live;
pub mod page;
pub mod runs;
pub mod sweep;
pub mod wandb;

/// Exit code of a program that Ctrl-C or SIGTERM ended: 128 plus the number of SIGINT, as a shell reports it.
pub const INTERRUPTED: u8 = 130;

/// Program that offers the subcommands.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// Command line that starts the program, printed in advice: `bdh`, or `cargo run --example name --`.
    pub command: &'a str,
    /// Metric of a sweep file that names none.
    pub metric: &'a str,
    /// Whether the program trains runs itself, so that a sweep file without `command` calls it.
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
