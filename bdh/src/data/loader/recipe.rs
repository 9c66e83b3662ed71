//! Batches of a burn dataset as a function of their number.

use super::caught::caught;
use crate::data::cycle::order;
use crate::failure::BoxError;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use std::sync::Arc;

/// All that decides the batches of a run.
pub(super) struct Recipe<I, B> {
    pub(super) dataset: Arc<dyn Dataset<I>>,
    pub(super) batcher: Arc<dyn Batcher<I, B>>,
    /// Device on which the batcher makes its tensors.
    pub(super) device: Device,
    /// Length of the dataset.
    pub(super) items: usize,
    pub(super) batch_size: usize,
    /// Seed of the order of each epoch; without one, the order is that of the dataset.
    pub(super) shuffle: Option<u64>,
}

/// Order of the items in one epoch.
pub(super) struct Order {
    pub(super) epoch: u64,
    items: Vec<usize>,
}

impl<I, B> Recipe<I, B> {
    /// Returns the number of batches in an epoch; the last one can be smaller than the others.
    pub(super) fn num_batches(&self) -> u64 {
        self.items.div_ceil(self.batch_size.max(1)) as u64
    }

    pub(super) fn check_batch_size(&self) -> Result<(), BoxError> {
        if self.batch_size == 0 {
            return Err("`batch_size` is 0: a batch has at least 1 item".into());
        }
        Ok(())
    }

    /// Checks that there are batches.
    pub(super) fn check(&self) -> Result<(), BoxError> {
        self.check_batch_size()?;
        if self.items == 0 {
            return Err("the dataset has no items: give `DatasetLoader` one of at least 1".into());
        }
        Ok(())
    }

    /// Returns the order of an epoch, if it differs from that of the dataset.
    pub(super) fn order(&self, epoch: u64) -> Option<Order> {
        let items = order(self.items, self.shuffle?, epoch);
        Some(Order { epoch, items })
    }

    /// Reads the items of a batch, which has at least one, and makes it.
    pub(super) fn batch(&self, order: Option<&Order>, batch: u64) -> Result<B, BoxError> {
        let first = batch as usize * self.batch_size;
        let places = first..self.items.min(first.saturating_add(self.batch_size));
        let items = match order {
            Some(order) => order.items[places].to_vec(),
            None => places.collect(),
        };
        let items = caught("the dataset", || self.dataset.get_many(items))??;
        caught("the batcher", || self.batcher.batch(items, &self.device))
    }
}

impl<I, B> Clone for Recipe<I, B> {
    fn clone(&self) -> Self {
        Self {
            dataset: Arc::clone(&self.dataset),
            batcher: Arc::clone(&self.batcher),
            device: self.device.clone(),
            ..*self
        }
    }
}
