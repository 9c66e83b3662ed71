//! Commands from the run to the threads of its uploader, which also wake waiting threads.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Command to an uploader; each one is closer to the end, and none is taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Command {
    /// Sends a growing log at the usual pace.
    #[default]
    Send,
    /// Sends the rest of a complete log, and ends.
    Finish,
    /// Ends now.
    Stop,
}

/// Current command, shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Signal {
    // A mutex with a condition, and not an atomic: waiting threads must wake when it changes.
    command: Mutex<Command>,
    changed: Condvar,
}

impl Signal {
    /// Raises the command; a lower one than the current has no effect.
    pub(super) fn raise(&self, command: Command) {
        let mut current = self.command.lock().unwrap_or_else(PoisonError::into_inner);
        *current = command.max(*current);
        self.changed.notify_all();
    }

    pub(super) fn command(&self) -> Command {
        *self.command.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `time`, or until the command differs from `seen`, and returns the command.
    pub(super) fn wait(&self, time: Duration, seen: Command) -> Command {
        let began = Instant::now();
        let mut current = self.command.lock().unwrap_or_else(PoisonError::into_inner);
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
