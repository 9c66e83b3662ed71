//! burn's `Dataset` and `Batcher` as data of a run, in a stable order.

use super::recipe::Recipe;
use super::share::Shares;
use crate::data::cycle::order_name;
use crate::data::{EvalData, TrainData};
use crate::failure::BoxError;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::iter;
use std::sync::Arc;

/// Largest number of workers: far more threads than processors only take memory.
const MAX_WORKERS: usize = 256;

/// Data of a run from a [`Dataset`] and a [`Batcher`] of burn, in an order that is the same for any number of workers.
///
/// The order of an epoch depends only on the seed and the number of the epoch. A run resumes exactly, also with another
/// number of workers and without reading the batches before again; the saved position is refused for a dataset of another
/// length, another batch size or another order. The last batch of an epoch can be smaller than the others.
///
/// The batcher must depend on nothing but its items: one that draws random numbers, say to flip images, draws others on a
/// resume.
///
/// An eval gets the batches in the order of the dataset. An error of the dataset, or a panic of the dataset or the
/// batcher, ends the run with its text.
///
/// # Examples
///
/// ```
/// use bdh::burn::data::{dataloader::batcher::Batcher, dataset::InMemDataset};
/// use bdh::burn::tensor::{Device, Tensor};
/// use bdh::data::{DatasetLoader, TrainData};
///
/// struct Column;
///
/// impl Batcher<f32, Tensor<1>> for Column {
///     fn batch(&self, items: Vec<f32>, device: &Device) -> Tensor<1> {
///         Tensor::from_floats(items.as_slice(), device)
///     }
/// }
///
/// let numbers = InMemDataset::new((0..10_u8).map(f32::from).collect());
/// let mut data = DatasetLoader::new(numbers, Column).batch_size(4).shuffle(7).workers(2);
/// let sizes = [4, 4, 2, 4];
/// for size in sizes {
///     assert_eq!(data.next_batch()?.dims(), [size]);
/// }
/// assert_eq!(data.state()["epoch"], 1);
/// # Ok::<(), bdh::BoxError>(())
/// ```
pub struct DatasetLoader<I: 'static, B: Send + 'static> {
    recipe: Recipe<I, B>,
    workers: usize,
    /// Number of the next batch, counted from the start of the run.
    next: u64,
    /// Batches under way. Made when the first one is due.
    shares: Option<Shares<I, B>>,
}

/// Saved form of [`DatasetLoader::state`].
#[derive(Serialize, Deserialize)]
struct Position {
    epoch: u64,
    /// Batches of the epoch that were drawn.
    batch: u64,
    /// Length of the dataset.
    items: usize,
    batch_size: usize,
    shuffle: Option<u64>,
}

impl<I: 'static, B: Send + 'static> DatasetLoader<I, B> {
    /// Makes data of batches of 1 item, in the order of the dataset, on the trainer's thread.
    #[must_use]
    pub fn new(dataset: impl Dataset<I> + 'static, batcher: impl Batcher<I, B> + 'static) -> Self {
        let recipe = Recipe {
            items: dataset.len(),
            dataset: Arc::new(dataset),
            batcher: Arc::new(batcher),
            device: host(),
            batch_size: 1,
            shuffle: None,
        };
        Self {
            recipe,
            workers: 0,
            next: 0,
            shares: None,
        }
    }

    /// Items in a batch. Defaults to 1.
    #[must_use]
    pub fn batch_size(mut self, items: usize) -> Self {
        self.recipe.batch_size = items;
        self.shares = None;
        self
    }

