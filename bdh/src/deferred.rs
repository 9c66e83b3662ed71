//! Numbers that are still on the device, fetched with one device read per step.
//!
//! A hook that reads a value itself stalls the device. Hooks log [`Deferred`] numbers instead, and the trainer
//! reads all numbers of a step with one [`Transaction`]. Arithmetic on them happens after the read, on the
//! host, in `f64`.

mod histogram;

pub use histogram::DeferredHistogram;

use crate::device_read::{self, DeviceError};
use burn::tensor::{Device, Tensor, TensorData, Transaction};
use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::{Arc, OnceLock};

/// A number that may still be on the device; it has a value once its step has been read.
///
/// # Examples
///
/// ```
/// use bdh::Deferred;
///
/// let loss = Deferred::from(0.5_f64); // or from a `Tensor<1>` on the device
/// let perplexity = loss.exp();
/// assert_eq!(perplexity.value(), Some(0.5_f64.exp()));
/// ```
#[derive(Clone)]
pub struct Deferred(Arc<Node>);

enum Node {
    Known(f64),
    Element(Arc<Leaf>, usize),
    Sum(Arc<Leaf>),
    SumOf(Arc<Leaf>, Vec<usize>),
    Map(Deferred, fn(f64) -> f64),
    Zip(Deferred, Deferred, fn(f64, f64) -> f64),
}

/// A vector, `[values]`, that is known once it has been read.
pub(crate) struct Leaf {
    location: Location,
    read: OnceLock<Vec<f64>>,
}

/// Location of the values of a [`Leaf`].
enum Location {
    Device(Box<Tensor<1>>),
    /// Values in host memory. They become known with the step's read too, so a callback that works on the CPU works
    /// on a GPU, and counts the same device reads on both.
    Host(Vec<f64>),
}

impl Leaf {
    pub(crate) fn new(values: Tensor<1>) -> Arc<Self> {
        Self::from(Location::Device(Box::new(values.inner())))
    }

    pub(crate) fn of_host(values: Vec<f64>) -> Arc<Self> {
        Self::from(Location::Host(values))
    }

    fn from(location: Location) -> Arc<Self> {
        Arc::new(Self {
            location,
            read: OnceLock::new(),
        })
    }

    /// Returns the values if they have been read.
    pub(crate) fn values(&self) -> Option<&[f64]> {
        self.read.get().map(Vec::as_slice)
    }

    fn register(&self, reads: Transaction) -> Transaction {
        match &self.location {
            Location::Device(values) => reads.register(Tensor::clone(values)),
            Location::Host(_) => reads,
        }
    }

    /// Takes the values from the results of the registered reads; `None` if there are too few.
    fn take(&self, results: &mut impl Iterator<Item = TensorData>) -> Option<()> {
        let values = match &self.location {
            Location::Device(_) => results.next()?.iter::<f64>().collect(),
            Location::Host(values) => values.clone(),
        };
        // Fails only if another thread has read the same leaf meanwhile, with the same values.
        let _ = self.read.set(values);
        Some(())
    }

    /// Computes the square root of the sum of the values on `device`, `[1]`, without a device read.
    pub(crate) fn root_of_sum(&self, device: &Device) -> Tensor<1> {
        match &self.location {
            Location::Device(values) => Tensor::clone(values).sum().sqrt(),
            Location::Host(values) => {
                Tensor::from_floats([values.iter().sum::<f64>().sqrt() as f32], device)
            }
        }
    }
}

impl Deferred {
    /// Returns element `index` of a vector.
    pub(crate) fn element(leaf: &Arc<Leaf>, index: usize) -> Self {
        Self(Arc::new(Node::Element(Arc::clone(leaf), index)))
    }

    /// Returns the sum of a vector.
    pub(crate) fn sum(leaf: &Arc<Leaf>) -> Self {
        Self(Arc::new(Node::Sum(Arc::clone(leaf))))
    }

    /// Returns the sum of some elements of a vector.
    pub(crate) fn sum_of(leaf: &Arc<Leaf>, indices: Vec<usize>) -> Self {
        Self(Arc::new(Node::SumOf(Arc::clone(leaf), indices)))
    }

    /// Applies a function on the host once the number is known.
    ///
    /// # Examples
    ///
    /// ```
    /// let ratio = bdh::Deferred::from(0.001);
    /// assert_eq!(ratio.map(f64::log10).value(), Some(-3.0));
    /// ```
    #[must_use]
    pub fn map(&self, function: fn(f64) -> f64) -> Self {
        Self(Arc::new(Node::Map(self.clone().simplified(), function)))
    }

