//! A command line as clap reads it, alone or on top of what a resumed run has saved.

use super::normalize;
use clap::{Args, Command, FromArgMatches};
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsString;

/// A command with the flags of `A`.
#[must_use]
pub fn command<A: Args>(name: &'static str, about: &'static str) -> Command {
    // The descriptions come after the flags, which would put the words on `A` in their place.
    A::augment_args(Command::new(name))
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .long_about(None)
        .next_line_help(true)
        // As in Python: a command line may repeat what a sweep's template sets, and the later one counts.
        .args_override_self(true)
}

/// Reads an argument list, program name first.
///
/// # Errors
///
/// clap's, which names the argument and says what was expected; also for `--help` and `--version`.
pub fn read<A: FromArgMatches>(
    command: Command,
    argv: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<A, clap::Error> {
    let argv = normalize(argv.into_iter().map(Into::into).collect(), command.clone());
    A::from_arg_matches(&command.try_get_matches_from(argv)?)
}

/// Reads the program's own arguments on top of those that the resumed run has saved.
///
/// # Errors
///
/// As [`read`].
pub fn read_over<A: FromArgMatches + Serialize>(
    command: Command,
    saved: &Value,
) -> Result<A, clap::Error> {
    let defaults: A = read(command.clone(), [command.get_name()])?;
    let defaults = serde_json::to_value(defaults).unwrap_or_default();
    read(command, over(saved, &defaults))
}

/// The program's own arguments, after those of the run that they resume; those at their defaults are left out.
///
/// The later one of two counts, so what is given now wins.
fn over(saved: &Value, defaults: &Value) -> Vec<OsString> {
    let mut argv = std::env::args_os();
    let program = argv.next().into_iter();
    program
        .chain(flags(saved, defaults).into_iter().map(OsString::from))
        .chain(argv)
        .collect()
}

/// The flags that make these arguments, as a run saved them.
pub(super) fn flags(saved: &Value, defaults: &Value) -> Vec<String> {
    let given = saved.as_object().into_iter().flatten();
    let given = given.filter(|(flag, value)| defaults[flag.as_str()] != **value);
    let given = given.filter(|(flag, _)| !OF_ONE_CALL.contains(&flag.as_str()));
    given
        .flat_map(|(flag, value)| spelled(flag, value))
        .collect()
}

/// A flag with its value; a list is as many flags.
fn spelled(flag: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Bool(true) => vec![format!("--{flag}")],
        Value::String(text) => vec![format!("--{flag}={text}")],
        Value::Number(number) => vec![format!("--{flag}={number}")],
        Value::Array(values) => values
            .iter()
            .flat_map(|value| spelled(flag, value))
            .collect(),
        _ => Vec::new(),
    }
}

/// What a resumed run does not take over.
const OF_ONE_CALL: [&str; 7] = [
    "name",
    "runs",
    "resume",
    "allow_changed",
    "dry_run",
    "quiet",
    "list_callbacks",
];

/// The settings in which a resumed run may differ without asking, for [`bdh::TrainerBuilder::allow_changed`]: how it is
/// called and where records go. And `more`, which the user allows.
pub fn may_change(more: &[String]) -> impl Iterator<Item = String> {
    let sinks = [
        "log_backend",
        "wandb_project",
        "wandb_entity",
        "save_every",
        "save_freq",
    ];
    let flags = OF_ONE_CALL
        .into_iter()
        .chain(sinks)
        .map(|flag| format!("user.args.{flag}"));
    flags.chain(more.iter().cloned())
}
