//! Weights & Biases for the runs of [`bdh`]: a native `.wandb` log, written without any program of W&B's.
//!
//! The log is the truth. It is written for every run, one `write(2)` an entry, and `wandb sync` sends it whenever
//! somebody wants it sent. Online, a thread of its own reads the same log and sends it while the run goes on.
//!
//! # Features
//!
//! | feature | brings | default |
//! |---|---|---|
//! | `online` | the upload while a run goes on, and `sync`; without it there is no network code | |

#![forbid(unsafe_code)]

mod artifact;
mod folder;
mod journal;
#[cfg(test)]
#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
mod limit;
#[cfg(feature = "online")]
mod live;
mod log;
mod note;
#[cfg(feature = "online")]
mod online;
mod png;
mod proto;
mod read;
mod repair;
mod rows;
mod session;
#[cfg_attr(
    not(feature = "online"),
    allow(
        dead_code,
        reason = "offline, what is for the server is checked and not used"
    )
)]
mod settings;
mod sink;
mod text;
mod values;

pub use log::LogError;
#[cfg(feature = "online")]
pub use online::{SyncError, Synced, sync};
pub use read::{read_run, read_runs};
pub use repair::{Repaired, repair};
pub use settings::{Mode, Resume, SettingsError, sweep_values};
pub use sink::Wandb;
