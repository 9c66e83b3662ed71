//! Training and exit codes, as all programs that train have them.

use crate::page;
use bdh::{BoxError, Fitted, Outcome, StopReason, Task, TrainError, Trainer};
use bdh_cli::INTERRUPTED;
use std::process::ExitCode;

/// Trains. An error in the configuration is the user's to correct, so it is returned as itself and not as a [`TrainError`].
///
/// # Errors
///
/// [`TrainError`] for a run that began; [`bdh::ConfigError`] for one that did not.
pub fn fit<T: Task>(trainer: Trainer<T>) -> Result<Fitted<T::Model>, BoxError> {
    trainer.fit().map_err(|error| match error {
        TrainError::Config(error) => error.into(),
        error => error.into(),
    })
}

/// Returns 0, or 130 for a run that Ctrl-C ended.
#[must_use]
pub fn exit_code(outcome: &Outcome) -> ExitCode {
    let interrupted = *outcome == Outcome::Stopped(StopReason::Signal);
    if interrupted {
        ExitCode::from(INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints a program's error, if it ends with one: exit code 2 for what a user can correct, 1 for a run that began.
#[must_use]
pub fn end(ended: Result<ExitCode, BoxError>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        page::error(&*error);
        ExitCode::from(if error.is::<TrainError>() { 1 } else { 2 })
    })
}
