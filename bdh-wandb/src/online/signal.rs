//! What the run wants of its uploader, heard by both of its threads, also while they wait.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is wanted. Each is a step further towards the end; none is taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Send, at a pace that spares the server.
    #[default]
    Send,
    /// The log is complete: send what is left of it, and end.
    Finish,
    /// End now.
    Stop,
}

#[derive(Debug, Default)]
pub(super) struct Signal {
    wish: Mutex<Wish>,
    changed: Condvar,
}

impl Signal {
    /// Wants more than before.
    pub(super) fn want(&self, wish: Wish) {
        let mut current = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        *current = wish.max(*current);
        self.changed.notify_all();
    }

    pub(super) fn wish(&self) -> Wish {
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps, unless something else than `seen` is wanted; wakes up when that changes.
    pub(super) fn wait(&self, time: Duration, seen: Wish) -> Wish {
        let began = Instant::now();
        let mut current = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        while *current == seen {
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(current, left);
            current = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *current
    }
}
