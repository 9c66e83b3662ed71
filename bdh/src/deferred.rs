//! Numbers that are still on the device, read together, once.
//!
//! A hook that read a value would stall the device once for each; so hooks pass [`Deferred`] numbers
//! around, and the trainer reads all that were logged in a step with one [`Transaction`]. Arithmetic on
//! them happens after the read, on the host, in `f64`.

mod histogram;

pub use histogram::DeferredHistogram;

use crate::read;
use burn::tensor::{Device, Tensor, Transaction};
use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::{Arc, OnceLock};

/// A number that the device has not been asked for yet.
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
    source: Source,
    read: OnceLock<Vec<f64>>,
}

/// Where the values of a vector are until then.
enum Source {
    Device(Box<Tensor<1>>),
    /// They are told with the step's read all the same, so that a callback which works on the CPU works on a GPU, and
    /// is seen to cost there what it costs here.
    Host(Vec<f64>),
}

impl Leaf {
    pub(crate) fn new(values: Tensor<1>) -> Arc<Self> {
        Self::from(Source::Device(Box::new(values.inner())))
    }

    pub(crate) fn of_host(values: Vec<f64>) -> Arc<Self> {
        Self::from(Source::Host(values))
    }

    fn from(source: Source) -> Arc<Self> {
        Arc::new(Self {
            source,
            read: OnceLock::new(),
        })
    }

    /// The square root of the sum of the values, on `device`, `[1]`, for computing on.
    pub(crate) fn root_of_sum(&self, device: &Device) -> Tensor<1> {
        match &self.source {
            Source::Device(values) => Tensor::clone(values).sum().sqrt(),
            Source::Host(values) => {
                Tensor::from_floats([values.iter().sum::<f64>().sqrt() as f32], device)
            }
        }
    }
}

impl Deferred {
    /// Element `index` of a vector on the device.
    pub(crate) fn element(leaf: &Arc<Leaf>, index: usize) -> Self {
        Self(Arc::new(Node::Element(Arc::clone(leaf), index)))
    }

    /// The sum of a vector on the device.
    pub(crate) fn sum(leaf: &Arc<Leaf>) -> Self {
        Self(Arc::new(Node::Sum(Arc::clone(leaf))))
    }

    /// The sum of some elements of a vector on the device.
    pub(crate) fn sum_of(leaf: &Arc<Leaf>, indices: Vec<usize>) -> Self {
        Self(Arc::new(Node::SumOf(Arc::clone(leaf), indices)))
    }

    /// A function of it, computed on the host once it is known.
    ///
    /// # Examples
    ///
    /// ```
    /// let ratio = bdh::Deferred::from(0.001);
    /// assert_eq!(ratio.map(f64::log10).value(), Some(-3.0));
    /// ```
    #[must_use]
    pub fn map(&self, function: fn(f64) -> f64) -> Self {
        Self(Arc::new(Node::Map(self.clone().settled(), function)))
    }

    fn zip(self, other: Self, function: fn(f64, f64) -> f64) -> Self {
        Self(Arc::new(Node::Zip(
            self.settled(),
            other.settled(),
            function,
        )))
    }

    /// The bare number once it is known: a mean that is carried on from step to step would otherwise
    /// hold on to every step there was.
    fn settled(self) -> Self {
        self.value().map_or(self, Self::from)
    }

    /// Its square root.
    #[must_use]
    pub fn sqrt(&self) -> Self {
        self.map(f64::sqrt)
    }

    /// Its exponential: nats per token become perplexity.
    #[must_use]
    pub fn exp(&self) -> Self {
        self.map(f64::exp)
    }

    /// The number, if nothing it rests on is still on the device; NaN for an element of an empty tensor.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match &*self.0 {
            Node::Known(value) => Some(*value),
            Node::Element(leaf, index) => leaf
                .read
                .get()
                .map(|values| values.get(*index).copied().unwrap_or(f64::NAN)),
            Node::Sum(leaf) => leaf.read.get().map(|values| values.iter().sum()),
            Node::SumOf(leaf, indices) => {
                let values = leaf.read.get()?;
                Some(indices.iter().filter_map(|index| values.get(*index)).sum())
            }
            Node::Map(inner, function) => inner.value().map(function),
            Node::Zip(left, right, function) => Some(function(left.value()?, right.value()?)),
        }
    }

    fn collect(&self, leaves: &mut Vec<Arc<Leaf>>) {
        match &*self.0 {
            Node::Known(_) => {}
            Node::Element(leaf, _) | Node::Sum(leaf) | Node::SumOf(leaf, _) => {
                if !leaves.iter().any(|known| Arc::ptr_eq(known, leaf)) {
                    leaves.push(Arc::clone(leaf));
                }
            }
            Node::Map(inner, _) => inner.collect(leaves),
            Node::Zip(left, right, _) => {
                left.collect(leaves);
                right.collect(leaves);
            }
        }
    }
}

