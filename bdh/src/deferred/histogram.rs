//! Distributions that are still on the device, read together with the numbers of their step.

use super::is_in_host_memory;
use crate::histogram::Histogram;
use bdh_ops::widened;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, Transaction};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The distribution of a tensor's values, counted when the step is read.
///
/// On the CPU the values are counted by [`Histogram::of`], two passes over the slice. On a GPU they are counted
/// where they are, with the same edges, and only the counts are read. Logging one costs no device read of its own.
#[derive(Clone)]
pub struct DeferredHistogram(Arc<Pending>);

struct Pending {
    bins: usize,
    source: Mutex<Source>,
    counted: OnceLock<Histogram>,
}

/// What the device is asked for.
enum Source {
    /// All values, `[elements]`: they are in host memory as it is.
    Values(Box<Tensor<1>>),
    /// The least and the greatest finite value, `[2]`; counts and, last, how many are not finite, `[bins + 1]`.
    Counts(Box<(Tensor<1>, Tensor<1, Int>)>),
    /// For nothing more.
    Released,
}

impl DeferredHistogram {
    /// Counts `values`, `[elements]`, into `bins` bins of one width.
    #[must_use]
    pub fn of(values: Tensor<1>, bins: usize) -> Self {
        let (values, bins) = (values.inner(), bins.max(1));
        let is_empty = values.shape().num_elements() == 0;
        let source = if is_empty || is_in_host_memory(&values.device()) {
            Source::Values(Box::new(values))
        } else {
            count_on_device(values, bins)
        };
        Self(Arc::new(Pending {
            bins,
            source: Mutex::new(source),
            counted: OnceLock::new(),
        }))
    }

    /// The histogram, once the step has been read.
    #[must_use]
    pub fn value(&self) -> Option<Histogram> {
        self.0.counted.get().cloned()
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.counted.get().is_some()
    }

    pub(super) fn register(&self, reads: Transaction) -> Transaction {
        match &*self.source() {
            Source::Values(values) => reads.register(Tensor::clone(values)),
            Source::Counts(counts) => {
                let (extent, counts) = &**counts;
                reads.register(extent.clone()).register(counts.clone())
            }
            Source::Released => reads,
        }
    }

    /// Lets go of the tensor, now that its values are counted: whoever keeps the histogram keeps no weights.
    pub(super) fn release(&self) {
        *self.source() = Source::Released;
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.0.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was registered from what was read.
    pub(super) fn take(&self, read: &mut impl Iterator<Item = TensorData>) -> Option<()> {
        let histogram = match &*self.source() {
            Source::Values(_) => {
                let values = read.next()?.convert::<f32>();
                Histogram::of(values.as_slice().ok()?, self.0.bins)
            }
            Source::Counts(_) => {
                let extent: Vec<f64> = read.next()?.iter().collect();
                counted(&extent, read.next()?.iter().collect())?
            }
            Source::Released => return self.is_known().then_some(()),
        };
        let _ = self.0.counted.set(histogram); // read twice, it is the same twice
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

/// [`Histogram::of`] with ordinary operations. Counts are integers, so the order of additions does not matter.
fn count_on_device(values: Tensor<1>, bins: usize) -> Source {
    let values = widened(values); // bf16 has no 303, which may be a bin
    let (device, shape) = (values.device(), values.shape());
    let is_lost = values.clone().is_finite().bool_not();
    let low = values
        .clone()
        .mask_fill(is_lost.clone(), f32::INFINITY)
        .min();
    let high = values
        .clone()
        .mask_fill(is_lost.clone(), f32::NEG_INFINITY)
        .max();
    let width = (high.clone() - low.clone()) / bins as f64;
    let place = (values - low.clone()) / width;
    // Values that are all alike make 0 / 0; they belong into the last bin.
    let is_alike = place.clone().is_nan();
    let place = place
        .mask_fill(is_alike, (bins - 1) as f64)
        .clamp(0.0, (bins - 1) as f64);
    let place = place.mask_fill(is_lost, bins as f64).int();
    let ones = Tensor::<1, Int>::ones(shape, &device);
    let counts = Tensor::<1, Int>::zeros([bins + 1], &device);
    let counts = counts.scatter(0, place, ones, IndexingUpdateOp::Add);
    Source::Counts(Box::new((Tensor::cat(vec![low, high], 0), counts)))
}

/// The histogram of what the device has counted.
fn counted(extent: &[f64], counts: Vec<i64>) -> Option<Histogram> {
    let mut counts: Vec<_> = counts.into_iter().map(|count| count as u64).collect();
    let non_finite = counts.pop()?;
    let bins = counts.len();
    let &[low, high] = extent else { return None };
    let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) }; // nothing finite was there
    let width = (high - low) / bins as f64;
    let mut edges: Vec<_> = (0..=bins).map(|edge| low + edge as f64 * width).collect();
    edges[bins] = high;
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

    /// What the operations for a GPU count, done on the CPU.
    fn on_device(values: &[f32], bins: usize) -> Histogram {
        counted_from(Tensor::from_floats(values, &Device::flex()), bins)
    }

    fn counted_from(values: Tensor<1>, bins: usize) -> Histogram {
        let source = count_on_device(values, bins);
        let source = Mutex::new(source);
        let pending = Pending {
            bins,
            source,
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
    fn values_in_bf16_are_counted_in_as_many_bins_as_those_in_f32() {
        let values: Vec<f32> = (0..256).map(|value| value as f32).collect(); // all of them are in bf16
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
