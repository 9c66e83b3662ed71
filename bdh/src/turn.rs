//! Turns at burn's generator of random numbers on the CPU.
//!
//! A process has one generator, which a run seeds for each forward pass. Two runs on two threads still disturb each
//! other, if one draws or seeds between the seed and the dropout of the other. During a [`Turn`] the other runs of the
//! process wait, and numbers drawn after each forward pass reveal draws by anything else.

use crate::device_read;
use burn::tensor::{Device, Distribution, Tensor};
use std::collections::BTreeMap;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Longest time that a step waits. A checked run may itself wait for a run on another thread, which then must not wait
/// for the end of the check.
const PATIENCE: Duration = Duration::from_mins(1);

static HOLDER: Mutex<Option<Holder>> = Mutex::new(None);
static FREED: Condvar = Condvar::new();

/// Numbers that were drawn after forward passes, as bytes, by step and micro-batch.
pub(crate) type Traces = BTreeMap<(u64, usize), Vec<u8>>;

/// Thread that has its turn.
struct Holder {
    thread: ThreadId,
    traces: Traces,
}

impl Holder {
    fn is_here(&self) -> bool {
        self.thread == thread::current().id()
    }
}

/// Turn of one thread: until it is dropped, runs on other threads wait before their next step.
#[must_use]
pub(crate) struct Turn(());

impl Turn {
    /// Waits for the turns of other threads, and takes one.
    pub(crate) fn take() -> Self {
        let free = FREED.wait_while(holder(), |holder| holder.is_some());
        *free.unwrap_or_else(PoisonError::into_inner) = Some(Holder {
            thread: thread::current().id(),
            traces: Traces::new(),
        });
        Self(())
    }

    /// Returns the numbers that were drawn since the last call.
    #[expect(
        clippy::unused_self,
        reason = "only the thread with the turn has traces"
    )]
    pub(crate) fn take_traces(&self) -> Traces {
        let mut holder = holder();
        holder
            .as_mut()
            .map(|holder| mem::take(&mut holder.traces))
            .unwrap_or_default()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *holder() = None;
        FREED.notify_all();
    }
}

fn holder() -> MutexGuard<'static, Option<Holder>> {
    // No code that can panic runs under this lock.
    HOLDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits while another thread has its turn, for a minute at most.
pub(crate) fn wait() {
    drop(FREED.wait_timeout_while(holder(), PATIENCE, |holder| {
        holder.as_ref().is_some_and(|holder| !holder.is_here())
    }));
}

/// Whether this thread has its turn, so its forward passes are traced.
pub(crate) fn is_here() -> bool {
    holder().as_ref().is_some_and(Holder::is_here)
}

/// Draws a number and keeps it, for one device read. Equal runs draw equal numbers, unless something else drew or seeded
/// in between.
pub(crate) fn trace(device: &Device, step: u64, micro_batch: usize) {
    let number = Tensor::<1>::random([1], Distribution::Default, &device.clone().inner());
    let Ok(data) = device_read::vectors([number]) else {
        return; // a device that fails is reported where the run reads from it
    };
    let bytes = data.iter().flat_map(|data| data.as_bytes().to_vec());
    if let Some(holder) = holder().as_mut() {
        holder.traces.insert((step, micro_batch), bytes.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn steps_of_other_threads_wait_for_the_end_of_a_turn() {
        let turn = Turn::take();
        wait(); // the thread with the turn does not wait for itself
        assert!(is_here());
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                assert!(!is_here());
                wait();
                send.send("a step").expect("this test receives it");
            });
            let early = receive.recv_timeout(Duration::from_millis(50));
            assert!(early.is_err(), "a step during the turn");
            drop(turn);
            let late = receive.recv_timeout(PATIENCE / 2);
            assert_eq!(late, Ok("a step"));
        });
    }

    #[test]
    fn a_draw_of_another_thread_changes_the_trace() {
        let turn = Turn::take();
        let device = Device::flex();
        let traces = |draws: usize| {
            device.seed(3);
            thread::scope(|scope| {
                for _ in 0..draws {
                    scope.spawn(|| Tensor::<1>::random([1], Distribution::Default, &device));
                }
            });
            trace(&device, 1, 0);
            turn.take_traces()
        };
        // Other tests of this process may draw as well, so only a difference can be relied on.
        let different = (0..20).any(|_| traces(0) != traces(1));
        assert!(different);
        assert_eq!(traces(0).len(), 1);
    }
}