    fn zip(self, other: Self, function: fn(f64, f64) -> f64) -> Self {
        Self(Arc::new(Node::Zip(
            self.simplified(),
            other.simplified(),
            function,
        )))
    }

    /// Replaces a known number by its plain value. Without this a running mean would keep the numbers of every
    /// earlier step in memory.
    fn simplified(self) -> Self {
        self.value().map_or(self, Self::from)
    }

    /// Returns the square root of the number.
    #[must_use]
    pub fn sqrt(&self) -> Self {
        self.map(f64::sqrt)
    }

    /// Returns the magnitude of the number.
    #[must_use]
    pub fn abs(&self) -> Self {
        self.map(f64::abs)
    }

    /// Returns the smaller of two numbers; if one is NaN, the other.
    #[must_use]
    pub fn min(self, other: impl Into<Self>) -> Self {
        self.zip(other.into(), f64::min)
    }

    /// Returns the larger of two numbers; if one is NaN, the other.
    ///
    /// # Examples
    ///
    /// ```
    /// let loss = bdh::Deferred::from(-0.5);
    /// assert_eq!(loss.abs().max(0.1).value(), Some(0.5));
    /// ```
    #[must_use]
    pub fn max(self, other: impl Into<Self>) -> Self {
        self.zip(other.into(), f64::max)
    }

    /// Reads the number now, for one device read if it is not known yet, which stalls the device.
    ///
    /// For loops of your own and tests. A callback reads with [`Context::read`](crate::Context::read), which counts
    /// the read in the overhead table.
    ///
    /// # Errors
    ///
    /// If the device failed.
    pub fn read(&self) -> Result<f64, DeviceError> {
        fetch([self].into_iter())?;
        Ok(self.value().unwrap_or(f64::NAN)) // known: it was read above
    }

    /// Returns the exponential of the number: nats per token become perplexity.
    #[must_use]
    pub fn exp(&self) -> Self {
        self.map(f64::exp)
    }

    /// Returns the number if all its inputs have been read; NaN for an element of an empty tensor.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match &*self.0 {
            Node::Known(value) => Some(*value),
            Node::Element(leaf, index) => {
                let element = leaf.values()?.get(*index);
                Some(element.copied().unwrap_or(f64::NAN))
            }
            Node::Sum(leaf) => Some(leaf.values()?.iter().sum()),
            Node::SumOf(leaf, indices) => {
                let values = leaf.values()?;
                Some(indices.iter().filter_map(|index| values.get(*index)).sum())
            }
            Node::Map(inner, function) => inner.value().map(function),
            Node::Zip(left, right, function) => Some(function(left.value()?, right.value()?)),
        }
    }

    /// Adds the inputs that have not been read, each once.
    fn collect_unread(&self, leaves: &mut Vec<Arc<Leaf>>) {
        match &*self.0 {
            Node::Known(_) => {}
            Node::Element(leaf, _) | Node::Sum(leaf) | Node::SumOf(leaf, _) => {
                let is_listed = leaves.iter().any(|listed| Arc::ptr_eq(listed, leaf));
                if !is_listed && leaf.values().is_none() {
                    leaves.push(Arc::clone(leaf));
                }
            }
            Node::Map(inner, _) => inner.collect_unread(leaves),
            Node::Zip(left, right, _) => {
                left.collect_unread(leaves);
                right.collect_unread(leaves);
            }
        }
    }
}

/// Reads the inputs of `values` in one device read; returns whether a read was necessary.
pub(crate) fn fetch<'a>(values: impl Iterator<Item = &'a Deferred>) -> Result<bool, DeviceError> {
    fetch_all(values, std::iter::empty(), std::iter::empty())
}

/// Reads numbers and histograms in one device read; returns whether a read was necessary.
///
/// `along` is read only if something else is.
pub(crate) fn fetch_all<'a>(
    values: impl Iterator<Item = &'a Deferred>,
    histograms: impl Iterator<Item = &'a DeferredHistogram>,
    along: impl Iterator<Item = &'a Deferred>,
) -> Result<bool, DeviceError> {
    let mut leaves = Vec::new();
    for value in values {
        value.collect_unread(&mut leaves);
    }
    let histograms: Vec<_> = histograms
        .filter(|histogram| !histogram.is_known())
        .collect();
    if leaves.is_empty() && histograms.is_empty() {
        return Ok(false);
    }
    for value in along {
        value.collect_unread(&mut leaves);
    }
    fetch_inputs(&leaves, &histograms)?;
    Ok(true)
}

