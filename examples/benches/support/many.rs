//! A model of many parameters with almost no computation, to measure the cost of the loop.

use bdh::burn; // `derive(Module)` writes `burn::…`
use bdh::burn::module::{Module, Param};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::Tensor;
use bdh::data::cycle;
use bdh::{BatchSize, Cadence, Callback, LossContext, Task, Trainer, TrainerBuilder};

/// Model with parameters of 256 elements.
#[derive(Module, Debug)]
pub(crate) struct Many {
    params: Vec<Param<Tensor<2>>>,
}

impl Many {
    /// Creates a model of `count` parameters, all ones.
    pub(crate) fn of(count: u64) -> Self {
        let device = bdh::device("cpu").unwrap();
        let param = |_| Param::from_tensor(Tensor::ones([16, 16], &device));
        Self {
            params: (0..count).map(param).collect(),
        }
    }
}

/// Task that minimizes the sum of all parameters.
pub(crate) struct SumUp;

impl Task for SumUp {
    type Model = Many;
    type Batch = ();

    fn size(&self, (): &()) -> BatchSize {
        BatchSize::samples(1)
    }

    fn loss(&self, model: &Many, (): &(), _: &LossContext<'_>) -> Tensor<1> {
        let all = model
            .params
            .iter()
            .map(Param::val)
            .reduce(|sum, param| sum + param);
        all.unwrap().mean()
    }
}

/// Callback with every hook, which does nothing.
pub(crate) struct Idle;

impl Callback for Idle {}

/// Returns a run without callbacks.
pub(crate) fn bare(params: u64, steps: u64) -> TrainerBuilder<SumUp> {
    Trainer::builder(SumUp, Many::of(params))
        .train_data(cycle(vec![()]))
        .optimizer(SgdConfig::new().build(), 0.1)
        .steps(steps)
        .log(Cadence::Never)
        .stop_on_signals(false)
}
