//! What a user says about a callback where it is added: when, under which name, with which policy.

use super::{Callback, OnError};
use crate::cadence::Cadence;

/// A callback with another cadence, name, error policy or keys than its own.
pub struct Attached<C> {
    pub(super) inner: C,
    pub(super) name: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) cadence: Option<Cadence>,
    pub(super) on_error: Option<OnError>,
}

/// Says when a callback acts and what it is called, on any callback.
///
/// # Examples
///
/// ```
/// use bdh::{Attach, Callback, callback, every, last};
/// # #[derive(Default)] struct Norms;
/// # #[callback] impl Callback for Norms {}
///
/// let norms = Norms::default().every(every(10) | last()).named("norms of the teacher");
/// assert_eq!(norms.cadence().to_string(), "every 10 steps | last");
/// ```
pub trait Attach: Callback + Sized {
    /// Acts on these steps instead of the callback's own; `100` means every 100 steps.
    fn every(self, cadence: impl Into<Cadence>) -> Attached<Self> {
        Attached {
            cadence: Some(cadence.into()),
            ..bare(self)
        }
    }

    /// Goes by this name, so that two callbacks of one kind can be told apart.
    fn named(self, name: impl Into<String>) -> Attached<Self> {
        Attached {
            name: Some(name.into()),
            ..bare(self)
        }
    }

    /// Puts a prefix before the names that it records, within their groups: `val/ema_loss` becomes
    /// `val/slow/ema_loss`. Files that it writes have the prefix as a folder: `samples/500.md` becomes
    /// `samples/slow/500.md` (see [`Cx::file`](crate::Cx::file)); checkpoints that it asks for keep their names. Its own
    /// name ends with the prefix (`ema_slow`), unless [`named`](Self::named) comes after.
    ///
    /// So two callbacks of one kind record side by side.
    fn prefix(self, prefix: impl Into<String>) -> Attached<Self> {
        Attached {
            prefix: Some(prefix.into()),
            ..bare(self)
        }
    }

    /// Treats a failure this way.
    fn or_else(self, on_error: OnError) -> Attached<Self> {
        Attached {
            on_error: Some(on_error),
            ..bare(self)
        }
    }
}

impl<C: Callback> Attach for C {}

fn bare<C>(inner: C) -> Attached<C> {
    Attached {
        inner,
        name: None,
        prefix: None,
        cadence: None,
        on_error: None,
    }
}