/// Reads vectors and histograms in one device read.
fn fetch_inputs(
    leaves: &[Arc<Leaf>],
    histograms: &[&DeferredHistogram],
) -> Result<(), DeviceError> {
    let reads = register_all(leaves, histograms);
    let mut results = device_read::execute(reads)?.into_iter();
    let missing = || DeviceError::new("it returned fewer tensors than requested");
    for leaf in leaves {
        leaf.take(&mut results).ok_or_else(missing)?;
    }
    for histogram in histograms {
        histogram.take(&mut results).ok_or_else(missing)?;
    }
    for histogram in histograms {
        histogram.release(); // only now: the same histogram may be in the list twice
    }
    Ok(())
}

/// Registers the reads of vectors, then of histograms.
fn register_all(leaves: &[Arc<Leaf>], histograms: &[&DeferredHistogram]) -> Transaction {
    let mut reads = Transaction::default();
    for leaf in leaves {
        reads = leaf.register(reads);
    }
    for histogram in histograms {
        reads = histogram.register(reads);
    }
    reads
}

impl From<f64> for Deferred {
    fn from(value: f64) -> Self {
        Self(Arc::new(Node::Known(value)))
    }
}

impl From<Tensor<1>> for Deferred {
    /// Converts a tensor of one value to its first element.
    fn from(value: Tensor<1>) -> Self {
        Self::element(&Leaf::new(value), 0)
    }
}

/// Whether tensors of a device are in host memory, where they can be read without a copy.
#[cfg(feature = "flex")]
pub(crate) fn is_in_host_memory(device: &Device) -> bool {
    *device == Device::flex()
}

#[cfg(not(feature = "flex"))]
pub(crate) fn is_in_host_memory(_: &Device) -> bool {
    false
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Some(value) => write!(f, "Deferred({value})"),
            None => f.write_str("Deferred(on the device)"),
        }
    }
}

macro_rules! arithmetic {
    ($($operator:ident, $method:ident, $function:expr);+) => {$(
        impl<R: Into<Deferred>> $operator<R> for Deferred {
            type Output = Deferred;

            fn $method(self, right: R) -> Deferred {
                self.zip(right.into(), $function)
            }
        }
    )+};
}

arithmetic! {
    Add, add, |left, right| left + right;
    Sub, sub, |left, right| left - right;
    Mul, mul, |left, right| left * right;
    Div, div, |left, right| left / right
}

impl Neg for Deferred {
    type Output = Self;

    fn neg(self) -> Self {
        self.map(|value| -value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_device(values: &[f32]) -> Arc<Leaf> {
        Leaf::new(Tensor::from_floats(values, &Device::flex()))
    }

    #[test]
    fn numbers_have_values_only_after_the_read() {
        let leaf = on_device(&[3.0, 4.0]);
        let sum = Deferred::sum(&leaf);
        let ratio = Deferred::element(&leaf, 0) / Deferred::element(&leaf, 1) + 1.0;
        assert_eq!((sum.value(), ratio.value()), (None, None));

        assert_eq!(fetch([&sum, &ratio].into_iter()), Ok(true));
        assert_eq!((sum.value(), ratio.value()), (Some(7.0), Some(1.75)));
    }

    #[test]
    fn numbers_on_the_host_also_wait_for_the_read() {
        let norm = Deferred::sum(&Leaf::of_host(vec![9.0, 16.0])).sqrt();
        let loss = Deferred::sum(&on_device(&[1.0, 2.0]));
        assert_eq!(norm.value(), None);
        assert_eq!(fetch([&norm, &loss].into_iter()), Ok(true));
        assert_eq!((norm.value(), loss.value()), (Some(5.0), Some(3.0)));
        let alone = Deferred::element(&Leaf::of_host(vec![2.0]), 0);
        assert_eq!(fetch([&alone].into_iter()), Ok(true));
        assert_eq!(alone.value(), Some(2.0));
    }

    #[test]
    fn known_values_are_not_read_again() {
        let value = Deferred::sum(&on_device(&[1.0]));
        assert_eq!(fetch([&value].into_iter()), Ok(true));
        assert_eq!(fetch([&value, &Deferred::from(2.0)].into_iter()), Ok(false));
    }

    #[test]
    fn known_numbers_release_their_inputs() {
        let leaf = on_device(&[1.0]);
        let mean = Deferred::element(&leaf, 0) * 0.5;
        assert_eq!(fetch([&mean].into_iter()), Ok(true));
        let mean = mean * 0.9;
        assert_eq!(Arc::strong_count(&leaf), 1);
        assert_eq!(mean.value(), Some(0.45));
    }
}
