//! The user's side of training: what a batch is, and how wrong the model is on it.

use crate::deferred::Deferred;
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::read;
use crate::text::{Generated, Sampling, TokenScore};
use bdh_ops::widened;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;

/// What a model is trained on, and how it is judged.
///
/// Several replicas of the model ask for losses at once, so that a task is `Sync`. What only
/// [`next_batch`](Self::next_batch) uses and is not (a receiver, say) may be in a `Mutex`, whose `get_mut` costs nothing.
///
/// A language model needs none of this: [`NextToken`](crate::NextToken) is the task, and the model
/// implements [`CausalLm`](crate::CausalLm).
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
    /// What is trained.
    type Model: Module + 'static;
    /// What one forward and backward pass sees, preferably still on the host.
    type Batch: Send;

    /// Yields the next training micro-batch.
    ///
    /// # Errors
    ///
    /// Whatever keeps the data from being read; the run then stops.
    fn next_batch(&mut self) -> Result<Self::Batch, BoxError>;

    /// Refuses a batch that the model cannot take, such as one with ids beyond its vocabulary; by default none.
    ///
    /// Asked of each training batch before the model sees it, and of the validation batches before the run
    /// begins. It should look at host data only.
    ///
    /// # Errors
    ///
    /// What is wrong with the batch, with its place in it; the run then stops.
    fn check(&self, _model: &Self::Model, _batch: &Self::Batch) -> Result<(), BoxError> {
        Ok(())
    }

    /// Tells how much a batch holds, for the clock and for throughput.
    fn size(&self, batch: &Self::Batch) -> BatchSize;

    /// How much every training batch holds, where they are all alike and that is known beforehand.
    ///
    /// From it the plan foretells cadences by tokens and samples; `None` leaves them open.
    fn batch_size(&self) -> Option<BatchSize> {
        None
    }

    /// The loss to go down: the mean over the batch, `[1]`, on the tape.
    fn loss(&self, model: &Self::Model, batch: &Self::Batch, probe: &Probe<'_>) -> Tensor<1>;

    /// The validation batches, the same at every eval. None by default: then nothing is evaluated.
    fn val_batches(&self) -> &[Self::Batch] {
        &[]
    }

    /// Adds what one validation batch tells; by default its loss.
    ///
    /// `model` has no tape, and its dropout is off.
    fn eval(&self, model: &Self::Model, batch: &Self::Batch, totals: &mut Totals) {
        totals.add("loss", self.loss(model, batch, &Probe::off()), 1.0);
    }

    /// Turns totals over all validation batches into metrics; by default each one's mean.
    ///
    /// A metric `loss` is recorded as `val/loss`.
    fn summarize(&self, totals: &Totals) -> Vec<(String, Deferred)> {
        totals.means().collect()
    }

    /// The names of the metrics that [`summarize`](Self::summarize) gives, where they are known without an eval.
    ///
    /// With them a misspelt name in a callback is refused before the run. By default they are found out by an eval of
    /// the first validation batch, if a callback asks for one by name.
    fn metrics(&self) -> Option<Vec<String>> {
        None
    }

    /// Training cost per token in floating-point operations, forward and backward, where known.
    fn flops_per_token(&self, _model: &Self::Model) -> Option<f64> {
        None
    }

    /// Continues texts, each in its own way, where the model can; `None` where it cannot.
    ///
    /// One for each prompt, in their order, and the same as if each were continued alone.
    fn generate(
        &self,
        _model: &Self::Model,
        _prompts: &[(&str, Sampling)],
    ) -> Option<Result<Vec<Generated>, BoxError>> {
        None
    }

    /// Tells how the model finds each token of some rows of ids but their first, where it can; `None` where it
    /// cannot.
    ///
    /// One list for each row, in their order, and the same as if each row were scored alone.
    fn score(
        &self,
        _model: &Self::Model,
        _rows: &[&[i32]],
    ) -> Option<Result<Vec<Vec<TokenScore>>, BoxError>> {
        None
    }

    /// Tells where the training data stands, small enough to be saved with every checkpoint.
    ///
    /// By default it is not known (`null`), and a run cannot be resumed: its data would begin anew. Where all batches
    /// are alike, any other value will do, such as `json!({})`.
    fn position(&self) -> Value {
        Value::Null
    }

    /// Continues from a position that [`position`](Self::position) gave.
    ///
    /// # Errors
    ///
    /// If the position does not belong to this data.
    fn seek(&mut self, _position: &Value) -> Result<(), BoxError> {
        Ok(())
    }
}

/// How much a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchSize {
    /// Independent examples, such as sequences.
    pub samples: usize,
    /// Predictions that enter the loss, such as tokens.
    pub tokens: usize,
}

/// Sums over the validation batches, still on the device.
#[derive(Debug, Default)]
pub struct Totals(Vec<(&'static str, Tensor<1>, f64)>);

impl Totals {
    /// Adds `sum`, `[1]`, which stands for `weight` observations (tokens, batches, bits), to a total.
    pub fn add(&mut self, name: &'static str, sum: Tensor<1>, weight: f64) {
        let sum = widened(sum.inner());
        match self.0.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, total, weights)) => {
                *total = total.clone() + sum;
                *weights += weight;
            }
            None => self.0.push((name, sum, weight)),
        }
    }

    /// Name, sum and weight of each total, in one device read.
    pub(crate) fn read(self) -> Result<Vec<(&'static str, f32, f64)>, String> {
        let sums = read::vectors(self.0.iter().map(|(_, sum, _)| sum.clone()))?;
        let number = |data: TensorData| data.iter::<f32>().next().unwrap_or(f32::NAN);
        let totals = self.0.into_iter().zip(sums);
        Ok(totals
            .map(|((name, _, weight), sum)| (name, number(sum), weight))
            .collect())
    }

    /// Sum over weight, for each total in the order of first arrival.
    pub fn means(&self) -> impl Iterator<Item = (String, Deferred)> {
        self.0.iter().map(|(name, total, weight)| {
            ((*name).to_owned(), Deferred::from(total.clone()) / *weight)
        })
    }
}
