//! Parsing of command lines, alone or on top of the saved flags of a resumed run.

use super::normalize;
use clap::{Args, Command, FromArgMatches};
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsString;

/// Returns a command with the flags of `A`.
#[must_use]
pub fn command<A: Args>(name: &'static str, about: &'static str) -> Command {
    // Descriptions after the flags: adding the flags replaces them with the docs of `A`.
    A::augment_args(Command::new(name))
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .long_about(None)
        .next_line_help(true)
        // Like in Python, the last of several values counts: a command line may repeat flags of a sweep's template.
        .args_override_self(true)
}

/// Parses an argument list that starts with the program name.
///
/// # Errors
///
/// clap's error, which names the argument and what is expected; also for `--help` and `--version`.
pub fn read<A: FromArgMatches>(
    command: Command,
    argv: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<A, clap::Error> {
    let argv = normalize(argv.into_iter().map(Into::into).collect(), command.clone());
    A::from_arg_matches(&command.try_get_matches_from(argv)?)
}

/// Parses the arguments of the process on top of those that the resumed run has saved.
///
/// # Errors
///
/// clap's error, like [`read`].
pub fn read_over<A: FromArgMatches + Serialize>(
    command: Command,
    saved: &Value,
) -> Result<A, clap::Error> {
    let defaults: A = read(command.clone(), [command.get_name()])?;
    let defaults = serde_json::to_value(defaults).unwrap_or_default();
    read(command, over(saved, &defaults))
}

/// Returns the arguments of the process after the saved ones, so that the new ones take precedence.
fn over(saved: &Value, defaults: &Value) -> Vec<OsString> {
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    let behind_program = argv.len().min(1);
    let saved = flags(saved, defaults).into_iter().map(OsString::from);
    argv.splice(behind_program..behind_program, saved);
    argv
}

/// Returns the flags of saved arguments, without those that have their defaults.
pub(super) fn flags(saved: &Value, defaults: &Value) -> Vec<String> {
    let mut flags = Vec::new();
    for (flag, value) in saved.as_object().into_iter().flatten() {
        let is_default = defaults[flag.as_str()] == *value;
        if !is_default && !OF_ONE_CALL.contains(&flag.as_str()) {
            add_flag(&mut flags, flag, value);
        }
    }
    flags
}

/// Adds a flag with its value; a list adds one flag for each element.
fn add_flag(flags: &mut Vec<String>, flag: &str, value: &Value) {
    match value {
        Value::Bool(true) => flags.push(format!("--{flag}")),
        Value::String(text) => flags.push(format!("--{flag}={text}")),
        Value::Number(number) => flags.push(format!("--{flag}={number}")),
        Value::Array(values) => {
            for value in values {
                add_flag(flags, flag, value);
            }
        }
        _ => {}
    }
}

/// Flags that apply to one call, and that a resumed run does not take over.
const OF_ONE_CALL: [&str; 8] = [
    "name",
    "runs",
    "resume",
    "resume_from_step",
    "allow_changed",
    "dry_run",
    "quiet",
    "list_callbacks",
];

/// Flags of sinks and checkpoints, which do not affect the results of a run.
const WITHOUT_EFFECT: [&str; 5] = [
    "log_backend",
    "wandb_project",
    "wandb_entity",
    "save_every",
    "save_freq",
];

/// Returns the settings in which a resumed run may differ, for [`bdh::TrainerBuilder::allow_changed`].
///
/// These are the flags of one call, of sinks and of checkpoints, and `more` settings that the user allows.
pub fn may_change(more: &[String]) -> impl Iterator<Item = String> {
    let mut settings = Vec::new();
    for flag in OF_ONE_CALL.into_iter().chain(WITHOUT_EFFECT) {
        settings.push(format!("user.args.{flag}"));
    }
    settings.extend_from_slice(more);
    settings.into_iter()
}
