//! Statistics of weights, gradients and updates, computed on their device and shared by all callbacks.

pub use crate::deferred::DeferredHistogram;
pub use crate::histogram::Histogram;
pub use crate::params::{ParamInfo, ParamTable, Tensors};
pub use crate::probe::Tap;

use crate::deferred::{Deferred, Leaf};
use crate::params::{AnyRank, PerParam};
use bdh_ops::Moments;
use burn::tensor::{Device, Tensor};
use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

/// One tensor per parameter (weights, gradients or updates), with statistics on demand.
///
/// Each statistic is computed when it is first requested, and once: a second callback gets the same result.
/// On a GPU a statistic of all parameters is one vector there, read with everything else that the step logs.
/// On the CPU all statistics come from a single pass over each tensor, with sums in double precision.
pub struct Stats<'a> {
    table: Arc<ParamTable>,
    collect: Box<dyn Fn() -> PerParam + 'a>,
    tensors: OnceCell<PerParam>,
    moments: OnceCell<Option<Vec<Moments>>>,
    rows: [OnceCell<Arc<Leaf>>; Statistic::COUNT],
}

impl fmt::Debug for Stats<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats")
            .field("parameters", &self.table.len())
            .finish_non_exhaustive()
    }
}

/// Statistic of one tensor.
#[derive(Clone, Copy)]
enum Statistic {
    SumOfSquares,
    Mean,
    Variance,
    AbsMax,
    NonFinite,
}

impl Statistic {
    const COUNT: usize = 5;

    /// Computes the statistic on the tensor's device, `[1]`.
    fn of_tensor(self, tensor: &dyn AnyRank) -> Tensor<1> {
        match self {
            Self::SumOfSquares => tensor.sum_of_squares(),
            Self::Mean => tensor.mean(),
            Self::Variance => tensor.variance(),
            Self::AbsMax => tensor.abs_max(),
            Self::NonFinite => tensor.non_finite(),
        }
    }

    /// Computes the statistic from sums over the tensor.
    fn of_moments(self, moments: &Moments) -> f64 {
        match self {
            Self::SumOfSquares => moments.sum_of_squares,
            Self::Mean => moments.mean(),
            Self::Variance => moments.variance(),
            Self::AbsMax => moments.abs_max,
            Self::NonFinite => moments.non_finite,
        }
    }
}

impl<'a> Stats<'a> {
    pub(crate) fn new(table: &Arc<ParamTable>, collect: impl Fn() -> PerParam + 'a) -> Self {
        Self {
            table: Arc::clone(table),
            collect: Box::new(collect),
            tensors: OnceCell::new(),
            moments: OnceCell::new(),
            rows: Default::default(),
        }
    }

