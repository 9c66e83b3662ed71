//! Weights of a model as files: loaded, saved and averaged.

mod average;
mod matching;
mod save;
mod source;

pub use average::{Average, average_weights};
pub use matching::{LoadReport, load_matching, load_matching_prefixes};
pub use save::save_weights;

use crate::error::CheckpointError;
use crate::names::matches;
use crate::params::{self, Mismatch, ParamTable, Tensors};
use burn::module::Module;
use source::plain;
use std::path::Path;

/// Loads the weights of a file into a model, all or nothing; [`load_matching`] loads the part that fits.
///
/// The file is a `.safetensors` file or, with the feature `pytorch`, a `.pt`, `.pth` or `.bin` file of `torch.save`: a
/// state dict, or a dictionary that has one under `model` or `state_dict`.
///
/// Names and layouts are PyTorch's, as in the checkpoints of this crate: a `Linear` weight is `[out, in]`. The prefixes
/// of `torch.compile` and `DistributedDataParallel` (`_orig_mod.`, `module.`) are removed. Floats are converted to the
/// types of the model's parameters. Buffers are loaded too, such as the running mean of a `BatchNorm`; clones of the
/// model keep their values.
///
/// # Errors
///
/// [`CheckpointError::Mismatch`] lists every tensor that is missing, unknown, of another shape, or not a float although
/// the model's is; the model is lost then. [`CheckpointError::NoWeights`] if the path is not a file,
/// [`CheckpointError::Damaged`] or [`CheckpointError::Io`] if it cannot be read.
///
/// # Examples
///
/// ```no_run
/// # use bdh::burn::nn::Linear;
/// # use bdh::error::CheckpointError;
/// # fn start(model: Linear) -> Result<Linear, CheckpointError> {
/// let model = bdh::load_weights(model, "runs/a/checkpoints/step_00000500/model.safetensors")?;
/// # Ok(model)
/// # }
/// ```
pub fn load_weights<M: Module>(model: M, path: impl AsRef<Path>) -> Result<M, CheckpointError> {
    load_weights_except(model, path, &[])
}

/// Loads the weights of a file into a model, except for `buffers` of the file that the model does not have.
///
/// Such buffers are tables of rotary angles that the model computes itself, for example. All other tensors must fit.
/// A `*` in a name matches any text: `"*.num_batches_tracked"` skips a counter that PyTorch saves with every
/// `BatchNorm` and burn does not have.
///
/// # Errors
///
/// The errors of [`load_weights`].
///
/// # Examples
///
/// ```no_run
/// # use bdh::burn::nn::BatchNorm;
/// # use bdh::error::CheckpointError;
/// # fn start(model: BatchNorm) -> Result<BatchNorm, CheckpointError> {
/// let model = bdh::load_weights_except(model, "resnet.safetensors", &["*.num_batches_tracked"])?;
/// # Ok(model)
/// # }
/// ```
pub fn load_weights_except<M: Module>(
    model: M,
    path: impl AsRef<Path>,
    buffers: &[&str],
) -> Result<M, CheckpointError> {
    let path = path.as_ref();
    let tensors = source::read(path)?;
    load(model, tensors, buffers).map_err(|error| CheckpointError::Mismatch {
        path: path.to_owned(),
        what: error.to_string(),
    })
}

fn load<M: Module>(model: M, tensors: Tensors, buffers: &[&str]) -> Result<M, Mismatch> {
    let wanted = without_buffers(tensors, buffers)?;
    let table = ParamTable::with_frozen(&model);
    let converted = params::converted(&table, wanted);
    params::restore(model, &table, converted)
}

/// Removes the buffers that the model does not have, and the prefixes of PyTorch's wrappers.
fn without_buffers(tensors: Tensors, buffers: &[&str]) -> Result<Tensors, Mismatch> {
    let mut wanted = Tensors::new();
    for (name, data) in tensors {
        let name = plain(&name);
        if buffers.iter().any(|buffer| matches(buffer, name)) {
            continue;
        }
        if wanted.insert(name.to_owned(), data).is_some() {
            return Err(Mismatch::new(format!(
                "it has `{name}` twice, once with the prefix of a wrapper"
            )));
        }
    }
    Ok(wanted)
}
