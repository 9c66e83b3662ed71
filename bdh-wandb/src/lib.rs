//! Weights & Biases for the runs of [`bdh`]: a native `.wandb` log, written without W&B's own client.
//!
//! Every run writes the log, with one `write(2)` per entry, and the log is the authoritative copy: `wandb sync` can
//! upload it at any time. Online, a separate thread reads the same log and uploads it during the run.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `online` | the upload during a run, and `sync`; without it there is no network code | no |

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
        reason = "settings for the server are checked offline too, and not used"
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
