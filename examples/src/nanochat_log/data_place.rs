//! Position in the training data, for the lines of a run.

use bdh::data::TrainData;
use bdh::{BatchSize, BoxError};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// Position of the last batch in the files of the training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Pass through the data, from 1.
    pub epoch: u64,
    /// Number of the parquet file, from 0, if the data has one.
    pub pq_idx: Option<u64>,
    /// Number of the row group in the file, from 0, if the data has one.
    pub rg_idx: Option<u64>,
}

/// Position of the last batch, which the data writes and [`NanochatTrain`](super::NanochatTrain) reads.
///
/// Clones share the position.
#[derive(Debug, Clone, Default)]
pub struct DataPlace(
    /// Locked, since data may be read on another thread than training. A poisoned lock holds a whole value.
    Arc<Mutex<Option<Place>>>,
);

impl DataPlace {
    /// Returns the position; `None` before the first batch, and for data whose state has no epoch.
    #[must_use]
    pub fn get(&self) -> Option<Place> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the position in a state of the data.
    pub(super) fn set(&self, state: &Value) {
        let place = state["epoch"].as_u64().map(|epoch| Place {
            epoch,
            pq_idx: state["pq_idx"].as_u64(),
            rg_idx: state["rg_idx"].as_u64(),
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

/// Training data that reports its position.
#[derive(Debug)]
pub struct Tracked<D> {
    data: D,
    place: DataPlace,
}

/// Returns training data that reports the position of its last batch, and that position.
///
/// Wrap [`Prefetch`](bdh::data::Prefetch), not the data in it: its state is that of the last batch that was trained on.
/// Costs one [`state`](TrainData::state) a batch.
#[must_use]
pub fn tracked<D: TrainData>(data: D) -> (Tracked<D>, DataPlace) {
    let place = DataPlace::default();
    let tracked = Tracked {
        data,
        place: place.clone(),
    };
    (tracked, place)
}

impl<D: TrainData> TrainData for Tracked<D> {
    type Batch = D::Batch;

    fn next_batch(&mut self) -> Result<D::Batch, BoxError> {
        let batch = self.data.next_batch()?;
        self.place.set(&self.data.state());
        Ok(batch)
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.data.batch_size()
    }

    fn batches_per_epoch(&self) -> Option<u64> {
        self.data.batches_per_epoch()
    }

    fn state(&self) -> Value {
        self.data.state()
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        self.data.load_state(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Data with a position like nanochat's: three batches in a row group, two groups in a file.
    struct Files(u64);

    impl TrainData for Files {
        type Batch = u64;

        fn next_batch(&mut self) -> Result<u64, BoxError> {
            self.0 += 1;
            Ok(self.0)
        }

        fn state(&self) -> Value {
            let group = self.0 / 3;
            json!({ "epoch": 1, "pq_idx": group / 2, "rg_idx": group % 2, "buffer": [] })
        }

        fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
            self.0 = 6 * state["pq_idx"].as_u64().unwrap_or(0);
            Ok(())
        }
    }

    #[test]
    fn position_is_that_of_the_last_batch() {
        let (mut data, place) = tracked(Files(0));
        assert_eq!(place.get(), None);
        for (batch, pq_idx, rg_idx) in [(1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 0, 1)] {
            assert_eq!(data.next_batch().expect("endless"), batch);
            let expected = Place {
                epoch: 1,
                pq_idx: Some(pq_idx),
                rg_idx: Some(rg_idx),
            };
            assert_eq!(place.get(), Some(expected));
        }
        data.load_state(&json!({ "pq_idx": 2 })).expect("a state");
        assert_eq!(data.next_batch().expect("endless"), 13);
        assert_eq!(place.get().and_then(|place| place.pq_idx), Some(2));
    }

    #[test]
    fn data_without_an_epoch_has_no_position() {
        let (mut data, place) = tracked(bdh::data::cycle(vec![1, 2]));
        data.next_batch().expect("endless");
        assert_eq!(place.get().and_then(|place| place.pq_idx), None);
    }
}
