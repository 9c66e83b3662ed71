//! Adapters of training data repeat their batches exactly after a resume, and `Prefetch` changes none of them.

use bdh::BoxError;
use bdh::data::{Prefetch, TrainData, cycle, epochs};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

type Data = Box<dyn TrainData<Batch = u64>>;

/// Adapters and their settings.
#[derive(Debug, Clone)]
enum Adapter {
    Cycle { batches: u64, seed: Option<u64> },
    Epochs { batches: u64 },
    UnevenEpochs,
    Fallible,
}

impl Adapter {
    fn make(&self) -> Data {
        match *self {
            Self::Cycle { batches, seed } => {
                let data = cycle((0..batches).collect());
                Box::new(match seed {
                    Some(seed) => data.shuffled(seed),
                    None => data,
                })
            }
            Self::Epochs { batches } => {
                let make = move |epoch| (0..batches).map(move |batch| 100 * epoch + batch);
                Box::new(epochs(make).batches_per_epoch(batches))
            }
            Self::UnevenEpochs => Box::new(epochs(|epoch| vec![epoch; 1 + epoch as usize % 3])),
            Self::Fallible => Box::new(epochs(|epoch| [Ok::<_, BoxError>(epoch)]).fallible()),
        }
    }
}

fn adapter() -> impl Strategy<Value = Adapter> {
    let seed = prop::option::of(any::<u64>());
    prop_oneof![
        (1..9_u64, seed).prop_map(|(batches, seed)| Adapter::Cycle { batches, seed }),
        (1..9_u64).prop_map(|batches| Adapter::Epochs { batches }),
        Just(Adapter::UnevenEpochs),
        Just(Adapter::Fallible),
    ]
}

/// Draws batches, each with the position after it.
fn draw(data: &mut impl TrainData<Batch = u64>, batches: usize) -> Vec<(u64, Value)> {
    (0..batches)
        .map(|_| (data.next_batch().expect("no batch fails"), data.state()))
        .collect()
}

/// Moves fresh data to a position, through the text of a checkpoint.
fn resume(data: &mut impl TrainData, state: &Value) {
    let text = state.to_string();
    let state = serde_json::from_str(&text).expect("a state is JSON");
    data.load_state(&state).expect("the state is of this data");
}

proptest! {
    #[test]
    fn resumed_data_yields_the_batches_that_followed(
        adapter in adapter(), before in 0..30_usize, after in 0..30_usize,
    ) {
        let mut data = adapter.make();
        draw(&mut data, before);
        let mut resumed = adapter.make();
        resume(&mut resumed, &data.state());
        prop_assert_eq!(resumed.state(), data.state());
        prop_assert_eq!(draw(&mut resumed, after), draw(&mut data, after));
    }

    #[test]
    fn used_data_can_be_moved_to_any_position(
        adapter in adapter(), before in 0..30_usize, used in 0..30_usize,
    ) {
        let mut data = adapter.make();
        draw(&mut data, before);
        let mut moved = adapter.make();
        draw(&mut moved, used);
        resume(&mut moved, &data.state());
        prop_assert_eq!(draw(&mut moved, 20), draw(&mut data, 20));
    }

    #[test]
    fn prefetched_data_is_the_bare_data(
        adapter in adapter(), capacity in 0..5_usize, batches in 0..40_usize,
    ) {
        let mut bare = adapter.make();
        let mut prefetched = Prefetch::new(adapter.make()).capacity(capacity);
        prop_assert_eq!(prefetched.state(), bare.state());
        prop_assert_eq!(prefetched.batches_per_epoch(), bare.batches_per_epoch());
        prop_assert_eq!(draw(&mut prefetched, batches), draw(&mut bare, batches));
    }

    #[test]
    fn prefetched_data_resumes_after_the_batch_taken_last(
        adapter in adapter(), capacity in 0..5_usize, before in 0..20_usize, used in 0..20_usize,
    ) {
        let mut data = Prefetch::new(adapter.make()).capacity(capacity);
        draw(&mut data, before);
        // A resume may add a `Prefetch`, or leave it out, or move one whose thread is ahead.
        let mut bare = adapter.make();
        resume(&mut bare, &data.state());
        let mut moved = Prefetch::new(adapter.make()).capacity(capacity);
        draw(&mut moved, used);
        resume(&mut moved, &data.state());
        prop_assert_eq!(moved.state(), data.state());

        let followed = draw(&mut data, 20);
        prop_assert_eq!(&draw(&mut bare, 20), &followed);
        prop_assert_eq!(&draw(&mut moved, 20), &followed);
    }
}

/// Data that counts its batches where a test can see it, and fails at one of them.
struct Counted {
    drawn: Arc<AtomicU64>,
    failure: Option<Failure>,
}

/// Ways to fail at batch 3.
#[derive(Clone, Copy)]
enum Failure {
    Error,
    Panic,
}

/// An error with a cause.
#[derive(Debug)]
struct ShardError(std::io::Error);

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shard 3 cannot be read")
    }
}

impl Error for ShardError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl TrainData for Counted {
    type Batch = u64;

