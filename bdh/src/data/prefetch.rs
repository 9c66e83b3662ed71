//! Training data drawn ahead, on a thread of its own.

use super::TrainData;
use super::worker::{PATIENCE, Worker};
use crate::failure::{BoxError, with_causes};
use crate::task::BatchSize;
use serde_json::Value;
use std::fmt;
use std::sync::mpsc::SyncSender;

/// Largest capacity. A queue is allocated at once, so a number far beyond memory would end the program.
const MAX_CAPACITY: usize = 65_536;

/// Training data whose batches are drawn by another thread while the model trains on earlier ones.
///
/// The batches, their order and the saved positions are those of the data itself: [`state`](TrainData::state) is the
/// position after the batch that was taken last, however far ahead the thread is. The thread starts with the first batch.
/// Loading a position ends it, and the next batch starts another. `train/data_wait`, which `Throughput` of `bdh-callbacks`
/// records, is the share of the step time in which training still waits.
///
/// Errors come in their place, after the batches that were drawn before, and are repeated on every further call. A
/// panic of the data becomes the error `the data thread panicked: …`. Dropping a `Prefetch` waits until the batch under
/// way is drawn, for 5 seconds at most; after these the thread is left behind, and ends once the data returns.
///
/// Keep batches on the host, and move them to the device in [`Task::loss`](crate::Task::loss): tensors made on this
/// thread would compete with training for the device, and random numbers drawn there would change those of training.
///
/// # Examples
///
/// ```
/// use bdh::data::{Prefetch, TrainData, epochs};
///
/// let slow = epochs(|_| (0..1000).map(|number| vec![number; 3]));
/// let mut data = Prefetch::new(slow).capacity(4);
/// assert_eq!(data.next_batch()?, [0, 0, 0]);
/// assert_eq!(data.next_batch()?, [1, 1, 1]);
/// assert_eq!(data.state()["batch"], 2); // though up to 4 more are drawn
/// # Ok::<(), bdh::BoxError>(())
/// ```
pub struct Prefetch<D: TrainData> {
    capacity: usize,
    batch_size: Option<BatchSize>,
    batches_per_epoch: Option<u64>,
    /// Position after the batch that was taken last.
    state: Value,
    /// The data, while no thread draws from it.
    data: Option<D>,
    worker: Option<DataThread<D>>,
    /// Text of the error that ended the data, with its causes.
    failure: Option<String>,
}

impl<D: TrainData> Prefetch<D> {
    /// Wraps data that is slow to draw from.
    #[must_use]
    pub fn new(data: D) -> Self {
        Self {
            capacity: 2,
            batch_size: data.batch_size(),
            batches_per_epoch: data.batches_per_epoch(),
            state: data.state(),
            data: Some(data),
            worker: None,
            failure: None,
        }
    }

    /// Number of batches that are drawn ahead at most, and so are in memory. Defaults to 2; the largest is 65,536.
    ///
    /// With 0 there is no thread: a batch is drawn when it is taken. The number applies when a thread starts.
    #[must_use]
    pub fn capacity(mut self, batches: usize) -> Self {
        self.capacity = batches.min(MAX_CAPACITY);
        self
    }

    /// Takes a batch from the thread, which is started if the data is still here.
    fn take(&mut self) -> Result<Drawn<D>, BoxError> {
        if let (Some(data), 0) = (&mut self.data, self.capacity) {
            return Drawn::from(data);
        }
        if let Some(data) = self.data.take() {
            self.worker = Some(start(data, self.capacity)?);
        }
        if let Some(worker) = &self.worker
            && let Some(drawn) = worker.next()
        {
            return drawn;
        }
        self.stop()?; // only a thread that panicked closes the queue
        Err("the data thread has ended".into())
    }

    /// Ends the thread, if there is one, and returns the data. Its position may be ahead of `state`.
    fn stop(&mut self) -> Result<&mut D, BoxError> {
        if let Some(worker) = self.worker.take() {
            self.data = Some(worker.join()?);
        }
        let lost = || self.failure.as_deref().unwrap_or("the data is lost").into();
        self.data.as_mut().ok_or_else(lost)
    }

    /// Loads a position into the data, wherever it is.
    fn load(&mut self, state: &Value) -> Result<Value, BoxError> {
        let data = self.stop()?;
        data.load_state(state)?;
        Ok(data.state())
    }
}

impl<D: TrainData> TrainData for Prefetch<D> {
    type Batch = D::Batch;

