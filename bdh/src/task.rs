//! Training tasks: the loss of a batch, and its evaluation.

use crate::failure::BoxError;
use crate::loss_context::LossContext;
use crate::metrics::Metrics;
use crate::text::TextTask;
use burn::module::Module;
use burn::tensor::Tensor;

/// Loss and evaluation of a model on a batch. The data itself is given to the [trainer](crate::TrainerBuilder).
///
/// For a language model use the task [`NextToken`](crate::NextToken) and implement [`CausalLm`](crate::CausalLm) for
/// the model. For other models implement `size` and `loss`; all other methods have defaults.
///
/// A task is `Sync`, because with several devices each computes its losses on its own thread.
///
/// # Examples
///
/// ```
/// use bdh::{BatchSize, LossContext, Task};
/// use bdh::burn::{nn::Linear, tensor::Tensor};
///
/// /// Learns to halve a number.
/// struct Halve;
///
/// impl Task for Halve {
///     type Model = Linear;
///     type Batch = Vec<f32>;
///
///     fn size(&self, batch: &Vec<f32>) -> BatchSize {
///         BatchSize::samples(batch.len())
///     }
///
///     fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &LossContext<'_>) -> Tensor<1> {
///         let x = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device());
///         let x = x.reshape([-1, 1]);
///         (model.forward(x.clone()) - x / 2.0).square().mean()
///     }
/// }
/// ```
pub trait Task: Send + Sync + 'static {
    /// Model to train.
    type Model: Module + 'static;
    /// Input of one forward and backward pass, preferably still on the host: [`loss`](Self::loss) moves it to the device.
    type Batch: Send + 'static;

    /// Returns the size of a batch, for the clock and the throughput. Batches may differ in size.
    fn size(&self, batch: &Self::Batch) -> BatchSize;

    /// Checks that the model can process a batch; for a language model, that it knows every token id.
    ///
    /// Called for each batch before its forward pass. It should read host data only. The default accepts every batch.
    ///
    /// # Errors
    ///
    /// If the model cannot process the batch. The text states what is wrong, and where in the batch. The run then
    /// fails.
    fn check(&self, _model: &Self::Model, _batch: &Self::Batch) -> Result<(), BoxError> {
        Ok(())
    }

    /// Computes the training loss: a `[1]` tensor, averaged over the batch, that supports autodiff.
    ///
    /// Must not read from the device: each read stalls it. `step` knows the progress of the run, records further
    /// numbers ([`LossContext::log`]), and has the probe for activations ([`Probe::tap`](crate::Probe::tap)).
    fn loss(&self, model: &Self::Model, batch: &Self::Batch, step: &LossContext<'_>) -> Tensor<1>;

    /// Evaluates one batch of an eval and adds the results to `metrics`. The default adds the loss, weighted by the number
    /// of samples, so that a smaller last batch counts less.
    ///
    /// `model` does not track gradients, and its dropout is off. Keep the sums on the device: the whole eval costs one
    /// read per device, however many batches it has.
    fn eval(&self, model: &Self::Model, batch: &Self::Batch, metrics: &mut Metrics) {
        let samples = self.size(batch).samples.max(1) as f64;
        let loss = self.loss(model, batch, &LossContext::off());
        metrics.mean("loss", loss * samples, samples);
    }

    /// Returns the names of the metrics that [`eval`](Self::eval) adds, if they are known without an eval.
    ///
    /// With them the trainer refuses an unknown metric in a callback's settings before the run. With the default,
    /// `None`, it evaluates the first batch to find the names, if a callback asks for a metric by name.
    fn metric_names(&self) -> Option<Vec<String>> {
        None
    }

    /// Returns the floating-point operations of training on a batch like this, per token, forward and backward, if
    /// known.
    fn flops_per_token(&self, _model: &Self::Model, _batch: &Self::Batch) -> Option<f64> {
        None
    }

    /// Returns the task's ability to generate and score text, if its model is a language model. Defaults to `None`.
    fn text(&self) -> Option<&dyn TextTask<Self::Model>> {
        None
    }
}

/// Size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchSize {
    /// Number of independent examples, such as sequences or images.
    pub samples: usize,
    /// Number of tokens; 0 if the data is not text. With 0, throughput is in samples per second.
    pub tokens: usize,
}

impl BatchSize {
    /// Returns the size of a batch of `samples` examples that are not text.
    #[must_use]
    pub fn samples(samples: usize) -> Self {
        Self { samples, tokens: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    /// The loss is the mean of a batch.
    struct Mean;

    impl Task for Mean {
        type Model = Linear;
        type Batch = Vec<f32>;

        fn size(&self, batch: &Vec<f32>) -> BatchSize {
            BatchSize::samples(batch.len())
        }

        fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &LossContext<'_>) -> Tensor<1> {
            Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device()).mean()
        }
    }

    #[test]
    fn the_default_eval_weighs_a_batch_by_its_samples() {
        let model = LinearConfig::new(1, 1).init(&Device::flex());
        let batches = vec![vec![1.0, 1.0, 1.0], vec![5.0]];
        let metrics = crate::evaluate(&Mean, &model, &batches).expect("valid batches");
        assert_eq!(metrics, [("loss".to_owned(), 2.0)]);
    }
}
