//! The words that start a trial.

use crate::error::SweepError;
use crate::python;
use crate::schema::Sweep;
use serde_json::{Map, Value};
use std::path::Path;

/// What W&B runs when a file has no `command`: a Python script. Ours is the program that runs the sweep.
const USUAL: [&str; 2] = ["${program}", "${args}"];

impl Sweep {
    /// The words that start a trial with these values: `command` with its macros put in.
    ///
    /// | macro | becomes |
    /// |---|---|
    /// | `${env}` | `/usr/bin/env` |
    /// | `${interpreter}` | `python` |
    /// | `${program}` | `program` of the file |
    /// | `${args}` | `--key=value` for each value |
    /// | `${args_no_equals}` | `--key value` |
    /// | `${args_no_hyphens}` | `key=value` |
    /// | `${args_no_boolean_flags}` | `--key=value`; `--key` for true, nothing for false |
    /// | `${args_append_hydra}`, `${args_override_hydra}` | `+key=value`, `++key=value` |
    /// | `${args_json}` | all values as one JSON object |
    /// | `${args_json_file}` | `json_file`, which the caller writes |
    /// | `${envvar:NAME}`, also inside a word | that variable of the environment |
    ///
    /// Values are spelled as W&B's agent spells them, by Python's `str`: `True`, `None`, `1e-05`. A file without
    /// `command` means its `program`, or else `this_program`, with `${args}`.
    ///
    /// # Errors
    ///
    /// [`SweepError::Invalid`] for a macro that does not exist, or a variable that is not set.
    pub fn command_line(
        &self,
        values: &Map<String, Value>,
        this_program: &str,
        json_file: &Path,
    ) -> Result<Vec<String>, SweepError> {
        let usual = || USUAL.map(str::to_owned).to_vec();
        let command = self.command.clone().unwrap_or_else(usual);
        // Without a command, a program by its bare name is this one: it is in no search path.
        let program = self.program.as_deref().filter(|_| self.command.is_some());
        let program = program.unwrap_or(this_program);
        let words = command
            .iter()
            .map(|word| expand(word, values, program, json_file));
        Ok(words.collect::<Result<Vec<_>, _>>()?.concat())
    }
}

fn expand(
    word: &str,
    values: &Map<String, Value>,
    program: &str,
    json_file: &Path,
) -> Result<Vec<String>, SweepError> {
    let each = |spell: &dyn Fn(&str, &Value) -> Vec<String>| {
        values
            .iter()
            .flat_map(|(key, value)| spell(key, value))
            .collect()
    };
    let joined = |before: &'static str| {
        each(&|key, value| vec![format!("{before}{key}={}", python::str(value))])
    };
    Ok(match word {
        "${env}" => vec!["/usr/bin/env".to_owned()],
        "${interpreter}" => vec!["python".to_owned()],
        "${program}" => vec![program.to_owned()],
        "${args}" => joined("--"),
        "${args_no_equals}" => each(&|key, value| vec![format!("--{key}"), python::str(value)]),
        "${args_no_hyphens}" => joined(""),
        "${args_no_boolean_flags}" => each(&|key, value| match value {
            Value::Bool(true) => vec![format!("--{key}")],
            Value::Bool(false) => Vec::new(),
            value => vec![format!("--{key}={}", python::str(value))],
        }),
        "${args_append_hydra}" => joined("+"),
        "${args_override_hydra}" => joined("++"),
        "${args_json}" => vec![Value::Object(values.clone()).to_string()],
        "${args_json_file}" => vec![json_file.display().to_string()],
        word => vec![with_variables(word)?],
    })
}

/// Puts in what stands for `${envvar:NAME}`.
fn with_variables(word: &str) -> Result<String, SweepError> {
    let invalid = |what: String| Err(SweepError::Invalid(what));
    let Some((before, rest)) = word.split_once("${") else {
        return Ok(word.to_owned());
    };
    let Some((name, after)) = rest.split_once('}') else {
        return Ok(word.to_owned());
    };
    let Some(name) = name.strip_prefix("envvar:") else {
        return invalid(format!(
            "`command` has the macro `${{{name}}}` in `{word}`: a whole word can be ${{program}}, ${{args}}, \
             ${{args_no_equals}}, ${{args_no_hyphens}}, ${{args_no_boolean_flags}}, ${{args_append_hydra}}, \
             ${{args_override_hydra}}, ${{args_json}}, ${{args_json_file}}, ${{env}} or ${{interpreter}}, and any \
             part of one ${{envvar:NAME}}"
        ));
    };
    let Ok(value) = std::env::var(name) else {
        return invalid(format!(
            "`command` asks for the variable `{name}`, which is not set in the environment"
        ));
    };
    Ok(format!("{before}{value}{}", with_variables(after)?))
}