    fn next_batch(&mut self) -> Result<D::Batch, BoxError> {
        if let Some(text) = &self.failure {
            return Err(text.as_str().into());
        }
        let drawn = self
            .take()
            .inspect_err(|error| self.failure = Some(with_causes(&**error)))?;
        self.state = drawn.state;
        Ok(drawn.batch)
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.batch_size
    }

    fn batches_per_epoch(&self) -> Option<u64> {
        self.batches_per_epoch
    }

    fn state(&self) -> Value {
        self.state.clone()
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        // After a failure the data is neither at the old position nor at the new one, so it yields no more batches.
        self.state = self
            .load(state)
            .inspect_err(|error| self.failure = Some(with_causes(&**error)))?;
        self.failure = None;
        Ok(())
    }
}

impl<D: TrainData> Drop for Prefetch<D> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.end_within(PATIENCE);
        }
    }
}

impl<D: TrainData> fmt::Debug for Prefetch<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetch")
            .field("capacity", &self.capacity)
            .field("state", &self.state)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// A batch, and the position after it.
struct Drawn<D: TrainData> {
    batch: D::Batch,
    state: Value,
}

impl<D: TrainData> Drawn<D> {
    fn from(data: &mut D) -> Result<Self, BoxError> {
        let batch = data.next_batch()?;
        let state = data.state();
        Ok(Self { batch, state })
    }
}

/// A thread that owns the data and draws from it, until it fails or its batches are no longer wanted.
type DataThread<D> = Worker<Result<Drawn<D>, BoxError>, D>;

fn start<D: TrainData>(data: D, capacity: usize) -> Result<DataThread<D>, BoxError> {
    Worker::start(capacity, move |queue| fill(queue, data))
}

/// Fills the queue until the data fails or the other end of the queue is dropped, and returns the data.
fn fill<D: TrainData>(queue: &SyncSender<Result<Drawn<D>, BoxError>>, mut data: D) -> D {
    loop {
        let drawn = Drawn::from(&mut data);
        let is_last = drawn.is_err();
        if queue.send(drawn).is_err() || is_last {
            return data;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{cycle, epochs};
    use serde_json::json;
    use std::sync::mpsc::{self, Receiver};
    use std::thread;
    use std::time::Duration;

    /// Data whose batches come from a channel, so a test decides how long a batch takes.
    struct Piped(Receiver<u32>);

    impl TrainData for Piped {
        type Batch = u32;

        fn next_batch(&mut self) -> Result<u32, BoxError> {
            Ok(self.0.recv()?)
        }
    }

    #[test]
    fn a_thread_whose_data_never_returns_is_left_behind() {
        let (batches, pipe) = mpsc::channel();
        let worker = start(Piped(pipe), 1).expect("a thread starts");
        assert!(!worker.end_within(Duration::from_millis(20)));

        // The thread is still there: it takes a batch, finds that it is not wanted, and drops the data.
        let is_dropped = (0..1000).any(|batch| {
            thread::sleep(Duration::from_millis(1));
            batches.send(batch).is_err()
        });
        assert!(is_dropped);
    }

    #[test]
    fn a_thread_that_waits_for_a_place_in_the_queue_ends() {
        for capacity in 1..4 {
            let worker = start(cycle(vec![1, 2]), capacity).expect("a thread starts");
            thread::sleep(Duration::from_millis(5));
            assert!(worker.end_within(PATIENCE));
        }
    }

    #[test]
    fn a_capacity_beyond_memory_is_no_panic() {
        let mut data = Prefetch::new(cycle(vec![1])).capacity(usize::MAX);
        assert_eq!(data.next_batch().expect("there is a batch"), 1);
    }

    #[test]
    fn settings_are_those_of_the_data() {
        let data = Prefetch::new(cycle(vec![1, 2, 3]));
        assert_eq!(
            (data.batches_per_epoch(), data.batch_size()),
            (Some(3), None)
        );
        assert_eq!(data.state(), cycle(vec![1, 2, 3]).state());
    }

    #[test]
    fn a_position_that_the_data_refuses_ends_it_until_another_is_loaded() {
        let mut data = Prefetch::new(epochs(|_| 0..3));
        data.next_batch().expect("there is a batch");
        let text = "epoch 0 has 3 batches, and the saved position is after batch 5: resume with the same data";
        let refused = data.load_state(&json!({ "epoch": 0, "batch": 5 }));
        assert_eq!(refused.expect_err("refused").to_string(), text);
        assert_eq!(data.next_batch().expect_err("refused").to_string(), text);

        data.load_state(&json!({ "epoch": 0, "batch": 2 }))
            .expect("there is a batch 2");
        assert_eq!(data.next_batch().expect("there is a batch"), 2);
    }
}
