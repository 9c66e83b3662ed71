//! Files of `torch.save`, read without running any code of a pickle.

use crate::error::CheckpointError;
use crate::params::Tensors;
use burn::tensor::{BoolStore, DType, TensorData};
use pytorch_reader::{DType as Torch, PytorchReader};
use std::path::Path;

/// Reads all tensors of a file.
pub(super) fn tensors(path: &Path) -> Result<Tensors, CheckpointError> {
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

fn damaged(path: &Path, what: String) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_owned(),
        what,
    }
}

/// Opens a file of `torch.save`.
fn open_torch(path: &Path) -> Result<PytorchReader, CheckpointError> {
    if let Some(reader) = nested(path) {
        return Ok(reader);
    }
    PytorchReader::new(path).map_err(|error| damaged(path, error.to_string()))
}

/// Opens the weights in a dictionary: training scripts often save one in which the weights are an entry.
fn nested(path: &Path) -> Option<PytorchReader> {
    for key in ["model", "state_dict"] {
        if let Ok(reader) = PytorchReader::with_top_level_key(path, key)
            && !reader.is_empty()
        {
            return Some(reader);
        }
    }
    None
}

/// Converts a type of PyTorch; `None` if burn has no equal one.
fn dtype(dtype: Torch) -> Option<DType> {
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
