//! Tensors to and from the bytes of a safetensors file.

use super::CheckpointError;
use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Our types of element and theirs. Quantized and boolean parameters do not occur in training.
const TYPES: [(DType, Dtype); 12] = [
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
];

pub(super) fn encode(tensors: &BTreeMap<String, TensorData>) -> Result<Vec<u8>, CheckpointError> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        let (_, dtype) = TYPES.iter().find(|(ours, _)| *ours == data.dtype()).ok_or_else(|| {
            unwritable(name, &format!("{:?} has no form in a file", data.dtype()))
        })?;
        let view = TensorView::new(*dtype, data.shape().to_vec(), data.as_bytes())
            .map_err(|error| unwritable(name, &error.to_string()))?;
        views.push((name.as_str(), view));
    }
    // `format: pt` is what PyTorch's own files say; loaders of the Python world ask for it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| unwritable("all tensors", &error.to_string()))
}

pub(super) fn decode(
    path: &Path,
    bytes: &[u8],
) -> Result<BTreeMap<String, TensorData>, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged { path: path.to_owned(), what };
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    file.iter()
        .map(|(name, view)| {
            let (dtype, _) = TYPES
                .iter()
                .find(|(_, theirs)| *theirs == view.dtype())
                .ok_or_else(|| damaged(format!("`{name}` is of type {:?}", view.dtype())))?;
            let data =
                TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), *dtype);
            Ok((name.to_owned(), data))
        })
        .collect()
}

fn unwritable(name: &str, what: &str) -> CheckpointError {
    CheckpointError::Mismatch { path: name.into(), what: what.to_owned() }
}
