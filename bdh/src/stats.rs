//! Statistics of weights, gradients and updates: computed on the device, once for all who ask.

use crate::deferred::Leaf;
use crate::params::{AnyRank, ParamInfo, ParamTable, PerParam};
use crate::{Deferred, DeferredHistogram};
use burn::tensor::Tensor;
use std::cell::OnceCell;
use std::sync::Arc;

/// One tensor a parameter (its weight, its gradient or its update), with statistics on demand.
///
/// Nothing is computed before it is asked for, and nothing twice: the second callback that wants a norm
/// gets the first one's. A statistic of all parameters is one vector on the device, read with
/// everything else that the step logs.
pub struct Stats<'a> {
    table: Arc<ParamTable>,
    collect: Box<dyn Fn() -> PerParam + 'a>,
    tensors: OnceCell<PerParam>,
    sums_of_squares: OnceCell<Arc<Leaf>>,
    means: OnceCell<Arc<Leaf>>,
    variances: OnceCell<Arc<Leaf>>,
    abs_maxima: OnceCell<Arc<Leaf>>,
    non_finites: OnceCell<Arc<Leaf>>,
}

impl<'a> Stats<'a> {
    pub(crate) fn new(table: &Arc<ParamTable>, collect: impl Fn() -> PerParam + 'a) -> Self {
        Self {
            table: Arc::clone(table),
            collect: Box::new(collect),
            tensors: OnceCell::new(),
            sums_of_squares: OnceCell::new(),
            means: OnceCell::new(),
            variances: OnceCell::new(),
            abs_maxima: OnceCell::new(),
            non_finites: OnceCell::new(),
        }
    }

    /// The parameters that have a tensor here; one that took no part in the loss has no gradient.
    pub fn iter(&self) -> impl Iterator<Item = ParamStats<'_>> {
        let present = self.tensors().iter().enumerate().filter(|(_, tensor)| tensor.is_some());
        present.enumerate().map(|(row, (index, _))| ParamStats { stats: self, index, row })
    }

    /// The L2 norm over all parameters together.
    #[must_use]
    pub fn l2(&self) -> Deferred {
        Deferred::sum(self.sums_of_squares()).sqrt()
    }

    /// The L2 norm over some parameters together, chosen by name or shape; 0 for none.
    #[must_use]
    pub fn l2_of(&self, choose: impl Fn(&ParamInfo) -> bool) -> Deferred {
        let chosen = self.iter().filter(|param| choose(param.info())).map(|param| param.row);
        Deferred::sum_of(self.sums_of_squares(), chosen.collect()).sqrt()
    }

    /// How many elements are NaN or infinite, over all parameters.
    #[must_use]
    pub fn non_finite(&self) -> Deferred {
        Deferred::sum(self.row(&self.non_finites, |tensor| tensor.non_finite()))
    }

    /// The global L2 norm on the device, `[1]`, for the clipping that must not wait for it.
    pub(crate) fn l2_on_device(&self) -> Tensor<1> {
        self.sums_of_squares().on_device().sum().sqrt()
    }

    /// The tensors, fetched when first asked for: handles keep the optimizer from working in place.
    fn tensors(&self) -> &PerParam {
        self.tensors.get_or_init(&self.collect)
    }

    fn sums_of_squares(&self) -> &Arc<Leaf> {
        self.row(&self.sums_of_squares, |tensor| tensor.sum_of_squares())
    }

    /// A statistic of every present tensor, as one vector `[present]`. At least one is present: a step
    /// without any gradient ends the run before anybody can ask.
    fn row<'c>(
        &self,
        cell: &'c OnceCell<Arc<Leaf>>,
        statistic: fn(&dyn AnyRank) -> Tensor<1>,
    ) -> &'c Arc<Leaf> {
        cell.get_or_init(|| {
            let values = self.tensors().iter().flatten().map(|tensor| statistic(&**tensor));
            Leaf::new(Tensor::cat(values.collect(), 0))
        })
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
        Deferred::element(self.stats.sums_of_squares(), self.row).sqrt()
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Deferred {
        self.element(&self.stats.means, |tensor| tensor.mean())
    }

    /// The standard deviation, with `n - 1` in the denominator as `torch.std` has it.
    #[must_use]
    pub fn std(&self) -> Deferred {
        self.element(&self.stats.variances, |tensor| tensor.variance()).sqrt()
    }

    /// The largest magnitude.
    #[must_use]
    pub fn abs_max(&self) -> Deferred {
        self.element(&self.stats.abs_maxima, |tensor| tensor.abs_max())
    }

    /// How many elements are NaN or infinite.
    #[must_use]
    pub fn non_finite(&self) -> Deferred {
        self.element(&self.stats.non_finites, |tensor| tensor.non_finite())
    }

    /// The distribution of the elements, in `bins` bins of one width.
    ///
    /// Until the step has been read it holds on to the values, as [`values`](Self::values) does: an optimizer
    /// that would have worked in place copies this parameter.
    #[must_use]
    pub fn histogram(&self, bins: usize) -> DeferredHistogram {
        DeferredHistogram::of(self.values(), bins)
    }

    fn element(
        &self,
        cell: &OnceCell<Arc<Leaf>>,
        statistic: fn(&dyn AnyRank) -> Tensor<1>,
    ) -> Deferred {
        Deferred::element(self.stats.row(cell, statistic), self.row)
    }

    fn tensor(&self) -> &dyn AnyRank {
        self.stats.tensors()[self.index].as_deref().expect("`iter` yields present tensors only")
    }
}
