//! Histograms that are still on the device, read together with the numbers of their step.

use super::is_in_host_memory;
use crate::histogram::{self, Histogram};
use bdh_ops::upcast_f32;
use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor, TensorData, Transaction};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Histogram of a tensor's values; it has a value once its step has been read.
///
/// On the CPU the values are counted by [`Histogram::of`], two passes over the slice. On a GPU they are counted
/// there, with the same edges, and only the counts are read. Logging one needs no device read of its own.
#[derive(Clone)]
pub struct DeferredHistogram(Arc<Pending>);

struct Pending {
    bins: usize,
    request: Mutex<Request>,
    counted: OnceLock<Histogram>,
}

/// Tensors that the device read fetches.
enum Request {
    /// All values, `[elements]`, which are in host memory already.
    Values(Box<Tensor<1>>),
    /// The least and the greatest finite value, `[2]`, and the counts, `[bins + 1]`; the last one counts values that
    /// are not finite.
    Counts(Box<(Tensor<1>, Tensor<1, Int>)>),
    /// Nothing more: the values have been counted.
    Released,
}

impl DeferredHistogram {
    /// Counts `values`, `[elements]`, into `bins` bins of equal width.
    #[must_use]
    pub fn of(values: Tensor<1>, bins: usize) -> Self {
        let (values, bins) = (values.inner(), bins.max(1));
        let is_empty = values.shape().num_elements() == 0;
        let request = if is_empty || is_in_host_memory(&values.device()) {
            Request::Values(Box::new(values))
        } else {
            count_on_device(values, bins)
        };
        Self(Arc::new(Pending {
            bins,
            request: Mutex::new(request),
            counted: OnceLock::new(),
        }))
    }

    /// Returns the histogram if its step has been read.
    #[must_use]
    pub fn value(&self) -> Option<Histogram> {
        self.0.counted.get().cloned()
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.counted.get().is_some()
    }

    pub(super) fn register(&self, reads: Transaction) -> Transaction {
        match &*self.request() {
            Request::Values(values) => reads.register(Tensor::clone(values)),
            Request::Counts(counts) => {
                let (extent, counts) = &**counts;
                reads.register(extent.clone()).register(counts.clone())
            }
            Request::Released => reads,
        }
    }

    /// Releases the tensor, so a callback that keeps the histogram keeps no weights in memory.
    pub(super) fn release(&self) {
        *self.request() = Request::Released;
    }

    // Only the training thread locks it. It is a mutex because pictures carry a clone to the threads of sinks.
    fn request(&self) -> MutexGuard<'_, Request> {
        self.0
            .request
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the results of the registered reads; `None` if there are too few.
    pub(super) fn take(&self, read: &mut impl Iterator<Item = TensorData>) -> Option<()> {
        let histogram = match &*self.request() {
            Request::Values(_) => {
                let values = read.next()?.convert::<f32>();
                Histogram::of(values.as_slice().ok()?, self.0.bins)
            }
            Request::Counts(_) => {
                let extent: Vec<f64> = read.next()?.iter().collect();
                counted(&extent, read.next()?.iter().collect())?
            }
            Request::Released => return self.is_known().then_some(()),
        };
        let _ = self.0.counted.set(histogram); // fails if it was read before, with the same counts
        Some(())
    }
}

impl fmt::Debug for DeferredHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Some(histogram) => histogram.fmt(f),
            None => write!(f, "DeferredHistogram({} bins)", self.0.bins),
        }
    }
}

/// Counts values on their device, as [`Histogram::of`] does on the host.
///
/// Counts are integers, so the order of additions does not matter.
fn count_on_device(values: Tensor<1>, bins: usize) -> Request {
    let values = upcast_f32(values); // bf16 cannot represent bin 303, for example
    let is_lost = values.clone().is_finite().bool_not();
    let (low, high) = finite_extent(&values, &is_lost);
    let width = (high.clone() - low.clone()) / bins as f64;
    let positions = (values - low.clone()) / width;
    let indices = bin_indices(positions, bins).mask_fill(is_lost, bins as f64);
    let counts = count_indices(indices, bins + 1);
    let extent = Tensor::cat(vec![low, high], 0);
    Request::Counts(Box::new((extent, counts)))
}

