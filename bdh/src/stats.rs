//! Statistics of weights, gradients and updates: computed where they are, once for all who ask.

use crate::deferred::{Deferred, DeferredHistogram, Leaf};
use crate::params::{AnyRank, ParamInfo, ParamTable, PerParam};
use bdh_ops::Moments;
use burn::tensor::{Device, Tensor};
use std::cell::OnceCell;
use std::sync::Arc;

/// One tensor a parameter (its weight, its gradient or its update), with statistics on demand.
///
/// Nothing is computed before it is asked for, and nothing twice: the second callback that wants a norm
/// gets the first one's. On a GPU a statistic of all parameters is one vector there, read with everything else
/// that the step logs. On the CPU all of them come from the same single pass over each tensor, with sums
/// in double precision.
pub struct Stats<'a> {
    table: Arc<ParamTable>,
    collect: Box<dyn Fn() -> PerParam + 'a>,
    tensors: OnceCell<PerParam>,
    moments: OnceCell<Option<Vec<Moments>>>,
    rows: [OnceCell<Arc<Leaf>>; Statistic::COUNT],
}

/// What can be asked of each tensor.
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

    /// `[1]`, with the tensor's own operations.
    fn of_tensor(self, tensor: &dyn AnyRank) -> Tensor<1> {
        match self {
            Self::SumOfSquares => tensor.sum_of_squares(),
            Self::Mean => tensor.mean(),
            Self::Variance => tensor.variance(),
            Self::AbsMax => tensor.abs_max(),
            Self::NonFinite => tensor.non_finite(),
        }
    }

    /// The same of the sums over a tensor.
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

    /// The parameters that have a tensor here; one that took no part in the loss has no gradient.
    pub fn iter(&self) -> impl Iterator<Item = ParamStats<'_>> {
        let present = self
            .tensors()
            .iter()
            .enumerate()
            .filter(|(_, tensor)| tensor.is_some());
        present.enumerate().map(|(row, (index, _))| ParamStats {
            stats: self,
            index,
            row,
        })
    }

    /// The L2 norm over all parameters together.
    #[must_use]
    pub fn l2(&self) -> Deferred {
        Deferred::sum(self.row(Statistic::SumOfSquares)).sqrt()
    }

    /// The L2 norm over some parameters together, chosen by name or shape; 0 for none.
    #[must_use]
    pub fn l2_of(&self, choose: impl Fn(&ParamInfo) -> bool) -> Deferred {
        let chosen = self
            .iter()
            .filter(|param| choose(param.info()))
            .map(|param| param.row);
        Deferred::sum_of(self.row(Statistic::SumOfSquares), chosen.collect()).sqrt()
    }

    /// How many elements are NaN or infinite, over all parameters.
    #[must_use]
    pub fn non_finite(&self) -> Deferred {
        Deferred::sum(self.row(Statistic::NonFinite))
    }

    /// The global L2 norm on the device, `[1]`, for the clipping that must not wait for it.
    pub(crate) fn l2_on(&self, device: &Device) -> Tensor<1> {
        self.row(Statistic::SumOfSquares).root_of_sum(device)
    }

    /// The tensors, fetched when first asked for: handles keep the optimizer from working in place.
    fn tensors(&self) -> &PerParam {
        self.tensors.get_or_init(&self.collect)
    }

    /// A statistic of every present tensor, as one vector `[present]`.
    fn row(&self, statistic: Statistic) -> &Arc<Leaf> {
        self.rows[statistic as usize].get_or_init(|| {
            self.on_host(statistic)
                .map_or_else(|| self.on_device(statistic), Leaf::of_host)
        })
    }

    /// `None` if it is to be worked out where the tensors are.
    fn on_host(&self, statistic: Statistic) -> Option<Vec<f64>> {
        Some(
            self.moments()?
                .iter()
                .map(|moments| statistic.of_moments(moments))
                .collect(),
        )
    }

    /// At least one tensor is present: a step without any gradient ends the run before anybody can ask.
    fn on_device(&self, statistic: Statistic) -> Arc<Leaf> {
        let values = self
            .tensors()
            .iter()
            .flatten()
            .map(|tensor| statistic.of_tensor(&**tensor));
        Leaf::new(Tensor::cat(values.collect(), 0))
    }

    /// Those of every present tensor, if they are in host memory.
    fn moments(&self) -> Option<&[Moments]> {
        let of_all = || {
            self.tensors()
                .iter()
                .flatten()
                .map(|tensor| Moments::of(&tensor.flat()))
                .collect()
        };
        self.moments.get_or_init(of_all).as_deref()
    }
}

/// One parameter's tensor and its statistics.
#[derive(Clone, Copy)]
pub struct ParamStats<'s> {
    stats: &'s Stats<'s>,
    /// In the table.
    index: usize,
    /// Among the tensors that are present.
    row: usize,
}

impl<'s> ParamStats<'s> {
    /// The parameter.
    #[must_use]
    pub fn info(&self) -> &'s ParamInfo {
        &self.stats.table[self.index]
    }

    /// The parameter's name, such as `transformer.h.0.attn.c_q.weight`.
    #[must_use]
    pub fn name(&self) -> &'s str {
        &self.info().name
    }

    /// All elements, `[elements]`, on the device.
    ///
    /// Let go of it before the hook returns: a tensor that is kept holds its memory, and keeps the
    /// optimizer from working in place.
    #[must_use]
    pub fn values(&self) -> Tensor<1> {
        self.tensor().flat()
    }

    /// The L2 norm.
    #[must_use]
    pub fn l2(&self) -> Deferred {
        self.element(Statistic::SumOfSquares).sqrt()
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Deferred {
        self.element(Statistic::Mean)
    }

    /// The standard deviation, with `n - 1` in the denominator as `torch.std` has it.
    #[must_use]
    pub fn std(&self) -> Deferred {
        self.element(Statistic::Variance).sqrt()
    }

    /// The largest magnitude.
    #[must_use]
    pub fn abs_max(&self) -> Deferred {
        self.element(Statistic::AbsMax)
    }

    /// How many elements are NaN or infinite.
    #[must_use]
    pub fn non_finite(&self) -> Deferred {
        self.element(Statistic::NonFinite)
    }

    /// The distribution of the elements, in `bins` bins of one width.
    ///
    /// Until the step has been read it holds on to the values, as [`values`](Self::values) does: an optimizer
    /// that would have worked in place copies this parameter.
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
