//! A model of many parameters with almost nothing to compute: what is left is the loop's own cost.

use bdh::burn; // `derive(Module)` writes `burn::…`
use bdh::burn::module::{Module, Param};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::Tensor;
use bdh::{BatchSize, BoxError, Cadence, Callback, Probe, Task, Trainer, TrainerBuilder};

/// Parameters of 256 elements.
#[derive(Module, Debug)]
pub(crate) struct Many {
    params: Vec<Param<Tensor<2>>>,
}

impl Many {
    /// So many of them, all ones.
    pub(crate) fn of(count: u64) -> Self {
        let device = bdh::device("cpu").unwrap();
        let param = |_| Param::from_tensor(Tensor::ones([16, 16], &device));
        Self {
            params: (0..count).map(param).collect(),
        }
    }
}

/// Makes the sum of all parameters smaller.
pub(crate) struct SumUp;

impl Task for SumUp {
    type Model = Many;
    type Batch = ();

    fn next_batch(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    fn size(&self, (): &()) -> BatchSize {
        BatchSize {
            samples: 1,
            tokens: 1,
        }
    }

    fn loss(&self, model: &Many, (): &(), _: &Probe<'_>) -> Tensor<1> {
        let all = model
            .params
            .iter()
            .map(Param::val)
            .reduce(|sum, param| sum + param);
        all.unwrap().mean()
    }
}

/// Has every hook and does nothing in it.
pub(crate) struct Idle;

impl Callback for Idle {}

/// A run that nothing observes.
pub(crate) fn bare(params: u64, steps: u64) -> TrainerBuilder<SumUp> {
    Trainer::builder(SumUp, Many::of(params))
        .optimizer(SgdConfig::new().build(), 0.1)
        .steps(steps)
        .log(Cadence::Never)
        .stop_on_signals(false)
}
