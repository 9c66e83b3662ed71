//! Files of `torch.save`: a ZIP archive of a pickle and the bytes of each tensor.

use super::pickle::{Entry, state_dict};
use crate::error::CheckpointError;
use crate::params::Tensors;
use burn::tensor::{BoolStore, DType};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Folder in the archive, which `torch.save` calls like the file or, without a name, like this.
const ROOT: &str = "archive";

/// Boundary in bytes at which the bytes of each file begin, so that they can be mapped into memory. Source: PyTorch.
const ALIGNMENT: u16 = 64;

/// Element types of burn, and the storages of PyTorch with the same bytes.
const STORAGES: [(DType, &str); 10] = [
    (DType::F64, "DoubleStorage"),
    (DType::F32, "FloatStorage"),
    (DType::F16, "HalfStorage"),
    (DType::BF16, "BFloat16Storage"),
    (DType::I64, "LongStorage"),
    (DType::I32, "IntStorage"),
    (DType::I16, "ShortStorage"),
    (DType::I8, "CharStorage"),
    (DType::U8, "ByteStorage"),
    (DType::Bool(BoolStore::Native), "BoolStorage"),
];

/// Writes tensors to a file that `torch.load` opens as a dictionary, also with `weights_only=True`.
pub(super) fn write(path: &Path, tensors: &Tensors) -> Result<(), CheckpointError> {
    let pickle = state_dict(&entries(path, tensors)?);
    write_archive(path, &pickle, tensors).map_err(|error| CheckpointError::Io {
        path: path.to_owned(),
        source: error.into(),
    })
}

/// Lists the tensors of a state dict; their keys are their places in the list.
fn entries<'a>(path: &Path, tensors: &'a Tensors) -> Result<Vec<Entry<'a>>, CheckpointError> {
    let mut entries = Vec::with_capacity(tensors.len());
    for (index, (name, data)) in tensors.iter().enumerate() {
        let found = STORAGES.iter().find(|(dtype, _)| *dtype == data.dtype());
        let Some((_, storage)) = found else {
            let dtype = data.dtype();
            return Err(CheckpointError::Mismatch {
                path: path.to_owned(),
                what: format!("`{name}` has the type {dtype:?}, which PyTorch cannot store"),
            });
        };
        entries.push(Entry {
            name,
            storage,
            key: index.to_string(),
            shape: data.shape().as_slice(),
        });
    }
    Ok(entries)
}

fn write_archive(path: &Path, pickle: &[u8], tensors: &Tensors) -> ZipResult<()> {
    let mut zip = ZipWriter::new(BufWriter::new(File::create_new(path)?));
    add(&mut zip, "data.pkl", pickle)?; // first: PyTorch takes the name of the folder from the first file
    add(&mut zip, "byteorder", b"little")?;
    for (index, data) in tensors.values().enumerate() {
        add(&mut zip, &format!("data/{index}"), data.as_bytes())?;
    }
    add(&mut zip, "version", b"3\n")?;
    Ok(zip.finish()?.flush()?)
}

fn add(zip: &mut ZipWriter<BufWriter<File>>, name: &str, bytes: &[u8]) -> ZipResult<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT)
        .large_file(bytes.len() as u64 >= zip::ZIP64_BYTES_THR);
    zip.start_file(format!("{ROOT}/{name}"), options)?;
    Ok(zip.write_all(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::TorchFile;
    use burn::tensor::TensorData;
    use std::collections::BTreeMap;
    use zip::ZipArchive;

    /// A tensor of eight bytes of this type.
    fn eight_bytes(dtype: DType) -> TensorData {
        let bytes = if dtype == DType::Bool(BoolStore::Native) {
            vec![1, 0, 0, 1, 1, 1, 0, 1]
        } else {
            vec![1, 2, 3, 64, 5, 6, 7, 192]
        };
        TensorData::from_bytes_vec(bytes, vec![2, 4 / dtype.size(), 1], dtype)
    }

    #[test]
    fn tensors_of_every_type_are_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("all.pt");
        let mut tensors = Tensors::new();
        for (dtype, storage) in STORAGES {
            // A type of eight bytes has one element.
            let data = match dtype.size() {
                8 => TensorData::from_bytes_vec((1..9).collect(), Vec::<usize>::new(), dtype),
                _ => eight_bytes(dtype),
            };
            tensors.insert(storage.to_owned(), data);
        }
        let empty = TensorData::from_bytes_vec(Vec::new(), vec![0_usize, 3], DType::F32);
        tensors.insert("empty".to_owned(), empty);
        write(&path, &tensors).expect("written");
        let file = TorchFile::open(&path).expect("a file of tensors");
        let names: Vec<_> = tensors.keys().map(String::as_str).collect();
        assert_eq!(file.shapes().into_keys().collect::<Vec<_>>(), names);
        for (name, data) in &tensors {
            let read = file.tensor(name).expect("intact").expect("there");
            assert_eq!(
                (read.dtype(), read.shape(), read.as_bytes()),
                (data.dtype(), data.shape(), data.as_bytes()),
                "{name}"
            );
        }
    }

    #[test]
    fn bytes_are_stored_as_they_are_at_multiples_of_64() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("two.pt");
        let tensors = BTreeMap::from([
            ("a".to_owned(), TensorData::from([1.0_f32])),
            ("b".to_owned(), TensorData::from([2.0_f32; 100])),
        ]);
        write(&path, &tensors).expect("written");
        let mut zip = ZipArchive::new(File::open(&path).expect("a file")).expect("an archive");
        assert_eq!(zip.len(), 5);
        for index in 0..zip.len() {
            let file = zip.by_index(index).expect("a file of the archive");
            assert_eq!(file.compression(), CompressionMethod::Stored);
            let start = file.data_start().expect("a file that was read");
            assert_eq!(start % u64::from(ALIGNMENT), 0, "file {index}");
        }
    }

    #[test]
    fn a_type_that_pytorch_does_not_have_is_refused_with_its_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tensors = BTreeMap::from([("counts".to_owned(), TensorData::from([1_u32]))]);
        let error = write(&dir.path().join("a.pt"), &tensors).expect_err("no storage");
        let text = error.to_string();
        assert!(
            text.ends_with("`counts` has the type U32, which PyTorch cannot store"),
            "{text}"
        );
    }
}
