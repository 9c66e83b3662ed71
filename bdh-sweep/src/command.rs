//! The command line that starts a trial.

use crate::error::SweepError;
use crate::python;
use crate::schema::Sweep;
use serde_json::{Map, Value};
use std::path::Path;

/// The command of a file without `command`.
///
/// W&B would run a Python script; here it is the program that runs the sweep.
const DEFAULT_COMMAND: [&str; 2] = ["${program}", "${args}"];

impl Sweep {
    /// Returns the command line that starts a trial with these values: `command` with its macros expanded.
    ///
    /// | macro | becomes |
    /// |---|---|
    /// | `${env}` | `/usr/bin/env` |
    /// | `${interpreter}` | `python` |
    /// | `${program}` | `program` of the file, or else `this_program` |
    /// | `${args}` | `--key=value` for each value |
    /// | `${args_no_equals}` | `--key value` |
    /// | `${args_no_hyphens}` | `key=value` |
    /// | `${args_no_boolean_flags}` | `--key=value`; `--key` for true, nothing for false |
    /// | `${args_append_hydra}`, `${args_override_hydra}` | `+key=value`, `++key=value` |
    /// | `${args_json}` | all values as one JSON object |
    /// | `${args_json_file}` | `json_file`, which the caller writes |
    /// | `${envvar:NAME}`, also inside an argument | the environment variable `NAME` |
    ///
    /// Values are formatted as W&B's agent formats them, by Python's `str`: `True`, `None`, `1e-05`. Without `command`,
    /// the command is `this_program` with `${args}`, and the file's `program` is not used.
    ///
    /// # Errors
    ///
    /// [`SweepError::Invalid`] for an unknown macro, or an environment variable that is not set.
    pub fn command_line(
        &self,
        values: &Map<String, Value>,
        this_program: &str,
        json_file: &Path,
    ) -> Result<Vec<String>, SweepError> {
        let Some(command) = &self.command else {
            // A program given by its bare name is this one: it is in no search path.
            let default = DEFAULT_COMMAND.map(str::to_owned);
            return expand_all(&default, values, this_program, json_file);
        };
        let program = self.program.as_deref().unwrap_or(this_program);
        expand_all(command, values, program, json_file)
    }
}

fn expand_all(
    command: &[String],
    values: &Map<String, Value>,
    program: &str,
    json_file: &Path,
) -> Result<Vec<String>, SweepError> {
    let mut argv = Vec::new();
    for word in command {
        match word.as_str() {
            "${env}" => argv.push("/usr/bin/env".to_owned()),
            "${interpreter}" => argv.push("python".to_owned()),
            "${program}" => argv.push(program.to_owned()),
            "${args}" => push_args(&mut argv, values, "--"),
            "${args_no_equals}" => push_pairs(&mut argv, values),
            "${args_no_hyphens}" => push_args(&mut argv, values, ""),
            "${args_no_boolean_flags}" => push_switches(&mut argv, values),
            "${args_append_hydra}" => push_args(&mut argv, values, "+"),
            "${args_override_hydra}" => push_args(&mut argv, values, "++"),
            "${args_json}" => argv.push(Value::Object(values.clone()).to_string()),
            "${args_json_file}" => argv.push(json_file.display().to_string()),
            word => argv.push(with_variables(word)?),
        }
    }
    Ok(argv)
}

/// Appends `key=value`, behind a prefix, for each value.
fn push_args(argv: &mut Vec<String>, values: &Map<String, Value>, prefix: &str) {
    for (key, value) in values {
        argv.push(format!("{prefix}{key}={}", python::str(value)));
    }
}

/// Appends `--key value`, as two arguments, for each value.
fn push_pairs(argv: &mut Vec<String>, values: &Map<String, Value>) {
    for (key, value) in values {
        argv.extend([format!("--{key}"), python::str(value)]);
    }
}

/// Appends `--key=value` for each value, with booleans as switches.
fn push_switches(argv: &mut Vec<String>, values: &Map<String, Value>) {
    for (key, value) in values {
        match value {
            Value::Bool(true) => argv.push(format!("--{key}")),
            Value::Bool(false) => {}
            value => argv.push(format!("--{key}={}", python::str(value))),
        }
    }
}

/// The macros that work, for error messages.
const MACROS: &str = "a whole word can be ${program}, ${args}, ${args_no_equals}, ${args_no_hyphens}, \
                      ${args_no_boolean_flags}, ${args_append_hydra}, ${args_override_hydra}, ${args_json}, \
                      ${args_json_file}, ${env} or ${interpreter}, and any part of one ${envvar:NAME}";

/// Replaces each `${envvar:NAME}` by the variable's value.
fn with_variables(word: &str) -> Result<String, SweepError> {
    let Some((before, rest)) = word.split_once("${") else {
        return Ok(word.to_owned());
    };
    let Some((name, after)) = rest.split_once('}') else {
        return Ok(word.to_owned());
    };
    let Some(variable) = name.strip_prefix("envvar:") else {
        return Err(SweepError::Invalid(format!(
            "`command` has the macro `${{{name}}}` in `{word}`: {MACROS}"
        )));
    };
    let Ok(value) = std::env::var(variable) else {
        return Err(SweepError::Invalid(format!(
            "`command` uses the variable `{variable}`, which is not set in the environment"
        )));
    };
    Ok(format!("{before}{value}{}", with_variables(after)?))
}
