//! burn's `DataLoader` as data of a run.

use super::pass::{Pass, has_threads};
use super::reader::{Place, Reader};
use crate::data::{EvalData, TrainData};
use crate::failure::BoxError;
use burn::data::dataloader::DataLoader;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cell::{RefCell, RefMut};
use std::fmt;
use std::iter;
use std::sync::Arc;

/// Highest epoch of a position that is loaded. Each epoch before it costs a shuffle, so a damaged number could cost years.
const LAST_EPOCH: u64 = u32::MAX as u64;

/// Data of a run from a [`DataLoader`] of burn, made by [`burn_loader`].
pub struct BurnLoader<B> {
    loader: Arc<dyn DataLoader<B>>,
    /// Place of the next batch.
    next: Place,
    /// Started by the first use as training data.
    reader: RefCell<Option<Reader<B>>>,
}

/// Saved form of [`BurnLoader::state`].
#[derive(Serialize, Deserialize)]
struct Position {
    #[serde(flatten)]
    next: Place,
    /// Length of the data.
    items: usize,
    /// Batches of a pass.
    batches: Option<u64>,
}

/// Returns the batches of a burn [`DataLoader`], as training data or as data of an eval.
///
/// A thread reads training data from the loader pass after pass, two batches ahead. The thread starts when the trainer
/// asks for the number of batches per epoch, which is computed from the size of the first two, or for the first batch.
///
/// - **Resume.** A loader without worker threads resumes exactly: it is built anew with the same seed and dataset, its
///   earlier shuffles are drawn again, and the batches before the saved one in its epoch are made again, which costs their
///   time. Another number of items or another batch size is refused; another seed cannot be noticed. Positions before the
///   current one cannot be loaded.
/// - **Worker threads.** With `num_workers(1)` or more, burn yields batches as they are ready, in an order that differs
///   from run to run. Such a run cannot be resumed; use a [`DatasetLoader`](super::DatasetLoader), whose order is
///   the same for any number of workers.
/// - **Loaders of your own** must yield the same batches in the same passes when they are built anew.
/// - **Eval.** Each eval is one pass on the trainer's thread. A loader that does not shuffle gives the same sums to the
///   bit. Give an eval a loader of its own: a pass over a loader that shuffles changes the order of its next pass.
///
/// An error of the dataset or a panic of the batcher ends the run with its text.
///
/// # Examples
///
/// ```
/// use bdh::burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
/// use bdh::burn::data::dataset::InMemDataset;
/// use bdh::burn::tensor::{Device, Tensor};
/// use bdh::data::{TrainData, burn_loader};
///
/// struct Column;
///
/// impl Batcher<f32, Tensor<1>> for Column {
///     fn batch(&self, items: Vec<f32>, device: &Device) -> Tensor<1> {
///         Tensor::from_floats(items.as_slice(), device)
///     }
/// }
///
/// let loader = DataLoaderBuilder::new(Column)
///     .batch_size(4)
///     .shuffle(7)
///     .set_device(Device::flex())
///     .build(InMemDataset::new(vec![1.0; 10]));
/// let mut data = burn_loader(loader);
/// assert_eq!(data.batches_per_epoch(), Some(3));
/// assert_eq!(data.next_batch()?.dims(), [4]);
/// # Ok::<(), bdh::BoxError>(())
/// ```
#[must_use]
pub fn burn_loader<B: Send + 'static>(loader: Arc<dyn DataLoader<B>>) -> BurnLoader<B> {
    BurnLoader {
        loader,
        next: Place { epoch: 0, batch: 0 },
        reader: RefCell::new(None),
    }
}

impl<B: Send + 'static> BurnLoader<B> {
    /// Returns the thread that reads the loader, and starts it if there is none.
    fn reader(&self) -> RefMut<'_, Reader<B>> {
        RefMut::map(self.reader.borrow_mut(), |reader| {
            reader.get_or_insert_with(|| Reader::start(&self.loader, self.next.epoch))
        })
    }

    /// Checks that a saved position is one in this data, and can be reached.
    fn check(&self, saved: &Position) -> Result<(), BoxError> {
        let Place { epoch, batch } = saved.next;
        let items = self.loader.num_items();
        if has_threads(&*self.loader) {
            return Err(
                "a data loader with worker threads has no order in which to resume: build it without `num_workers`, or use `DatasetLoader`".into(),
            );
        }
        if saved.items != items {
            let had = saved.items;
            return Err(format!(
                "the data loader had {had} items and has {items} now: resume with the same data"
            )
            .into());
        }
        let (had, have) = (saved.batches, self.batches_per_epoch());
        if let (Some(had), Some(have)) = (had, have)
            && had != have
        {
            return Err(format!(
                "the data loader made {had} batches of its {items} items and makes {have} now: resume with the same batch size"
            )
            .into());
        }
        // Only a damaged or crafted checkpoint is there: a batch has at least one item.
        if epoch > LAST_EPOCH || batch > items as u64 {
            return Err(format!(
                "the saved position, batch {batch} of epoch {epoch}, is out of range"
            )
            .into());
        }
        self.check_is_ahead(saved.next)
    }

    fn check_is_ahead(&self, saved: Place) -> Result<(), BoxError> {
        if saved >= self.next {
            return Ok(());
        }
        let (had, now) = (saved, self.next);
        Err(format!(
            "the saved position, batch {} of epoch {}, is before batch {} of epoch {}, and a data loader cannot go back: build it anew",
            had.batch, had.epoch, now.batch, now.epoch
        ).into())
    }
}

impl<B: Send + 'static> TrainData for BurnLoader<B> {
    type Batch = B;

    fn next_batch(&mut self) -> Result<B, BoxError> {
        if self.loader.num_items() == 0 {
            return Err("the data loader has no items: give it a dataset of at least one".into());
        }
        let read = self.reader().next()?;
        self.next = read.place;
        self.next.batch += 1;
        Ok(read.batch)
    }

    /// Returns the number of batches in one pass, from the size of the first two, which are made for it.
    fn batches_per_epoch(&self) -> Option<u64> {
        if self.loader.num_items() == 0 {
            return Some(0);
        }
        self.reader().batches_per_epoch()
    }

    /// Returns the epoch, the batches of it that were drawn, and the numbers of items and batches of a pass; `null` for a loader with worker
    /// threads.
    fn state(&self) -> Value {
        if has_threads(&*self.loader) {
            return Value::Null;
        }
        json!(Position {
            next: self.next,
            items: self.loader.num_items(),
            batches: self.batches_per_epoch(),
        })
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let saved = Position::deserialize(state)?;
        self.check(&saved)?;
        self.next = saved.next;
        self.reader().skip_to(saved.next)
    }
}

impl<B: Send + 'static> EvalData for BurnLoader<B> {
    type Batch = B;

    fn batches(&self) -> Box<dyn Iterator<Item = Result<B, BoxError>> + '_> {
        match Pass::begin(&*self.loader) {
            Ok(pass) => Box::new(pass),
            Err(error) => Box::new(iter::once(Err(error))),
        }
    }
}

impl<B> fmt::Debug for BurnLoader<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BurnLoader")
            .field("items", &self.loader.num_items())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
