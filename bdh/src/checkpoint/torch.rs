//! Files of `torch.save`, read without running any code of a pickle.

use crate::error::CheckpointError;
use crate::number;
use crate::printable::printable;
use burn::tensor::{BoolStore, DType, TensorData};
use pytorch_reader::{DType as Torch, PickleValue, PytorchError, PytorchReader, Tensor};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Open file of `torch.save`: tensors that are read one at a time, and the plain values beside them.
///
/// A pickle is a program, and PyTorch's files are pickles. This reader runs nothing, and refuses a file that has anything
/// but tensors, numbers, texts, lists and dictionaries.
///
/// # Examples
///
/// ```no_run
/// # use bdh::checkpoint::TorchFile;
/// # use bdh::error::CheckpointError;
/// # fn read() -> Result<(), CheckpointError> {
/// let file = TorchFile::open("optim_000040_rank0.pt")?;
/// let first_moment = file.tensor("state.0.exp_avg")?;
/// let rate = &file.values()["param_groups"][0]["lr"];
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    reader: PytorchReader,
    values: Value,
}

impl TorchFile {
    /// Opens a file, and reads everything but the tensors.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NoWeights`] if the file has anything but tensors and plain values; nothing of it is run.
    /// [`CheckpointError::Damaged`] or [`CheckpointError::Io`] if it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let reader = PytorchReader::new(path).map_err(|error| unreadable(path, error))?;
        let pickled = PytorchReader::read_pickle_data(path, None);
        let pickled = pickled.map_err(|error| unreadable(path, error))?;
        let mut plain = Plain {
            tensors: reader.tensors(),
            place: Vec::new(),
        };
        match plain.convert(pickled) {
            Ok(values) => Ok(Self {
                path: path.to_owned(),
                values: values.unwrap_or(Value::Null),
                reader,
            }),
            Err(why) => Err(CheckpointError::NoWeights {
                path: path.to_owned(),
                why,
            }),
        }
    }

    /// Returns the name and shape of each tensor, sorted by name.
    ///
    /// A name is the path to the tensor, with points between the keys of dictionaries and the places in lists.
    #[must_use]
    pub fn shapes(&self) -> BTreeMap<&str, &[usize]> {
        let mut shapes = BTreeMap::new();
        for (name, tensor) in self.reader.tensors() {
            shapes.insert(name.as_str(), tensor.shape());
        }
        shapes
    }

    /// Returns the shape of the tensor of this name; `None` if there is none.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.reader.get(name).map(Tensor::shape)
    }

    /// Reads the tensor of this name, in its own type; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Damaged`] if its bytes are incomplete, or burn has no equal type.
    pub fn tensor(&self, name: &str) -> Result<Option<TensorData>, CheckpointError> {
        match self.reader.get(name) {
            Some(tensor) => read_tensor(&self.path, tensor).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the plain values, without the tensors of dictionaries; a tensor in a list is null.
    ///
    /// Keys of dictionaries are texts: the number 7 is `"7"`. Numbers that JSON does not have are those of
    /// [`number::to_json`].
    #[must_use]
    pub fn values(&self) -> &Value {
        &self.values
    }
}

/// Reads a tensor of an open file.
pub(crate) fn read_tensor(path: &Path, tensor: &Tensor) -> Result<TensorData, CheckpointError> {
    let Some(dtype) = dtype(tensor.dtype()) else {
        let (name, found) = (&tensor.name, tensor.dtype());
        return Err(damaged(path, format!("`{name}` is of type {found:?}")));
    };
    let bytes = tensor
        .read()
        .map_err(|error| damaged(path, error.to_string()))?;
    let shape = tensor.shape().to_vec();
    Ok(TensorData::from_bytes_vec(bytes, shape, dtype))
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

/// Converts an error of the reader.
pub(crate) fn unreadable(path: &Path, error: PytorchError) -> CheckpointError {
    match error {
        PytorchError::Io(source) if source.raw_os_error().is_some() => CheckpointError::Io {
            path: path.to_owned(),
            source,
        },
        other => damaged(path, other.to_string()),
    }
}

fn damaged(path: &Path, what: String) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_owned(),
        what,
    }
}

/// Conversion of a pickle's values to JSON, which refuses everything that is not data.
struct Plain<'a> {
    tensors: &'a HashMap<String, Tensor>,
    /// Keys and indices from the root to the value.
    place: Vec<String>,
}

impl Plain<'_> {
    /// Converts a value; a tensor becomes `None`. The error is a clause.
    fn convert(&mut self, value: PickleValue) -> Result<Option<Value>, String> {
        Ok(Some(match value {
            PickleValue::None => Value::Null,
            PickleValue::Bool(flag) => flag.into(),
            PickleValue::Int(count) => count.into(),
            PickleValue::Float(number) => number::to_json(number),
            PickleValue::String(text) => text.into(),
            PickleValue::List(items) => self.list(items)?,
            PickleValue::Dict(entries) => self.dict(entries)?,
            PickleValue::Unsupported(_) if self.is_tensor() => return Ok(None),
            PickleValue::Unsupported(kind) => return Err(self.refused(&kind)),
            PickleValue::Bytes(_) => return Err(self.refused("bytes")),
        }))
    }

    fn list(&mut self, items: Vec<PickleValue>) -> Result<Value, String> {
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            self.place.push(index.to_string());
            values.push(self.convert(item)?.unwrap_or(Value::Null));
            self.place.pop();
        }
        Ok(Value::Array(values))
    }

    fn dict(&mut self, entries: HashMap<String, PickleValue>) -> Result<Value, String> {
        let mut values = Map::new();
        for (key, entry) in entries {
            self.place.push(key.clone());
            if let Some(value) = self.convert(entry)? {
                values.insert(key, value);
            }
            self.place.pop();
        }
        Ok(Value::Object(values))
    }

    fn is_tensor(&self) -> bool {
        self.tensors.contains_key(&self.place.join("."))
    }

    fn refused(&self, kind: &str) -> String {
        let place = self.place.join(".");
        // Names come from the file: control characters in them must not reach a terminal.
        let (place, kind) = (printable(&place), printable(kind));
        format!(
            "its `{place}` is of the type `{kind}`, and only tensors, numbers, texts, lists and dictionaries are read; \
             nothing of the file was run"
        )
    }
}
