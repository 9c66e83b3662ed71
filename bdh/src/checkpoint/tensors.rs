//! Tensors to and from safetensors files, one tensor in memory at a time beside those of the checkpoint.

use crate::error::CheckpointError;
use crate::params::Tensors;
use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, View, serialize_to_file};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Our types of element and theirs. Quantized parameters do not occur in training.
const TYPES: [(DType, Dtype); 13] = [
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
    (DType::I16, Dtype::I16),
    (DType::I8, Dtype::I8),
    (DType::U64, Dtype::U64),
    (DType::U32, Dtype::U32),
    (DType::U16, Dtype::U16),
    (DType::U8, Dtype::U8),
    (DType::Bool(BoolStore::Native), Dtype::BOOL),
];

/// The longest header that is read: what the format itself allows.
const HEADER: u64 = 100_000_000;

struct Named<'a>(&'a TensorData, Dtype);

impl View for Named<'_> {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[usize] {
        self.0.shape().as_slice()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.0.as_bytes().len()
    }
}

/// Writes a file that opens in Python.
pub(super) fn write(path: &Path, tensors: &Tensors) -> Result<(), CheckpointError> {
    let views = tensors.iter().map(|(name, data)| {
        let known = TYPES.iter().find(|(ours, _)| *ours == data.dtype());
        let (_, dtype) = known.ok_or_else(|| {
            let what = format!(
                "`{name}` is of type {:?}, which has no form in it",
                data.dtype()
            );
            CheckpointError::Mismatch {
                path: path.to_owned(),
                what,
            }
        })?;
        Ok((name, Named(data, *dtype)))
    });
    let views = views.collect::<Result<Vec<_>, CheckpointError>>()?;
    // `format: pt` is what PyTorch's own files say; loaders of the Python world ask for it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let io = |source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    // safetensors renames a file that only its owner may read. This one has the mode that the umask gives.
    let ordinary = File::create(path)
        .and_then(|file| file.metadata())
        .map_err(io)?
        .permissions();
    serialize_to_file(views, Some(metadata), path).map_err(|error| {
        io(match error {
            SafeTensorError::IoError(error) => error,
            other => io::Error::other(other),
        })
    })?;
    fs::set_permissions(path, ordinary).map_err(io)
}

/// Reads a file that anyone may have written.
pub(crate) fn read(path: &Path) -> Result<Tensors, CheckpointError> {
    let file = File::open(path);
    read_from(
        file.map_err(|source| CheckpointError::Io {
            path: path.to_owned(),
            source,
        })?,
        path,
    )
}

/// Reads a file that is open; errors name its `path`.
pub(super) fn read_from(mut file: File, path: &Path) -> Result<Tensors, CheckpointError> {
    let io = |source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    let damaged = |what: String| CheckpointError::Damaged {
        path: path.to_owned(),
        what,
    };
    let size = file.metadata().map_err(io)?.len();

    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    // Before anything is reserved for it: the length is whatever somebody wrote there.
    if length > HEADER.min(size) {
        return Err(damaged(format!(
            "its header would have {length} bytes, of a file of {size}"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(io)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    if 8 + length + header.data_len() as u64 != size {
        return Err(damaged(format!(
            "it has {size} bytes, which is not what its header says"
        )));
    }
    let mut tensors = Tensors::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else {
            continue;
        };
        let known = TYPES.iter().find(|(_, theirs)| *theirs == info.dtype);
        let (dtype, _) =
            known.ok_or_else(|| damaged(format!("`{name}` is of type {:?}", info.dtype)))?;
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        file.read_exact(&mut bytes).map_err(io)?;
        if info.dtype == Dtype::BOOL && bytes.iter().any(|byte| *byte > 1) {
            return Err(damaged(format!(
                "`{name}` has booleans that are neither 0 nor 1"
            )));
        }
        tensors.insert(
            name,
            TensorData::from_bytes_vec(bytes, info.shape.clone(), *dtype),
        );
    }
    Ok(tensors)
}
