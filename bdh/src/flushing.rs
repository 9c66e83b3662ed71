//! Waiting for sinks to make durable what they were given.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Sinks that were asked to flush, each with its patience; any thread may wait for them.
#[derive(Default)]
pub(crate) struct Flushing(pub(crate) Vec<(Duration, Receiver<()>)>);

impl Flushing {
    /// Waits until each has answered or taken too long; gives the places of those.
    pub(crate) fn wait(self) -> Vec<usize> {
        let asked = Instant::now();
        let is_late = |(patience, answer): &(Duration, Receiver<()>)| {
            let left = patience.saturating_sub(asked.elapsed());
            // An answer that can no longer come is one too: the sink has failed, and has told.
            answer.recv_timeout(left) == Err(RecvTimeoutError::Timeout)
        };
        let sinks = self.0.iter().enumerate();
        sinks
            .filter(|(_, sink)| is_late(sink))
            .map(|(index, _)| index)
            .collect()
    }
}
