//! Training and exit codes, the same in all programs.

use crate::page;
use bdh::{BoxError, Outcome, StopReason, Task, TrainError, TrainResult, Trainer};
use bdh_cli::INTERRUPTED;
use std::process::ExitCode;

/// Trains, and returns an error of the configuration as [`bdh::ConfigError`], which [`end`] reports with exit code 2.
///
/// # Errors
///
/// [`TrainError`] if the run has started; [`bdh::ConfigError`] otherwise.
pub fn fit<T: Task>(trainer: Trainer<T>) -> Result<TrainResult<T::Model>, BoxError> {
    trainer.fit().map_err(|error| match error {
        TrainError::Config(error) => error.into(),
        error => error.into(),
    })
}

/// Returns 0, or 130 for a run that Ctrl-C stopped.
#[must_use]
pub fn exit_code(outcome: &Outcome) -> ExitCode {
    match outcome {
        Outcome::Stopped(StopReason::Signal) => ExitCode::from(INTERRUPTED),
        _ => ExitCode::SUCCESS,
    }
}

/// Prints a program's error: exit code 2 for errors that the user can correct, 1 for a run that failed.
#[must_use]
pub fn end(ended: Result<ExitCode, BoxError>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        page::error(&*error);
        ExitCode::from(if error.is::<TrainError>() { 1 } else { 2 })
    })
}
