//! Loading of weights from files of other programs.

use crate::checkpoint::{self, read_tensors};
use crate::error::CheckpointError;
use crate::params::{self, Mismatch, ParamTable, Tensors};
use burn::module::Module;
use std::io::ErrorKind;
use std::path::Path;

/// Loads the weights of a file into a model.
///
/// The file is a `.safetensors` file or, with the feature `pytorch`, a `.pt` or `.pth` file written by `torch.save`: a
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
    check_is_file(path)?;
    let tensors = match path.extension().and_then(|extension| extension.to_str()) {
        Some("pt" | "pth" | "bin") => torch(path)?,
        _ => read_tensors(path)?,
    };
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

/// Checks that the path is a regular file: a directory cannot be read, and a pipe might never end.
fn check_is_file(path: &Path) -> Result<(), CheckpointError> {
    let why = match path.metadata() {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_dir() => why_no_directory(path),
        Ok(_) => "it is not a regular file; use a `.safetensors` file".to_owned(),
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

fn why_no_directory(path: &Path) -> String {
    const FILE: &str = checkpoint::MODEL;
    if path.join(FILE).is_file() {
        return format!("it is a directory; use the file `{FILE}` in it");
    }
    format!("it is a directory; use the file with the weights, such as `{FILE}` of a checkpoint")
}

/// Returns whether a name matches a pattern, in which `*` matches any text, also none.
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

/// Removes the prefixes of PyTorch's wrappers from a name.
fn plain(name: &str) -> &str {
    let name = name.strip_prefix("module.").unwrap_or(name);
    name.strip_prefix("_orig_mod.").unwrap_or(name)
}

#[cfg(feature = "pytorch")]
fn torch(path: &Path) -> Result<Tensors, CheckpointError> {
    use burn::tensor::TensorData;

    let mut tensors = Tensors::new();
    for (name, tensor) in open_torch(path)?.into_tensors() {
        let Some(dtype) = dtype(tensor.dtype()) else {
            let found = tensor.dtype();
            return Err(damaged(path, format!("`{name}` is of type {found:?}")));
        };
        let bytes = tensor
            .read()
            .map_err(|error| damaged(path, error.to_string()))?;
        let shape = tensor.shape().to_vec();
        tensors.insert(name, TensorData::from_bytes_vec(bytes, shape, dtype));
    }
    Ok(tensors)
}

#[cfg(feature = "pytorch")]
fn damaged(path: &Path, what: String) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_owned(),
        what,
    }
}

/// Opens a file of `torch.save`.
#[cfg(feature = "pytorch")]
fn open_torch(path: &Path) -> Result<pytorch_reader::PytorchReader, CheckpointError> {
    if let Some(reader) = nested(path) {
        return Ok(reader);
    }
    pytorch_reader::PytorchReader::new(path).map_err(|error| damaged(path, error.to_string()))
}

/// Opens the weights in a dictionary: training scripts often save one in which the weights are an entry.
#[cfg(feature = "pytorch")]
fn nested(path: &Path) -> Option<pytorch_reader::PytorchReader> {
    for key in ["model", "state_dict"] {
        if let Ok(reader) = pytorch_reader::PytorchReader::with_top_level_key(path, key)
            && !reader.is_empty()
        {
            return Some(reader);
        }
    }
    None
}

/// Converts a type of PyTorch; `None` if burn has no equal one.
#[cfg(feature = "pytorch")]
fn dtype(dtype: pytorch_reader::DType) -> Option<burn::tensor::DType> {
    use burn::tensor::{BoolStore, DType};
    use pytorch_reader::DType as Torch;

    match dtype {
        Torch::F64 => Some(DType::F64),
        Torch::F32 => Some(DType::F32),
        Torch::F16 => Some(DType::F16),
        Torch::BF16 => Some(DType::BF16),
        Torch::I64 => Some(DType::I64),
        Torch::I32 => Some(DType::I32),
        Torch::I16 => Some(DType::I16),
        Torch::I8 => Some(DType::I8),
        Torch::U8 => Some(DType::U8),
        Torch::Bool => Some(DType::Bool(BoolStore::Native)),
        _ => None,
    }
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
