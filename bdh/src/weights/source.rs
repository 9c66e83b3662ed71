//! Reading of weights from files of this and other programs.

#[cfg(feature = "pytorch")]
mod torch;

use crate::checkpoint::{self, read_tensors};
use crate::error::CheckpointError;
use crate::params::Tensors;
use std::io::ErrorKind;
use std::path::Path;
#[cfg(feature = "pytorch")]
use torch::tensors as torch_tensors;

/// Reads all tensors of a file: safetensors, or a file of `torch.save` by its extension.
pub(super) fn read(path: &Path) -> Result<Tensors, CheckpointError> {
    check_is_file(path)?;
    if is_torch(path) {
        torch_tensors(path)
    } else {
        read_tensors(path)
    }
}

/// Returns whether a path has an extension of `torch.save`.
pub(super) fn is_torch(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("pt" | "pth" | "bin"))
}

/// Checks that the path is a regular file: a directory cannot be read, and a pipe might never end.
pub(super) fn check_is_file(path: &Path) -> Result<(), CheckpointError> {
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

/// Removes the prefixes of PyTorch's wrappers from a name.
pub(super) fn plain(name: &str) -> &str {
    let name = name.strip_prefix("module.").unwrap_or(name);
    name.strip_prefix("_orig_mod.").unwrap_or(name)
}

#[cfg(not(feature = "pytorch"))]
fn torch_tensors(path: &Path) -> Result<Tensors, CheckpointError> {
    let what =
        "files of `torch.save` are read with the feature `pytorch`; or save them with safetensors";
    Err(CheckpointError::Mismatch {
        path: path.to_owned(),
        what: what.to_owned(),
    })
}
