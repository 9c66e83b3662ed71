//! Threads that make batches ahead of their use.

use crate::failure::{BoxError, panic_text};
use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time that dropped data waits for its thread.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A thread that puts `T`s into a queue, until there are no more or they are no longer wanted, and then returns an `R`.
pub(super) struct Worker<T, R> {
    made: Receiver<T>,
    /// Closed when the thread ends.
    ended: Receiver<Infallible>,
    thread: JoinHandle<R>,
}

impl<T: Send + 'static, R: Send + 'static> Worker<T, R> {
    /// Starts a thread that is at most `capacity` items ahead, at least 1. It must end when its queue is closed.
    pub(super) fn start(
        capacity: usize,
        work: impl FnOnce(&SyncSender<T>) -> R + Send + 'static,
    ) -> Result<Self, BoxError> {
        // The thread itself holds one item while the queue is full.
        let (queue, made) = mpsc::sync_channel(capacity.saturating_sub(1));
        let (alive, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("data".to_owned())
            .spawn(move || {
                let _alive = alive; // dropped when the thread ends, also by a panic
                work(&queue)
            })
            .map_err(|error| format!("the data thread cannot be started: {error}"))?;
        Ok(Self {
            made,
            ended,
            thread,
        })
    }
}

impl<T, R> Worker<T, R> {
    /// Waits for the next item. Returns `None` if the thread has ended.
    pub(super) fn next(&self) -> Option<T> {
        self.made.recv().ok()
    }

    /// Ends the thread and returns its result, or the error of its panic. Waits while an item is being made.
    pub(super) fn join(self) -> Result<R, BoxError> {
        drop(self.made); // the thread ends instead of waiting for a place in the queue
        self.thread
            .join()
            .map_err(|panic| format!("the data thread panicked: {}", panic_text(&*panic)).into())
    }

    /// Ends the thread, and returns whether it has ended in this time.
    ///
    /// A thread cannot be ended from outside. If the data never returns, say from a socket, waiting longer would keep
    /// the program from ending.
    pub(super) fn end_within(self, patience: Duration) -> bool {
        drop(self.made); // the thread ends instead of waiting for a place in the queue
        let has_ended = self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
        if has_ended {
            drop(self.thread.join()); // drops the data here; after a panic it is gone already
        }
        has_ended
    }
}
