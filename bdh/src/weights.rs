//! Weights from files that others made.

use crate::checkpoint::{CheckpointError, Tensors, read_tensors};
use crate::params::{self, ParamTable};
use burn::module::Module;
use std::path::Path;

/// Puts the weights of a file into a model: a `.safetensors` file, or with the feature `pytorch` a `.pt` or `.pth`
/// file as `torch.save` writes it, of a state dict or of a dictionary that has one under `model` or `state_dict`.
///
/// Names and layouts are PyTorch's, as in the checkpoints of this crate: a `Linear` weight is `[out, in]`. What
/// `torch.compile` and `DistributedDataParallel` put before every name (`_orig_mod.`, `module.`) is taken off.
/// Numbers are converted to the type of the model's own.
///
/// # Errors
///
/// [`CheckpointError::Mismatch`] with every name that is missing, unknown, or of another shape; the model is gone
/// then. [`CheckpointError::Damaged`] or [`CheckpointError::Io`] if the file cannot be read.
///
/// # Examples
///
/// ```no_run
/// # use bdh::{CheckpointError, burn::nn::Linear};
/// # fn start(model: Linear) -> Result<Linear, CheckpointError> {
/// let model = bdh::load_weights(model, "runs/a/checkpoints/step_00000500/model.safetensors")?;
/// # Ok(model)
/// # }
/// ```
pub fn load_weights<M: Module>(model: M, path: impl AsRef<Path>) -> Result<M, CheckpointError> {
    load_weights_except(model, path, &[])
}

/// The same for a file that also holds `buffers` which this model computes itself, such as tables of rotary angles: they
/// are passed over. All else must fit exactly.
///
/// # Errors
///
/// Those of [`load_weights`].
pub fn load_weights_except<M: Module>(
    model: M,
    path: impl AsRef<Path>,
    buffers: &[&str],
) -> Result<M, CheckpointError> {
    let path = path.as_ref();
    let tensors = match path.extension().and_then(|extension| extension.to_str()) {
        Some("pt" | "pth" | "bin") => torch(path)?,
        _ => read_tensors(path)?,
    };
    let tensors = tensors.into_iter().map(|(name, data)| (plain(&name).to_owned(), data));
    let tensors = tensors.filter(|(name, _)| !buffers.contains(&name.as_str())).collect();
    let table = ParamTable::with_frozen(&model);
    params::restore(model, &table, tensors)
        .map_err(|what| CheckpointError::Mismatch { path: path.to_owned(), what })
}

/// A name without what wrappers of PyTorch put before it.
fn plain(name: &str) -> &str {
    let name = name.strip_prefix("module.").unwrap_or(name);
    name.strip_prefix("_orig_mod.").unwrap_or(name)
}

#[cfg(feature = "pytorch")]
fn torch(path: &Path) -> Result<Tensors, CheckpointError> {
    use burn::tensor::{BoolStore, DType, TensorData};
    use pytorch_reader::{DType as Theirs, PytorchReader};

    let damaged = |error: &dyn std::fmt::Display| CheckpointError::Damaged {
        path: path.to_owned(),
        what: error.to_string(),
    };
    // A training script saves more than weights: they are then one entry of a dictionary.
    let nested = ["model", "state_dict"].into_iter().find_map(|key| {
        PytorchReader::with_top_level_key(path, key).ok().filter(|r| !r.is_empty())
    });
    let reader = match nested {
        Some(reader) => reader,
        None => PytorchReader::new(path).map_err(|error| damaged(&error))?,
    };
    let tensor = |(name, tensor): (String, pytorch_reader::Tensor)| {
        let dtype = match tensor.dtype() {
            Theirs::F64 => DType::F64,
            Theirs::F32 => DType::F32,
            Theirs::F16 => DType::F16,
            Theirs::BF16 => DType::BF16,
            Theirs::I64 => DType::I64,
            Theirs::I32 => DType::I32,
            Theirs::I16 => DType::I16,
            Theirs::I8 => DType::I8,
            Theirs::U8 => DType::U8,
            Theirs::Bool => DType::Bool(BoolStore::Native),
            other => return Err(damaged(&format!("`{name}` is of type {other:?}"))),
        };
        let bytes = tensor.read().map_err(|error| damaged(&error))?;
        Ok((name, TensorData::from_bytes_vec(bytes, tensor.shape().to_vec(), dtype)))
    };
    reader.into_tensors().into_iter().map(tensor).collect()
}

#[cfg(not(feature = "pytorch"))]
fn torch(path: &Path) -> Result<Tensors, CheckpointError> {
    let what =
        "files of `torch.save` are read with the feature `pytorch`; or save them with safetensors";
    Err(CheckpointError::Mismatch { path: path.to_owned(), what: what.to_owned() })
}
