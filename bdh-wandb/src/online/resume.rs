//! `WANDB_RESUME=must` and `never` need the server's word before the run begins.

use super::bucket;
use super::link::GaveUp;
use super::{Pace, link};
use crate::settings::{Resume, Settings};
use std::sync::Arc;

/// Why a run must not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// Nothing to resume.
    #[error("WANDB_RESUME is `must`, and there is no run `{0}` to resume; use allow")]
    Missing(String),
    /// Something would be resumed.
    #[error(
        "WANDB_RESUME is `never`, and there is a run `{0}` already; use allow, or another run id"
    )]
    Exists(String),
    /// It cannot be known.
    #[error("W&B was asked whether there is a run `{run_id}`: {why}")]
    Unknown {
        /// The run.
        run_id: String,
        /// What came instead of an answer.
        why: String,
    },
}

/// Asks whether a run may begin as `WANDB_RESUME` wants it; waits up to `WANDB_INIT_TIMEOUT`, and asks nothing
/// where any answer will do.
pub(crate) fn check_resume(settings: &Settings, run_id: &str) -> Result<(), ResumeError> {
    let wanted = match settings.resume {
        Some(Resume::Must) => true,
        Some(Resume::Never) => false,
        Some(Resume::Allow | Resume::Auto) | None => return Ok(()),
    };
    let silent = Arc::new(|_| {});
    let Some(link) = link(
        settings,
        Pace::default(),
        silent,
        Some(settings.init_timeout),
    ) else {
        return Ok(());
    };
    let entity = settings.entity.as_deref();
    let found = link.insist(&[], |api| {
        bucket::known(api, entity, &settings.project, run_id)
    });
    let run_id = run_id.to_owned();
    match found {
        Ok(found) if found.is_some() == wanted => Ok(()),
        Ok(None) => Err(ResumeError::Missing(run_id)),
        Ok(Some(_)) => Err(ResumeError::Exists(run_id)),
        Err(GaveUp::Refused(why) | GaveUp::Unreachable(why)) => {
            Err(ResumeError::Unknown { run_id, why })
        }
        Err(GaveUp::Stopped) => Ok(()),
    }
}
