//! Weights from files that others made.

use crate::checkpoint::{self, read_tensors};
use crate::error::CheckpointError;
use crate::params::{self, ParamTable, Tensors};
use burn::module::Module;
use std::io::ErrorKind;
use std::path::Path;

/// Puts the weights of a file into a model: a `.safetensors` file, or with the feature `pytorch` a `.pt` or `.pth`
/// file as `torch.save` writes it, of a state dict or of a dictionary that has one under `model` or `state_dict`.
///
/// Names and layouts are PyTorch's, as in the checkpoints of this crate: a `Linear` weight is `[out, in]`. What
/// `torch.compile` and `DistributedDataParallel` put before every name (`_orig_mod.`, `module.`) is taken off.
/// Floats are converted to the type of the model's own. Buffers are loaded too, such as the running mean of a `BatchNorm`,
/// also into a model that has trained; clones of the model keep theirs.
///
/// # Errors
///
/// [`CheckpointError::Mismatch`] with every name that is missing, unknown, of another shape, or no float where the model
/// has one; the model is gone then. [`CheckpointError::NoWeights`] if the path is not that of a file,
/// [`CheckpointError::Damaged`] or [`CheckpointError::Io`] if it cannot be read.
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

/// Puts the weights of a file into a model, but for `buffers` of the file that this model computes itself, such as tables
/// of rotary angles. All else must fit exactly.
///
/// A `*` in a name stands for any letters: `"*.num_batches_tracked"` leaves out what PyTorch keeps beside every
/// `BatchNorm`, and burn does not.
///
/// # Errors
///
/// The errors of [`load_weights`].
///
/// # Examples
///
/// ```no_run
/// # use bdh::{CheckpointError, burn::nn::BatchNorm};
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
    check_is_file(path)?;
    let tensors = match path.extension().and_then(|extension| extension.to_str()) {
        Some("pt" | "pth" | "bin") => torch(path)?,
        _ => read_tensors(path)?,
    };
    let mismatch = |what| CheckpointError::Mismatch {
        path: path.to_owned(),
        what,
    };
    let mut wanted = Tensors::new();
    for (name, data) in tensors {
        let name = plain(&name);
        if buffers.iter().any(|buffer| matches(buffer, name)) {
            continue;
        }
        if wanted.insert(name.to_owned(), data).is_some() {
            return Err(mismatch(format!(
                "it has `{name}` twice, once under a wrapper's name"
            )));
        }
    }
    let table = ParamTable::with_frozen(&model);
    let wanted = params::converted(&table, wanted);
    params::restore(model, &table, wanted).map_err(mismatch)
}

/// Refuses what is no regular file: a directory cannot be read, and a pipe might never end.
fn check_is_file(path: &Path) -> Result<(), CheckpointError> {
    let why = match path.metadata() {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_dir() && path.join(checkpoint::MODEL).is_file() => {
            format!(
                "it is a directory; give the file `{}` in it",
                checkpoint::MODEL
            )
        }
        Ok(found) if found.is_dir() => "it is a directory; give the file with the weights, \
                                        such as `model.safetensors` of a checkpoint"
            .to_owned(),
        Ok(_) => "it is no regular file; give a `.safetensors` file".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "there is no such file; a checkpoint has its weights in `model.safetensors`".to_owned()
        }
        Err(error) => error.to_string(),
    };
    Err(CheckpointError::NoWeights {
        path: path.to_owned(),
        why,
    })
}

/// Whether a name is one that a pattern stands for; a `*` in it is any letters, or none.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = name.find(part) else {
            return false;
        };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
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
        PytorchReader::with_top_level_key(path, key)
            .ok()
            .filter(|r| !r.is_empty())
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
        Ok((
            name,
            TensorData::from_bytes_vec(bytes, tensor.shape().to_vec(), dtype),
        ))
    };
    reader.into_tensors().into_iter().map(tensor).collect()
}

#[cfg(not(feature = "pytorch"))]
fn torch(path: &Path) -> Result<Tensors, CheckpointError> {
    let what =
        "files of `torch.save` are read with the feature `pytorch`; or save them with safetensors";
    Err(CheckpointError::Mismatch {
        path: path.to_owned(),
        what: what.to_owned(),
    })
}
