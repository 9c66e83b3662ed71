//! Training tasks: batches, loss and evaluation.

use crate::deferred::Deferred;
use crate::device_read::{self, DeviceError};
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::text::TextTask;
use bdh_ops::upcast_f32;
use burn::module::Module;
use burn::tensor::Tensor;
use serde_json::Value;

/// Training data, loss and evaluation of a model.
///
/// For a language model use the task [`NextToken`](crate::NextToken) and implement [`CausalLm`](crate::CausalLm) for
/// the model. For other models implement `next_batch`, `size` and `loss`; all other methods have defaults.
///
/// A task is `Sync`, because with several devices each computes its losses on its own thread. A field that only
/// [`next_batch`](Self::next_batch) uses and that is not `Sync`, such as a channel's receiver, can be in a `Mutex`:
/// `get_mut` does not lock.
///
/// # Examples
///
/// ```
/// use bdh::{BatchSize, BoxError, Probe, Task};
/// use bdh::burn::{nn::Linear, tensor::{Distribution, Tensor}};
///
/// /// Learns to halve a number.
/// struct Halve;
///
/// impl Task for Halve {
///     type Model = Linear;
///     type Batch = Vec<f32>;
///
///     fn next_batch(&mut self) -> Result<Vec<f32>, BoxError> {
///         Ok(vec![0.25, 0.5, 1.0])
///     }
///
///     fn size(&self, batch: &Vec<f32>) -> BatchSize {
///         BatchSize { samples: batch.len(), tokens: batch.len() }
///     }
///
///     fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &Probe<'_>) -> Tensor<1> {
///         let x = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device());
///         let x = x.reshape([-1, 1]);
///         (model.forward(x.clone()) - x / 2.0).square().mean()
///     }
/// }
/// ```
pub trait Task: Send + Sync + 'static {
    /// Model to train.
    type Model: Module + 'static;
    /// Input of one forward and backward pass, preferably still on the host.
    type Batch: Send;

    /// Returns the next training micro-batch. The data is endless: at its end it starts over.
    ///
    /// # Errors
    ///
    /// If the data cannot be read. The run then fails.
    fn next_batch(&mut self) -> Result<Self::Batch, BoxError>;

    /// Checks that the model can process a batch; for a language model, that it knows every token id.
    ///
    /// Called for each training batch before its forward pass, and for each validation batch before the run. It should
    /// read host data only. The default accepts every batch.
    ///
    /// # Errors
    ///
    /// If the model cannot process the batch. The text states what is wrong, and where in the batch. The run then
    /// fails.
    fn check(&self, _model: &Self::Model, _batch: &Self::Batch) -> Result<(), BoxError> {
        Ok(())
    }

    /// Returns the size of a batch, for the clock and the throughput.
    fn size(&self, batch: &Self::Batch) -> BatchSize;

    /// Returns the size of every training batch, if all are equal and the size is known before the run. Defaults to
    /// `None`.
    ///
    /// The plan needs it to predict cadences that count tokens or samples.
    fn batch_size(&self) -> Option<BatchSize> {
        None
    }

    /// Computes the training loss: a `[1]` tensor, averaged over the batch, that supports autodiff.
    ///
    /// Must not read from the device: each read stalls it. Offer activations to `probe` (see [`Probe::tap`]).
    fn loss(&self, model: &Self::Model, batch: &Self::Batch, probe: &Probe<'_>) -> Tensor<1>;

    /// Returns the validation batches, the same for every eval. The default, no batches, evaluates nothing.
    fn val_batches(&self) -> &[Self::Batch] {
        &[]
    }

    /// Evaluates one validation batch and adds the results to `totals`. The default adds the loss.
    ///
    /// `model` does not track gradients, and its dropout is off. Keep the sums on the device: the whole eval costs one
    /// read per device, however many batches it has.
    fn eval(&self, model: &Self::Model, batch: &Self::Batch, totals: &mut Totals) {
        totals.add("loss", self.loss(model, batch, &Probe::off()), 1.0);
    }

    /// Computes the metrics of an eval from the totals over all validation batches. The default is the mean of each.
    ///
    /// A metric `loss` is recorded as `val/loss`.
    fn summarize(&self, totals: &Totals) -> Vec<(String, Deferred)> {
        totals.means().collect()
    }

    /// Returns the names of the metrics that [`summarize`](Self::summarize) computes, if they are known without an
    /// eval.
    ///
    /// With them the trainer refuses an unknown metric in a callback's settings before the run. With the default,
    /// `None`, it evaluates the first validation batch to find the names, if a callback asks for a metric by name.
    fn metrics(&self) -> Option<Vec<String>> {
        None
    }

    /// Returns the floating-point operations of training per token, forward and backward, if known.
    fn flops_per_token(&self, _model: &Self::Model) -> Option<f64> {
        None
    }

    /// Returns the task's ability to generate and score text, if its model is a language model. Defaults to `None`.
    fn text(&self) -> Option<&dyn TextTask<Self::Model>> {
        None
    }

    /// Returns the position in the training data, a small JSON value that every checkpoint holds.
    ///
    /// With the default, `null`, the position is unknown and the run cannot be resumed. A task whose batches are all
    /// equal can return any other value, such as `json!({})`.
    fn position(&self) -> Value {
        Value::Null
    }

    /// Moves to a position that [`position`](Self::position) returned.
    ///
    /// # Errors
    ///
    /// If the position does not belong to this data.
    fn seek(&mut self, _position: &Value) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchSize {
    /// Number of independent examples, such as sequences.
    pub samples: usize,
    /// Number of predictions in the loss, such as tokens.
    pub tokens: usize,
}

/// Sums over the validation batches, still on the device.
#[derive(Debug, Default)]
pub struct Totals(Vec<Total>);

/// Sum of one metric over the validation batches.
#[derive(Debug)]
struct Total {
    name: &'static str,
    /// `[1]`, in f32.
    sum: Tensor<1>,
    weight: f64,
}

impl Totals {
    /// Adds `sum`, `[1]`, over `weight` observations (tokens, batches, bits) to the total of this name.
    pub fn add(&mut self, name: &'static str, sum: Tensor<1>, weight: f64) {
        let sum = upcast_f32(sum.inner());
        for total in &mut self.0 {
            if total.name == name {
                total.sum = total.sum.clone() + sum;
                total.weight += weight;
                return;
            }
        }
        self.0.push(Total { name, sum, weight });
    }

    /// Returns name, sum and weight of each total, in one device read.
    pub(crate) fn read(self) -> Result<Vec<(&'static str, f32, f64)>, DeviceError> {
        let sums = device_read::vectors(self.0.iter().map(|total| total.sum.clone()))?;
        let mut totals = Vec::new();
        for (Total { name, weight, .. }, sum) in self.0.iter().zip(sums) {
            let sum = sum.iter::<f32>().next().unwrap_or(f32::NAN);
            totals.push((*name, sum, *weight));
        }
        Ok(totals)
    }

    /// Returns the mean of each total, its sum divided by its weight, in the order in which the totals were first
    /// added.
    pub fn means(&self) -> impl Iterator<Item = (String, Deferred)> {
        self.0.iter().map(|total| {
            let sum = Deferred::from(total.sum.clone());
            (total.name.to_owned(), sum / total.weight)
        })
    }
}
