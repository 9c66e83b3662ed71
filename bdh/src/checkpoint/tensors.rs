//! Reading and writing of safetensors files, with a copy of at most one tensor in memory.

use crate::error::CheckpointError;
use crate::params::Tensors;
use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, View, serialize_to_file};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Element types of burn and of safetensors. Quantized parameters do not occur in training.
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

/// Largest header that is read, in bytes: the limit of the safetensors format.
const HEADER: u64 = 100_000_000;

struct Named<'a>(&'a TensorData, Dtype);

impl<'a> Named<'a> {
    /// Returns the view of a tensor, if safetensors has its element type.
    fn new(data: &'a TensorData) -> Option<Self> {
        let mut types = TYPES.iter();
        let (_, dtype) = types.find(|(ours, _)| *ours == data.dtype())?;
        Some(Self(data, *dtype))
    }
}

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

/// Writes tensors to a safetensors file that PyTorch can load.
pub(super) fn write(path: &Path, tensors: &Tensors) -> Result<(), CheckpointError> {
    let mut views = Vec::new();
    for (name, data) in tensors {
        let Some(view) = Named::new(data) else {
            return Err(CheckpointError::Mismatch {
                path: path.to_owned(),
                what: format!(
                    "`{name}` has the type {:?}, which safetensors cannot store",
                    data.dtype()
                ),
            });
        };
        views.push((name, view));
    }
    // PyTorch's own files have `format: pt`, and Python loaders require it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_file(path, views, metadata).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })
}

fn write_file(
    path: &Path,
    views: Vec<(&String, Named<'_>)>,
    metadata: HashMap<String, String>,
) -> io::Result<()> {
    // safetensors creates a file that only its owner may read. Take the mode that the umask gives from a plain file.
    let ordinary = File::create(path)?.metadata()?.permissions();
    match serialize_to_file(views, Some(metadata), path) {
        Ok(()) => fs::set_permissions(path, ordinary),
        Err(SafeTensorError::IoError(error)) => Err(error),
        Err(other) => Err(io::Error::other(other)),
    }
}

/// Reads a safetensors file. The file is not trusted: any program may have written it.
pub(crate) fn read(path: &Path) -> Result<Tensors, CheckpointError> {
    match File::open(path) {
        Ok(file) => read_from(file, path),
        Err(source) => Err(CheckpointError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads an open safetensors file. Errors contain `path`.
pub(super) fn read_from(mut file: File, path: &Path) -> Result<Tensors, CheckpointError> {
    read_tensors(&mut file).map_err(|error| {
        let path = path.to_owned();
        match error {
            ReadError::Io(source) => CheckpointError::Io { path, source },
            ReadError::Damaged(what) => CheckpointError::Damaged { path, what },
        }
    })
}

/// Error of reading a file, without its path.
enum ReadError {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_tensors(file: &mut File) -> Result<Tensors, ReadError> {
    let header = read_header(file)?;
    let mut tensors = Tensors::new();
    // In the order of the file, so that it is read once from start to end.
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else {
            continue;
        };
        let data = read_tensor(file, &name, info)?;
        tensors.insert(name, data);
    }
    Ok(tensors)
}

fn read_tensor(file: &mut File, name: &str, info: &TensorInfo) -> Result<TensorData, ReadError> {
    let Some((dtype, _)) = TYPES.iter().find(|(_, theirs)| *theirs == info.dtype) else {
        let what = format!("`{name}` has the unknown type {:?}", info.dtype);
        return Err(ReadError::Damaged(what));
    };
    let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
    file.read_exact(&mut bytes)?;
    if info.dtype == Dtype::BOOL && bytes.iter().any(|byte| *byte > 1) {
        let what = format!("`{name}` is boolean and has bytes that are neither 0 nor 1");
        return Err(ReadError::Damaged(what));
    }
    let shape = info.shape.clone();
    Ok(TensorData::from_bytes_vec(bytes, shape, *dtype))
}

/// Reads the header, and checks the size of the file against it.
fn read_header(file: &mut File) -> Result<Metadata, ReadError> {
    let size = file.metadata()?.len();
    let length = read_header_length(file, size)?;
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes)?;
    let header: Metadata = match serde_json::from_slice(&bytes) {
        Ok(header) => header,
        Err(error) => return Err(ReadError::Damaged(error.to_string())),
    };
    if 8 + length + header.data_len() as u64 != size {
        let what = format!("it has {size} bytes, which does not match its header");
        return Err(ReadError::Damaged(what));
    }
    Ok(header)
}

/// Reads the length of the header, which precedes it. It is checked before memory is allocated for the header: it may be
/// any number.
fn read_header_length(file: &mut File, size: u64) -> Result<u64, ReadError> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    let length = u64::from_le_bytes(bytes);
    if length > HEADER.min(size) {
        let what = format!("its header length is {length} bytes, but the file has {size} bytes");
        return Err(ReadError::Damaged(what));
    }
    Ok(length)
}