    /// Yields the items of each epoch in another order, which depends only on the seed and the epoch.
    ///
    /// Source of the order: Fisher and Yates' shuffle with SplitMix64. Evals are not shuffled.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.recipe.shuffle = Some(seed);
        self.shares = None;
        self
    }

    /// Number of threads that make batches, each two ahead. Defaults to 0: the trainer's thread makes them. The largest is
    /// 256.
    #[must_use]
    pub fn workers(mut self, threads: usize) -> Self {
        self.workers = threads.min(MAX_WORKERS);
        self.shares = None;
        self
    }

    /// Device that is passed to the batcher. Defaults to the CPU with the feature `flex`, and to burn's default without.
    ///
    /// Host batches that [`Task::loss`](crate::Task::loss) moves to the device of the model are preferable: threads that
    /// make tensors on a GPU compete with training for it.
    #[must_use]
    pub fn device(mut self, device: &Device) -> Self {
        self.recipe.device = device.clone();
        self.shares = None;
        self
    }

    /// Checks that a saved position is one in this data and this order.
    fn check(&self, saved: &Position) -> Result<(), BoxError> {
        let Position { epoch, batch, .. } = *saved;
        self.check_items(saved)?;
        self.check_order(saved)?;
        let batches = self.recipe.num_batches();
        if batch >= batches || epoch > u64::MAX / 2 / batches {
            // Only a damaged or crafted checkpoint is there; the next batches must still have numbers.
            let text =
                format!("the saved position, batch {batch} of epoch {epoch}, is out of range");
            return Err(text.into());
        }
        Ok(())
    }

    fn check_items(&self, saved: &Position) -> Result<(), BoxError> {
        let (had, have) = (saved.items, self.recipe.items);
        if had == have {
            return Ok(());
        }
        Err(
            format!("the dataset had {had} items and has {have} now: resume with the same data")
                .into(),
        )
    }

    fn check_order(&self, saved: &Position) -> Result<(), BoxError> {
        let (had, have) = (saved.batch_size, self.recipe.batch_size);
        if had != have {
            return Err(format!(
                "`batch_size` was {had} and is {have} now: resume with the same size"
            )
            .into());
        }
        if saved.shuffle != self.recipe.shuffle {
            let (had, have) = (order_name(saved.shuffle), order_name(self.recipe.shuffle));
            return Err(format!(
                "the items were {had} and are {have} now: resume with the same order"
            )
            .into());
        }
        Ok(())
    }
}

/// Returns the device of tensors on the host, without autodiff.
fn host() -> Device {
    #[cfg(feature = "flex")]
    {
        Device::flex()
    }
    #[cfg(not(feature = "flex"))]
    {
        Device::default()
    }
}

impl<I: 'static, B: Send + 'static> TrainData for DatasetLoader<I, B> {
    type Batch = B;

    fn next_batch(&mut self) -> Result<B, BoxError> {
        self.recipe.check()?;
        let rest = self.next..u64::MAX;
        let shares = self
            .shares
            .get_or_insert_with(|| Shares::new(&self.recipe, self.workers, &rest));
        let batch = shares.next()?;
        self.next += 1;
        Ok(batch)
    }

    /// Returns the number of batches in an epoch; `None` for a `batch_size` of 0, which the first batch refuses.
    fn batches_per_epoch(&self) -> Option<u64> {
        (self.recipe.batch_size > 0).then(|| self.recipe.num_batches())
    }

    fn state(&self) -> Value {
        let batches = self.recipe.num_batches().max(1);
        json!(Position {
            epoch: self.next / batches,
            batch: self.next % batches,
            items: self.recipe.items,
            batch_size: self.recipe.batch_size,
            shuffle: self.recipe.shuffle,
        })
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let saved = Position::deserialize(state)?;
        self.recipe.check()?;
        self.check(&saved)?;
        self.next = saved.epoch * self.recipe.num_batches() + saved.batch;
        self.shares = None;
        Ok(())
    }
}

impl<I: 'static, B: Send + 'static> EvalData for DatasetLoader<I, B> {
    type Batch = B;

    fn batches(&self) -> Box<dyn Iterator<Item = Result<B, BoxError>> + '_> {
        if let Err(error) = self.recipe.check_batch_size() {
            return Box::new(iter::once(Err(error)));
        }
        let recipe = Recipe {
            shuffle: None,
            ..self.recipe.clone()
        };
        let all = 0..recipe.num_batches();
        let mut shares = Shares::new(&recipe, self.workers, &all);
        Box::new(all.map(move |_| shares.next()))
    }

    fn num_batches(&self) -> Option<usize> {
        Some(self.recipe.num_batches() as usize)
    }
}

impl<I: 'static, B: Send + 'static> fmt::Debug for DatasetLoader<I, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatasetLoader")
            .field("items", &self.recipe.items)
            .field("batch_size", &self.recipe.batch_size)
            .field("shuffle", &self.recipe.shuffle)
            .field("workers", &self.workers)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
