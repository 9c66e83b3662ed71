//! A thread that reads a data loader of burn, pass after pass.

use super::pass::Pass;
use crate::data::worker::{PATIENCE, Worker};
use crate::failure::BoxError;
use burn::data::dataloader::DataLoader;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

/// Batches that are made ahead: one in the queue, and one in the hands of the thread.
const CAPACITY: usize = 2;

/// Place of a batch: the number of its epoch, and its number there, both from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) batch: u64,
}

/// A batch with its place and the number of its items.
pub(super) struct Read<B> {
    pub(super) batch: B,
    pub(super) place: Place,
    items: usize,
}

type Queue<B> = SyncSender<Result<Read<B>, BoxError>>;

/// Batches of a loader, epoch after epoch.
///
/// An iterator of a burn loader borrows the loader, so only a thread that owns the loader can keep one between two
/// batches.
pub(super) struct Reader<B> {
    worker: Option<Worker<Result<Read<B>, BoxError>, ()>>,
    /// First epoch whose batches are wanted: the thread begins the epochs before it, but does not read them.
    wanted: Arc<AtomicU64>,
    /// Batches, or an error, that were taken from the thread and not yet returned.
    taken: VecDeque<Result<Read<B>, BoxError>>,
    batches_per_epoch: Option<u64>,
}

impl<B: Send + 'static> Reader<B> {
    /// Starts a thread whose first batch is that of an epoch.
    pub(super) fn start(loader: &Arc<dyn DataLoader<B>>, epoch: u64) -> Self {
        let wanted = Arc::new(AtomicU64::new(epoch));
        let mut reader = Self {
            worker: None,
            wanted: Arc::clone(&wanted),
            taken: VecDeque::new(),
            batches_per_epoch: None,
        };
        let loader = Arc::clone(loader);
        let items = loader.num_items();
        match Worker::start(CAPACITY, move |queue| fill(queue, &*loader, &wanted)) {
            Ok(worker) => {
                reader.worker = Some(worker);
                reader.batches_per_epoch = reader.count_batches(items);
            }
            Err(error) => reader.taken.push_back(Err(error)),
        }
        reader
    }

    /// Computes the number of batches in a pass over `items` from the size of the first two.
    ///
    /// A pass has at most one batch that is smaller than the others. With worker threads it can come first, so the larger
    /// of two counts.
    fn count_batches(&mut self, items: usize) -> Option<u64> {
        let mut batch_size = 0;
        for _ in 0..2 {
            let read = self.receive();
            batch_size = batch_size.max(read.as_ref().map_or(0, |read| read.items));
            self.taken.push_back(read);
        }
        (batch_size > 0).then(|| items.div_ceil(batch_size) as u64)
    }

    /// Returns the number of batches in one pass, if the loader reports how many items it has read.
    pub(super) fn batches_per_epoch(&self) -> Option<u64> {
        self.batches_per_epoch
    }

    /// Returns the next batch.
    pub(super) fn next(&mut self) -> Result<Read<B>, BoxError> {
        match self.taken.pop_front() {
            Some(taken) => taken,
            None => self.receive(),
        }
    }

    fn receive(&mut self) -> Result<Read<B>, BoxError> {
        if let Some(read) = self.worker.as_ref().and_then(Worker::next) {
            return read;
        }
        if let Some(worker) = self.worker.take() {
            worker.join()?;
        }
        Err("the data loader failed before, and has no further batches".into())
    }

    /// Skips the batches before a place.
    pub(super) fn skip_to(&mut self, place: Place) -> Result<(), BoxError> {
        // No data goes with the number. A thread that reads it late sends batches that are skipped below.
        self.wanted.store(place.epoch, Ordering::Relaxed);
        loop {
            let read = self.next()?;
            if read.place >= place {
                self.taken.push_front(Ok(read));
                return Ok(());
            }
        }
    }
}

impl<B> Drop for Reader<B> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.end_within(PATIENCE);
        }
    }
}

/// Fills the queue until the loader fails or the other end of the queue is dropped.
fn fill<B: 'static>(queue: &Queue<B>, loader: &dyn DataLoader<B>, wanted: &AtomicU64) {
    for epoch in 0.. {
        match read_epoch(queue, loader, wanted, epoch) {
            Ok(()) => {}
            Err(Ended::Unwanted) => return,
            Err(Ended::Failed(error)) => {
                let _ = queue.send(Err(error)); // a run that is over does not receive it
                return;
            }
        }
    }
}

/// End of a thread before its loader is read to the end.
enum Ended {
    Failed(BoxError),
    /// Queue whose other end was dropped.
    Unwanted,
}

impl From<BoxError> for Ended {
    fn from(error: BoxError) -> Self {
        Self::Failed(error)
    }
}

/// Sends the batches of one epoch, unless a later one is wanted.
///
/// A skipped epoch is begun all the same: burn's loader draws its order then, and so the orders of the later ones.
fn read_epoch<B: 'static>(
    queue: &Queue<B>,
    loader: &dyn DataLoader<B>,
    wanted: &AtomicU64,
    epoch: u64,
) -> Result<(), Ended> {
    let mut pass = Pass::begin(loader)?;
    let mut place = Place { epoch, batch: 0 };
    let mut items_before = 0;
    while wanted.load(Ordering::Relaxed) <= epoch {
        let Some(batch) = pass.next() else {
            return check_length(place);
        };
        let (batch, items) = (batch?, pass.items());
        let read = Read {
            batch,
            place,
            items: items.saturating_sub(items_before),
        };
        queue.send(Ok(read)).map_err(|_| Ended::Unwanted)?;
        place.batch += 1;
        items_before = items;
    }
    Ok(())
}

/// Fails at the end of an epoch without batches, so the search for a batch always ends.
fn check_length(end: Place) -> Result<(), Ended> {
    if end.batch == 0 {
        let text = format!(
            "epoch {} of the data loader has no batches: a pass must have at least one",
            end.epoch
        );
        return Err(Ended::Failed(text.into()));
    }
    Ok(())
}
