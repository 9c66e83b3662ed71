//! Evaluation without a run.

use crate::data::EvalData;
use crate::failure::BoxError;
use crate::metrics::{self, Metrics};
use crate::task::Task;
use burn::module::Module;

/// Evaluates a model on data, without a trainer. Returns the task's metrics by name. Costs one device read.
///
/// # Errors
///
/// If a batch cannot be read or the model cannot process it, there are no batches, a metric cannot be computed, or the
/// device failed.
///
/// # Examples
///
/// ```
/// use bdh::burn::{nn::{Linear, LinearConfig}, tensor::Tensor};
/// use bdh::{BatchSize, LossContext, Task};
/// # struct Halve;
/// # impl Task for Halve {
/// #     type Model = Linear;
/// #     type Batch = Vec<f32>;
/// #     fn size(&self, batch: &Vec<f32>) -> BatchSize { BatchSize::samples(batch.len()) }
/// #     fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &LossContext<'_>) -> Tensor<1> {
/// #         let x = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device()).reshape([-1, 1]);
/// #         (model.forward(x.clone()) - x / 2.0).square().mean()
/// #     }
/// # }
///
/// let model = LinearConfig::new(1, 1).init(&bdh::device("cpu")?);
/// let metrics = bdh::evaluate(&Halve, &model, &vec![vec![0.25], vec![0.5]])?;
/// assert_eq!(metrics[0].0, "loss");
/// # Ok::<(), bdh::BoxError>(())
/// ```
pub fn evaluate<T: Task>(
    task: &T,
    model: &T::Model,
    data: &impl EvalData<Batch = T::Batch>,
) -> Result<Vec<(String, f64)>, BoxError> {
    without_autodiff(task, &model.valid(), data)
}

/// Evaluates a model that is on a device without autodiff.
pub(crate) fn without_autodiff<T: Task>(
    task: &T,
    model: &T::Model,
    data: &dyn EvalData<Batch = T::Batch>,
) -> Result<Vec<(String, f64)>, BoxError> {
    let (mut metrics, mut num_batches) = (Metrics::default(), 0);
    for batch in data.batches() {
        let batch = batch?;
        task.check(model, &batch)?;
        task.eval(model, &batch, &mut metrics);
        num_batches += 1;
    }
    if num_batches == 0 {
        return Err("there is nothing to evaluate: the data has no batches".into());
    }
    let results = metrics::compute([metrics.read()?])?;
    Ok(results.scalars)
}