/// Returns the least and the greatest finite value, `[1]` each.
fn finite_extent(values: &Tensor<1>, is_lost: &Tensor<1, Bool>) -> (Tensor<1>, Tensor<1>) {
    let fill = |other: f32| values.clone().mask_fill(is_lost.clone(), other);
    (fill(f32::INFINITY).min(), fill(f32::NEG_INFINITY).max())
}

/// Limits positions, in bins, to the first and the last bin.
fn bin_indices(positions: Tensor<1>, bins: usize) -> Tensor<1> {
    let last = (bins - 1) as f64;
    let is_nan = positions.clone().is_nan(); // equal values give 0 / 0; they belong into the last bin
    positions.mask_fill(is_nan, last).clamp(0.0, last)
}

/// Counts how often each index below `len` occurs, `[len]`.
fn count_indices(indices: Tensor<1>, len: usize) -> Tensor<1, Int> {
    let ones = Tensor::<1, Int>::ones(indices.shape(), &indices.device());
    let zeros = Tensor::<1, Int>::zeros([len], &indices.device());
    zeros.scatter(0, indices.int(), ones, IndexingUpdateOp::Add)
}

/// Makes a histogram from the results of [`count_on_device`].
fn counted(extent: &[f64], counts: Vec<i64>) -> Option<Histogram> {
    let &[low, high] = extent else { return None };
    let mut counts: Vec<_> = counts.into_iter().map(|count| count as u64).collect();
    let non_finite = counts.pop()?;
    let edges = if low <= high {
        histogram::edges(low, high, counts.len())
    } else {
        vec![0.0; counts.len() + 1] // without a finite value
    };
    Some(Histogram {
        edges,
        counts,
        non_finite,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, FloatDType};
    use proptest::prelude::*;

    /// Counts with the operations for a GPU, on the CPU.
    fn on_device(values: &[f32], bins: usize) -> Histogram {
        counted_from(Tensor::from_floats(values, &Device::flex()), bins)
    }

    fn counted_from(values: Tensor<1>, bins: usize) -> Histogram {
        let pending = Pending {
            bins,
            request: Mutex::new(count_on_device(values, bins)),
            counted: OnceLock::new(),
        };
        let deferred = DeferredHistogram(Arc::new(pending));
        let read = deferred.register(Transaction::default()).execute();
        deferred.take(&mut read.into_iter()).expect("counts");
        deferred.value().expect("a histogram")
    }

    #[test]
    fn the_device_counts_as_the_host_does() {
        let bad = [f32::NAN, 1.0, f32::INFINITY, -1.0, f32::NEG_INFINITY, 3.0];
        for values in [
            &bad[..],
            &[2.5; 7],
            &[f32::NAN; 3],
            &[0.0, 1.0, 2.0, 3.0, 4.0],
        ] {
            assert_eq!(on_device(values, 4), Histogram::of(values, 4), "{values:?}");
        }
    }

    #[test]
    fn bf16_values_are_counted_as_their_f32_values() {
        let values: Vec<f32> = (0..256).map(|value| value as f32).collect(); // all exact in bf16
        let tensor = Tensor::<1>::from_floats(values.as_slice(), &Device::flex());
        let found = counted_from(tensor.cast(FloatDType::BF16), 255);
        assert_eq!(found, Histogram::of(&values, 255));
        let lost = Tensor::<1>::from_floats([f32::NAN, 1.0, 2.0], &Device::flex());
        let found = counted_from(lost.cast(FloatDType::BF16), 303);
        assert_eq!(found, Histogram::of(&[f32::NAN, 1.0, 2.0], 303));
    }

    proptest! {
        #[test]
        fn no_value_is_lost_on_the_device(values in proptest::collection::vec(-1e3_f32..1e3, 1..200)) {
            let (device, host) = (on_device(&values, 16), Histogram::of(&values, 16));
            prop_assert_eq!(&device.edges, &host.edges);
            prop_assert_eq!(device.counts.iter().sum::<u64>(), values.len() as u64);
            // The device divides in single precision: a value on an edge may fall to its other side.
            let moved: u64 = device.counts.iter().zip(&host.counts).map(|(a, b)| a.abs_diff(*b)).sum();
            prop_assert!(moved <= 2 + values.len() as u64 / 50, "{moved} of {}", values.len());
        }
    }
}
