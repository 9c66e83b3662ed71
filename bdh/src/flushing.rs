//! Waiting for sinks to flush their records.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Flush requests to sinks, each with a timeout and a channel for the answer; any thread may wait for them.
#[derive(Default)]
pub(crate) struct Flushing(pub(crate) Vec<(Duration, Receiver<()>)>);

impl Flushing {
    /// Waits until each sink has answered or its timeout has passed; returns the indices of late sinks.
    pub(crate) fn wait(self) -> Vec<usize> {
        let started = Instant::now(); // one start for all: their timeouts do not add up
        let mut late = Vec::new();
        for (index, (timeout, answer)) in self.0.into_iter().enumerate() {
            let left = timeout.saturating_sub(started.elapsed());
            // A disconnected channel is not late: the sink has failed and has reported its error.
            if answer.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                late.push(index);
            }
        }
        late
    }
}
