//! Reading and writing of safetensors files, with a copy of at most one tensor in memory.

use crate::error::CheckpointError;
use crate::params::Tensors;
use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, View, serialize_to_file};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

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
pub(crate) fn write(path: &Path, tensors: &Tensors) -> Result<(), CheckpointError> {
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
    TensorFile::open(path)?.all()
}

/// Reads an open safetensors file. Errors contain `path`.
pub(super) fn read_from(file: File, path: &Path) -> Result<Tensors, CheckpointError> {
    TensorFile::new(file, path)?.all()
}

/// Open safetensors file whose tensors are read one at a time. The file is not trusted.
pub(crate) struct TensorFile {
    file: File,
    path: PathBuf,
    header: Metadata,
    /// Position of the first tensor's first byte.
    start: u64,
}

impl TensorFile {
    /// Opens a file, and checks its size against its header.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        match File::open(path) {
            Ok(file) => Self::new(file, path),
            Err(source) => Err(CheckpointError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn new(mut file: File, path: &Path) -> Result<Self, CheckpointError> {
        let path = path.to_owned();
        match read_header(&mut file) {
            Ok((header, start)) => Ok(Self {
                file,
                path,
                header,
                start,
            }),
            Err(error) => Err(error.in_file(&path)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name, type and shape of each tensor, in the order of the file.
    pub(crate) fn infos(&self) -> Vec<(String, TensorInfo)> {
        let mut infos = Vec::new();
        for name in self.header.offset_keys() {
            if let Some(info) = self.header.info(&name) {
                infos.push((name, info.clone()));
            }
        }
        infos
    }

    /// Returns the type and shape of a tensor, if the file has it.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    /// Reads one tensor.
    pub(crate) fn tensor(&mut self, name: &str) -> Result<TensorData, CheckpointError> {
        let Some(info) = self.header.info(name) else {
            return Err(CheckpointError::Damaged {
                path: self.path.clone(),
                what: format!("it has no tensor `{name}`"),
            });
        };
        read_tensor(&mut self.file, self.start, name, info)
            .map_err(|error| error.in_file(&self.path))
    }

    /// Reads all tensors, in the order of the file, so that it is read once from start to end.
    fn all(mut self) -> Result<Tensors, CheckpointError> {
        let mut tensors = Tensors::new();
        for name in self.header.offset_keys() {
            let data = self.tensor(&name)?;
            tensors.insert(name, data);
        }
        Ok(tensors)
    }
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

impl ReadError {
    fn in_file(self, path: &Path) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => CheckpointError::Io { path, source },
            Self::Damaged(what) => CheckpointError::Damaged { path, what },
        }
    }
}

/// Reads a tensor from a file whose first tensor begins at `start`.
fn read_tensor(
    file: &mut File,
    start: u64,
    name: &str,
    info: &TensorInfo,
) -> Result<TensorData, ReadError> {
    let Some((dtype, _)) = TYPES.iter().find(|(_, theirs)| *theirs == info.dtype) else {
        let what = format!("`{name}` has the unknown type {:?}", info.dtype);
        return Err(ReadError::Damaged(what));
    };
    let (from, to) = info.data_offsets;
    file.seek(SeekFrom::Start(start + from as u64))?;
    let mut bytes = vec![0; to - from];
    file.read_exact(&mut bytes)?;
    if info.dtype == Dtype::BOOL && bytes.iter().any(|byte| *byte > 1) {
        let what = format!("`{name}` is boolean and has bytes that are neither 0 nor 1");
        return Err(ReadError::Damaged(what));
    }
    let shape = info.shape.clone();
    Ok(TensorData::from_bytes_vec(bytes, shape, *dtype))
}

/// Reads the header, and checks the size of the file against it. Returns the position of the first tensor too.
fn read_header(file: &mut File) -> Result<(Metadata, u64), ReadError> {
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
    Ok((header, 8 + length))
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
