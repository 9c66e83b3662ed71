//! One pass over a data loader of burn.

use super::caught::caught;
use crate::failure::BoxError;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, MultiThreadDataLoader};

/// Batches of one pass over a loader. Errors and panics of the loader are items.
pub(super) struct Pass<'a, B> {
    batches: Box<dyn DataLoaderIterator<B> + 'a>,
    has_threads: bool,
    /// Whether the pass has ended, or failed: burn's loader would try the batch that failed again and again.
    is_over: bool,
}

impl<'a, B: 'static> Pass<'a, B> {
    /// Begins a pass. A loader of burn that shuffles draws the order of the pass here.
    pub(super) fn begin(loader: &'a dyn DataLoader<B>) -> Result<Self, BoxError> {
        Ok(Self {
            batches: caught("the data loader", || loader.iter())?,
            has_threads: has_threads(loader),
            is_over: false,
        })
    }
}

impl<B> Pass<'_, B> {
    /// Returns the number of items in the batches so far.
    pub(super) fn items(&self) -> usize {
        self.batches.progress().items_processed
    }

    /// Returns an error if a pass that ended did not read all items.
    ///
    /// A worker thread of burn that panics only closes its channel, and the others finish without it. Other loaders end a
    /// pass where they want, such as before a last batch that is smaller.
    fn cut_short(&self) -> Option<BoxError> {
        let progress = self.batches.progress();
        if !self.has_threads || progress.is_completed() {
            return None;
        }
        let (read, all) = (progress.items_processed, progress.items_total);
        Some(format!(
            "the data loader ended a pass after {read} of {all} items: one of its worker threads panicked, with a message on the standard error output"
        ).into())
    }
}

impl<B> Iterator for Pass<'_, B> {
    type Item = Result<B, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let batch = match caught("the data loader", || self.batches.next()) {
            Ok(Some(batch)) => Some(batch.map_err(BoxError::from)),
            Ok(None) => self.cut_short().map(Err),
            Err(panic) => Some(Err(panic)),
        };
        self.is_over = !matches!(batch, Some(Ok(_)));
        batch
    }
}

/// Returns whether a loader is burn's with worker threads (`num_workers`), whose batches come in another order each time.
///
/// `DataLoader` has no way to ask. The size of the loader answers: its fields are pointers, numbers and a device, so the
/// size is the same for all items and batches, and differs from that of burn's loader without threads. A test fails if
/// that changes.
pub(super) fn has_threads<B: 'static>(loader: &dyn DataLoader<B>) -> bool {
    size_of_val(loader) == size_of::<MultiThreadDataLoader<(), ()>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::data::dataloader::batcher::Batcher;
    use burn::data::dataloader::{BatchDataLoader, DataLoaderBuilder};
    use burn::data::dataset::InMemDataset;
    use burn::tensor::Device;
    use std::fmt::Debug;
    use std::sync::Arc;

    /// Makes a batch `B` of whatever items.
    struct Blank;

    impl<I, B: Default> Batcher<I, B> for Blank {
        fn batch(&self, _: Vec<I>, _: &Device) -> B {
            B::default()
        }
    }

    fn loader<I, B>(workers: usize) -> Arc<dyn DataLoader<B>>
    where
        I: Default + Clone + Debug + Send + Sync + 'static,
        B: Default + Clone + Debug + Send + 'static,
    {
        DataLoaderBuilder::<I, B>::new(Blank)
            .set_device(Device::flex())
            .num_workers(workers)
            .build(InMemDataset::new(vec![I::default()]))
    }

    fn check<I, B>()
    where
        I: Default + Clone + Debug + Send + Sync + 'static,
        B: Default + Clone + Debug + Send + 'static,
    {
        assert!(!has_threads(&*loader::<I, B>(0)));
        assert!(has_threads(&*loader::<I, B>(1)));
        assert!(has_threads(&*loader::<I, B>(4)));
        assert_ne!(
            size_of::<BatchDataLoader<I, B>>(),
            size_of::<MultiThreadDataLoader<I, B>>()
        );
    }

    #[test]
    fn loaders_with_worker_threads_are_recognized_whatever_their_items_and_batches() {
        check::<(), ()>();
        check::<u8, [u64; 32]>();
        check::<[u64; 32], u8>();
        check::<String, Vec<String>>();
    }
}
