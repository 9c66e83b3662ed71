//! Check of `WANDB_RESUME=must` and `never`, which need the server's answer before the run begins.

use super::bucket;
use super::link::{GaveUp, Link};
use super::{Pace, link};
use crate::settings::{Resume, Settings};
use std::sync::Arc;

/// Reason why a run must not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// There is no run to resume.
    #[error("WANDB_RESUME is `must`, and there is no run `{0}` to resume; use allow")]
    Missing(String),
    /// A run would be resumed.
    #[error(
        "WANDB_RESUME is `never`, and there is a run `{0}` already; use allow, or another run id"
    )]
    Exists(String),
    /// The server did not answer.
    #[error("cannot find out from W&B whether the run `{run_id}` exists: {why}")]
    Unknown {
        /// Id of the run.
        run_id: String,
        /// Error of the request.
        why: String,
    },
}

/// Checks with the server whether a run may begin under `WANDB_RESUME`.
///
/// Waits up to `WANDB_INIT_TIMEOUT`. Nothing is asked if any answer would do.
pub(crate) fn check_resume(settings: &Settings, run_id: &str) -> Result<(), ResumeError> {
    let Some(must_exist) = must_exist(settings.resume) else {
        return Ok(());
    };
    let timeout = Some(settings.init_timeout);
    let Some(link) = link(settings, Pace::default(), Arc::new(|_| {}), timeout) else {
        return Ok(());
    };
    let Some(exists) = exists(&link, settings, run_id)? else {
        return Ok(());
    };
    let run_id = run_id.to_owned();
    match (exists, must_exist) {
        (true, true) | (false, false) => Ok(()),
        (false, true) => Err(ResumeError::Missing(run_id)),
        (true, false) => Err(ResumeError::Exists(run_id)),
    }
}

/// Whether the run must exist or must not; `None` if both are fine.
fn must_exist(resume: Option<Resume>) -> Option<bool> {
    match resume? {
        Resume::Must => Some(true),
        Resume::Never => Some(false),
        Resume::Allow | Resume::Auto => None,
    }
}

/// Asks the server whether a run exists; `None` if the request was stopped.
fn exists(link: &Link, settings: &Settings, run_id: &str) -> Result<Option<bool>, ResumeError> {
    let entity = settings.entity.as_deref();
    let known = link.insist(&[], |api| {
        bucket::known(api, entity, &settings.project, run_id)
    });
    match known {
        Ok(known) => Ok(Some(known.is_some())),
        Err(GaveUp::Stopped) => Ok(None),
        Err(GaveUp::Refused(why) | GaveUp::Unreachable(why)) => Err(ResumeError::Unknown {
            run_id: run_id.to_owned(),
            why,
        }),
    }
}