/// Reads whatever `values` still need, in one device read; tells whether one was necessary.
pub(crate) fn read<'a>(values: impl Iterator<Item = &'a Deferred>) -> Result<bool, String> {
    read_all(values, std::iter::empty(), std::iter::empty())
}

/// The same, for numbers and distributions together; `along` is read only if something else is.
pub(crate) fn read_all<'a>(
    values: impl Iterator<Item = &'a Deferred>,
    histograms: impl Iterator<Item = &'a DeferredHistogram>,
    along: impl Iterator<Item = &'a Deferred>,
) -> Result<bool, String> {
    let mut leaves = Vec::new();
    values.for_each(|value| value.collect(&mut leaves));
    leaves.retain(|leaf| leaf.read.get().is_none());
    let histograms: Vec<_> = histograms
        .filter(|histogram| !histogram.is_known())
        .collect();
    if leaves.is_empty() && histograms.is_empty() {
        return Ok(false);
    }
    along.for_each(|value| value.collect(&mut leaves));
    leaves.retain(|leaf| leaf.read.get().is_none());
    let register = |reads: Transaction, leaf: &Arc<Leaf>| match &leaf.source {
        Source::Device(values) => reads.register(Tensor::clone(values)),
        Source::Host(_) => reads,
    };
    let reads = leaves.iter().fold(Transaction::default(), register);
    let reads = histograms
        .iter()
        .fold(reads, |reads, histogram| histogram.register(reads));
    let mut read = read::transaction(reads)?.into_iter();
    let missing = "the device gave less than it was asked for";
    for leaf in leaves {
        let values = match &leaf.source {
            Source::Device(_) => read.next().ok_or(missing)?.iter::<f64>().collect(),
            Source::Host(values) => values.clone(),
        };
        // Already set only if another thread read the same leaf meanwhile, and then to the same values.
        let _ = leaf.read.set(values);
    }
    for histogram in &histograms {
        histogram.take(&mut read).ok_or(missing)?;
    }
    for histogram in histograms {
        histogram.release(); // after all were taken: one may be there twice
    }
    Ok(true)
}

impl From<f64> for Deferred {
    fn from(value: f64) -> Self {
        Self(Arc::new(Node::Known(value)))
    }
}

impl From<Tensor<1>> for Deferred {
    /// The first element of a tensor of one value.
    fn from(value: Tensor<1>) -> Self {
        Self::element(&Leaf::new(value), 0)
    }
}

/// Whether tensors of a device are where the program can go through them at once.
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
    fn nothing_has_a_value_before_the_read_and_everything_after_it() {
        let leaf = on_device(&[3.0, 4.0]);
        let sum = Deferred::sum(&leaf);
        let ratio = Deferred::element(&leaf, 0) / Deferred::element(&leaf, 1) + 1.0;
        assert_eq!((sum.value(), ratio.value()), (None, None));

        assert_eq!(read([&sum, &ratio].into_iter()), Ok(true));
        assert_eq!((sum.value(), ratio.value()), (Some(7.0), Some(1.75)));
    }

    #[test]
    fn numbers_that_the_host_knows_wait_for_the_read_and_are_counted_as_one() {
        let norm = Deferred::sum(&Leaf::of_host(vec![9.0, 16.0])).sqrt();
        let loss = Deferred::sum(&on_device(&[1.0, 2.0]));
        assert_eq!(norm.value(), None);
        assert_eq!(read([&norm, &loss].into_iter()), Ok(true));
        assert_eq!((norm.value(), loss.value()), (Some(5.0), Some(3.0)));
        let alone = Deferred::element(&Leaf::of_host(vec![2.0]), 0);
        assert_eq!(read([&alone].into_iter()), Ok(true));
        assert_eq!(alone.value(), Some(2.0));
    }

    #[test]
    fn values_that_were_read_are_not_read_again() {
        let value = Deferred::sum(&on_device(&[1.0]));
        assert_eq!(read([&value].into_iter()), Ok(true));
        assert_eq!(read([&value, &Deferred::from(2.0)].into_iter()), Ok(false));
    }

    #[test]
    fn a_number_that_is_known_lets_go_of_what_it_came_from() {
        let leaf = on_device(&[1.0]);
        let mean = Deferred::element(&leaf, 0) * 0.5;
        assert_eq!(read([&mean].into_iter()), Ok(true));
        let mean = mean * 0.9;
        assert_eq!(Arc::strong_count(&leaf), 1);
        assert_eq!(mean.value(), Some(0.45));
    }
}