    fn next_batch(&mut self) -> Result<u64, BoxError> {
        let batch = self.drawn.load(Ordering::SeqCst);
        match self.failure {
            Some(Failure::Error) if batch == 3 => {
                return Err(ShardError(std::io::Error::other("the disk is gone")).into());
            }
            Some(Failure::Panic) if batch == 3 => panic!("shard {batch} is broken"),
            _ => {}
        }
        self.drawn.store(batch + 1, Ordering::SeqCst);
        Ok(batch)
    }

    fn state(&self) -> Value {
        json!(self.drawn.load(Ordering::SeqCst))
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let batch = state.as_u64().ok_or("not a number")?;
        self.drawn.store(batch, Ordering::SeqCst);
        Ok(())
    }
}

/// Returns counted data and its counter.
fn counted(failure: Option<Failure>) -> (Counted, Arc<AtomicU64>) {
    let drawn = Arc::new(AtomicU64::new(0));
    let data = Counted {
        drawn: Arc::clone(&drawn),
        failure,
    };
    (data, drawn)
}

/// Waits until a number of batches is drawn; fails after 10 seconds.
fn wait_until_drawn(drawn: &AtomicU64, batches: u64) {
    let start = Instant::now();
    while drawn.load(Ordering::SeqCst) < batches {
        assert!(start.elapsed() < Duration::from_secs(10), "too few batches");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_batch_is_drawn_before_the_first_is_taken() {
    let (data, drawn) = counted(None);
    let prefetched = Prefetch::new(data);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(drawn.load(Ordering::SeqCst), 0);
    drop(prefetched);
}

#[test]
fn a_slow_run_finds_as_many_batches_ahead_as_the_capacity() {
    for capacity in 1..4_u64 {
        let (data, drawn) = counted(None);
        let mut prefetched = Prefetch::new(data).capacity(capacity as usize);
        for taken in 1..5_u64 {
            assert_eq!(prefetched.next_batch().expect("no batch fails"), taken - 1);
            wait_until_drawn(&drawn, taken + capacity);
            thread::sleep(Duration::from_millis(10)); // the time to draw one too many
            assert_eq!(drawn.load(Ordering::SeqCst), taken + capacity);
            assert_eq!(prefetched.state(), json!(taken));
        }
    }
}

#[test]
fn a_capacity_of_0_draws_no_batch_ahead() {
    let (data, drawn) = counted(None);
    let mut prefetched = Prefetch::new(data).capacity(0);
    prefetched.next_batch().expect("no batch fails");
    thread::sleep(Duration::from_millis(10));
    assert_eq!(drawn.load(Ordering::SeqCst), 1);
}

#[test]
fn a_full_queue_does_not_hold_up_the_drop_of_the_data() {
    for capacity in 1..4_u64 {
        let (data, drawn) = counted(None);
        let mut prefetched = Prefetch::new(data).capacity(capacity as usize);
        prefetched.next_batch().expect("no batch fails");
        wait_until_drawn(&drawn, 1 + capacity);
        drop(prefetched);
        assert_eq!(
            Arc::strong_count(&drawn),
            1,
            "the thread and its data are gone"
        );
    }
}

#[test]
fn errors_come_in_their_place_and_are_repeated() {
    let (data, _) = counted(Some(Failure::Error));
    let mut prefetched = Prefetch::new(data).capacity(8);
    draw(&mut prefetched, 3);

    let error = prefetched.next_batch().expect_err("the data has failed");
    assert!(error.is::<ShardError>(), "the error of the data itself");
    for _ in 0..2 {
        let error = prefetched.next_batch().expect_err("the data has failed");
        let text = "shard 3 cannot be read: the disk is gone";
        assert_eq!(bdh::error::with_causes(&*error), text);
    }
    assert_eq!(prefetched.state(), json!(3), "before the missing batch");

    prefetched
        .load_state(&json!(1))
        .expect("the data is still there");
    assert_eq!(prefetched.next_batch().expect("no batch fails"), 1);
}

#[test]
fn panics_of_the_data_are_errors_in_their_place() {
    let (data, _) = counted(Some(Failure::Panic));
    let mut prefetched = Prefetch::new(data).capacity(8);
    draw(&mut prefetched, 3);
    let text = "the data thread panicked: shard 3 is broken";
    for _ in 0..2 {
        assert_eq!(
            prefetched
                .next_batch()
                .expect_err("the data has failed")
                .to_string(),
            text
        );
    }
    let lost = prefetched
        .load_state(&json!(1))
        .expect_err("the data has failed");
    assert_eq!(lost.to_string(), text, "the data was lost in the panic");
    assert_eq!(
        prefetched
            .next_batch()
            .expect_err("the data has failed")
            .to_string(),
        text
    );
}

#[test]
fn batches_are_drawn_on_another_thread() {
    let names = || {
        let current = thread::current();
        let name = current.name().unwrap_or_default().to_owned();
        [(current.id(), name)]
    };
    let mut prefetched = Prefetch::new(epochs(move |_| names()));
    let (first, name): (ThreadId, String) = prefetched.next_batch().expect("no batch fails");
    let (second, _) = prefetched.next_batch().expect("no batch fails");
    assert_ne!(first, thread::current().id());
    assert_eq!((first, name.as_str()), (second, "data"));

    let mut bare = Prefetch::new(epochs(move |_| names())).capacity(0);
    let (own, _) = bare.next_batch().expect("no batch fails");
    assert_eq!(own, thread::current().id());
}
