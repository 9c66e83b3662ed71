//! Weights in files of `torch.save`, read without running any code of a pickle.

use crate::checkpoint::{read_torch_tensor, unreadable_torch};
use crate::error::CheckpointError;
use crate::params::Tensors;
use pytorch_reader::PytorchReader;
use std::path::Path;

/// Reads all tensors of a file.
pub(super) fn tensors(path: &Path) -> Result<Tensors, CheckpointError> {
    let mut tensors = Tensors::new();
    for (name, tensor) in open(path)?.into_tensors() {
        tensors.insert(name, read_torch_tensor(path, &tensor)?);
    }
    Ok(tensors)
}

/// Opens a file of `torch.save`.
fn open(path: &Path) -> Result<PytorchReader, CheckpointError> {
    if let Some(reader) = nested(path) {
        return Ok(reader);
    }
    PytorchReader::new(path).map_err(|error| unreadable_torch(path, error))
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