    /// Iterates over the parameters that have a tensor; a parameter that the loss does not use has no gradient.
    pub fn iter(&self) -> impl Iterator<Item = ParamStats<'_>> {
        let tensors = self.tensors().iter().enumerate();
        let present = tensors.filter(|(_, tensor)| tensor.is_some());
        present.enumerate().map(|(row, (index, _))| ParamStats {
            stats: self,
            index,
            row,
        })
    }

    /// Returns the L2 norm over all parameters.
    #[must_use]
    pub fn l2(&self) -> Deferred {
        Deferred::sum(self.row(Statistic::SumOfSquares)).sqrt()
    }

    /// Returns the L2 norm over the parameters that `choose` selects, for example by name or shape; 0 for none.
    #[must_use]
    pub fn l2_of(&self, choose: impl Fn(&ParamInfo) -> bool) -> Deferred {
        let mut rows = Vec::new();
        for param in self.iter() {
            if choose(param.info()) {
                rows.push(param.row);
            }
        }
        Deferred::sum_of(self.row(Statistic::SumOfSquares), rows).sqrt()
    }

    /// Counts the elements of all parameters that are NaN or infinite.
    #[must_use]
    pub fn non_finite(&self) -> Deferred {
        Deferred::sum(self.row(Statistic::NonFinite))
    }

    /// Computes the global L2 norm on the device, `[1]`, so that clipping does not wait for a device read.
    pub(crate) fn l2_on(&self, device: &Device) -> Tensor<1> {
        self.row(Statistic::SumOfSquares).root_of_sum(device)
    }

    /// Returns the tensors. They are collected on first use, since their handles prevent in-place updates.
    fn tensors(&self) -> &PerParam {
        self.tensors.get_or_init(&self.collect)
    }

    /// Returns a statistic of every present tensor, as one vector `[present]`.
    fn row(&self, statistic: Statistic) -> &Arc<Leaf> {
        self.rows[statistic as usize].get_or_init(|| match self.on_host(statistic) {
            Some(values) => Leaf::of_host(values),
            None => self.on_device(statistic),
        })
    }

    /// Computes a statistic from moments on the host; `None` if the tensors are not in host memory.
    fn on_host(&self, statistic: Statistic) -> Option<Vec<f64>> {
        let moments = self.moments()?.iter();
        let values = moments.map(|moments| statistic.of_moments(moments));
        Some(values.collect())
    }

    /// Computes a statistic on the device.
    ///
    /// At least one tensor is present: for none, [`Self::on_host`] returns an empty vector on every device.
    fn on_device(&self, statistic: Statistic) -> Arc<Leaf> {
        let mut values = Vec::new();
        for tensor in self.tensors().iter().flatten() {
            values.push(statistic.of_tensor(&**tensor));
        }
        Leaf::new(Tensor::cat(values, 0))
    }

    /// Returns the moments of every present tensor, if they are in host memory.
    fn moments(&self) -> Option<&[Moments]> {
        let moments = self.moments.get_or_init(|| self.compute_moments());
        moments.as_deref()
    }

    fn compute_moments(&self) -> Option<Vec<Moments>> {
        let present = self.tensors().iter().flatten();
        present.map(|tensor| Moments::of(&tensor.flat())).collect()
    }
}

/// Tensor of one parameter, with its statistics.
#[derive(Clone, Copy)]
pub struct ParamStats<'s> {
    stats: &'s Stats<'s>,
    /// Index of the parameter in the table.
    index: usize,
    /// Index among the tensors that are present.
    row: usize,
}

impl fmt::Debug for ParamStats<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParamStats")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl<'s> ParamStats<'s> {
    /// Returns the name and shape of the parameter.
    #[must_use]
    pub fn info(&self) -> &'s ParamInfo {
        &self.stats.table[self.index]
    }

    /// Returns the parameter's name, such as `transformer.h.0.attn.c_q.weight`.
    #[must_use]
    pub fn name(&self) -> &'s str {
        &self.info().name
    }

    /// Returns all elements, `[elements]`, on the device.
    ///
    /// Drop the tensor before the hook returns: otherwise it holds its memory and prevents the optimizer from
    /// updating in place.
    #[must_use]
    pub fn values(&self) -> Tensor<1> {
        self.tensor().flat()
    }

    /// Returns the L2 norm.
    #[must_use]
    pub fn l2(&self) -> Deferred {
        self.element(Statistic::SumOfSquares).sqrt()
    }

    /// Returns the mean.
    #[must_use]
    pub fn mean(&self) -> Deferred {
        self.element(Statistic::Mean)
    }

    /// Returns the standard deviation, with `n - 1` in the denominator as in `torch.std`.
    #[must_use]
    pub fn std(&self) -> Deferred {
        self.element(Statistic::Variance).sqrt()
    }

    /// Returns the largest magnitude.
    #[must_use]
    pub fn abs_max(&self) -> Deferred {
        self.element(Statistic::AbsMax)
    }

    /// Counts the elements that are NaN or infinite.
    #[must_use]
    pub fn non_finite(&self) -> Deferred {
        self.element(Statistic::NonFinite)
    }

    /// Returns a histogram of the elements, in `bins` bins of equal width.
    ///
    /// On the CPU it keeps the values until the step has been read, so an optimizer that updates in place copies
    /// this parameter.
    #[must_use]
    pub fn histogram(&self, bins: usize) -> DeferredHistogram {
        DeferredHistogram::of(self.values(), bins)
    }

    fn element(&self, statistic: Statistic) -> Deferred {
        Deferred::element(self.stats.row(statistic), self.row)
    }

    fn tensor(&self) -> &dyn AnyRank {
        self.stats.tensors()[self.index]
            .as_deref()
            .expect("`iter` yields present tensors only")
    }
}
