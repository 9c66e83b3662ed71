//! Averages of the weights of several checkpoints, computed on the host, one tensor at a time.

use super::save::Target;
use super::source::{check_is_file, is_torch};
use crate::checkpoint::{self, TensorFile};
use crate::error::CheckpointError;
use crate::printable::printable;
use burn::tensor::TensorData;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Averages the weights of several checkpoints of one model, and writes the mean to a `.safetensors` file.
///
/// A path is a `.safetensors` file, a checkpoint, or a run directory with all checkpoints that it has kept, one of each
/// step. The averages of `Ema` are files too: `weights_ema.safetensors` of a checkpoint. Sums are in f64, and each tensor
/// keeps its type. Tensors of integers and bools are copied from the last file. Memory holds one tensor at a time. Weights
/// near the end of a run often evaluate better as a mean than each alone.
/// Source: Izmailov et al., 2018, *Averaging Weights Leads to Wider Optima and Better Generalization* (arXiv:1803.05407).
///
/// The running statistics of a `BatchNorm` are averaged like all other floats, which is close to, but not equal to, the
/// statistics of the averaged weights.
///
/// # Errors
///
/// [`CheckpointError::NoAverage`] if there are fewer than two files, or one of them has other names, shapes or types, or
/// is given twice; [`CheckpointError::NoWeights`] for a path without weights; [`CheckpointError::NotSaved`] if `out` is
/// one of the files, or cannot be written; [`CheckpointError::Damaged`] if a file differs from its checkpoint's manifest;
/// [`CheckpointError::Io`] if the file system fails.
///
/// # Examples
///
/// ```
/// use bdh::burn::nn::LinearConfig;
///
/// # fn main() -> bdh::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let [first, second, mean] = ["a", "b", "mean"].map(|name| folder.path().join(name).with_extension("safetensors"));
/// let device = bdh::device("cpu")?;
/// for path in [&first, &second] {
///     bdh::save_weights(&LinearConfig::new(3, 2).init(&device), path)?;
/// }
/// let average = bdh::average_weights([first, second], &mean)?; // or `["runs/first"]`
/// assert_eq!((average.files.len(), average.num_tensors, average.num_elements), (2, 2, 8));
/// let model = bdh::load_weights(LinearConfig::new(3, 2).init(&device), &mean)?;
/// # Ok(())
/// # }
/// ```
pub fn average_weights(
    paths: impl IntoIterator<Item = impl AsRef<Path>>,
    out: impl AsRef<Path>,
) -> Result<Average, CheckpointError> {
    let target = Target::new(out.as_ref())?;
    let mut files = Vec::new();
    for path in paths {
        files.extend(files_of(path.as_ref())?);
    }
    check_files(&files, &target)?;
    let mut inputs = Vec::new();
    for file in &files {
        inputs.push(TensorFile::open(file)?);
    }
    let tensors = common_tensors(&inputs)?;
    target.write(|path| write_mean(path, &tensors, &mut inputs))?;
    Ok(Average::new(files, tensors))
}

/// Files and tensors that [`average_weights`] averaged. Its text is one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Average {
    /// Files in the order in which they were added; those of a run directory by step.
    pub files: Vec<PathBuf>,
    /// Number of tensors that were averaged.
    pub num_tensors: usize,
    /// Number of their elements.
    pub num_elements: usize,
    /// Names of the tensors of integers and bools, which were copied from the last file.
    pub copied: Vec<String>,
}

impl Average {
    fn new(files: Vec<PathBuf>, tensors: Vec<(String, TensorInfo)>) -> Self {
        let mut average = Self {
            files,
            num_tensors: 0,
            num_elements: 0,
            copied: Vec::new(),
        };
        for (name, info) in tensors {
            if is_float(info.dtype) {
                average.num_tensors += 1;
                average.num_elements += info.shape.iter().product::<usize>();
            } else {
                average.copied.push(name);
            }
        }
        average
    }
}

impl fmt::Display for Average {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, tensors, values) = (self.files.len(), self.num_tensors, self.num_elements);
        let plural = if tensors == 1 { "" } else { "s" };
        write!(
            f,
            "the mean of {files} files: {values} values in {tensors} tensor{plural}"
        )?;
        if !self.copied.is_empty() {
            let copied = self.copied.join(", ");
            write!(f, "; copied from the last: {}", printable(&copied))?;
        }
        Ok(())
    }
}

/// Returns the files of weights at a path: a file, a checkpoint, or a run directory.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    if path.join(checkpoint::MODEL).is_file() {
        return Ok(vec![checkpoint::checked_model(path)?]);
    }
    if path.is_dir() {
        return files_of_run(path);
    }
    check_is_file(path)?;
    if is_torch(path) {
        let why = "averages are made of safetensors files; convert it with `load_weights` and `save_weights`";
        return Err(no_average(path, why));
    }
    Ok(vec![path.to_owned()])
}

/// Returns the weights of all complete checkpoints of a run, in the order of their steps; one of each step.
fn files_of_run(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut found = checkpoint::find(dir)?;
    found.sort();
    // The best checkpoint of a run, and one of its cadence, may be the same model under two names.
    found.dedup_by_key(|(step, _)| *step);
    let mut files = Vec::new();
    for (_, checkpoint) in found {
        files.push(checkpoint::checked_model(&checkpoint)?);
    }
    if files.is_empty() {
        let why = "it has neither a `model.safetensors` nor complete checkpoints".to_owned();
        let path = dir.to_owned();
        return Err(CheckpointError::NoWeights { path, why });
    }
    Ok(files)
}

/// Checks that all files differ, that the target is none of them, and that there are two or more.
fn check_files(files: &[PathBuf], target: &Target<'_>) -> Result<(), CheckpointError> {
    for (index, file) in files.iter().enumerate() {
        if target.is_same_as(file) {
            let why = "it is one of the files to average; choose another name";
            return Err(target.refused(why.to_owned()));
        }
        if let Some(twice) = files[..index].iter().find(|other| is_same(file, other)) {
            let why = "it is given twice; name each file once";
            return Err(no_average(twice, why));
        }
    }
    check_count(files, target)
}

fn check_count(files: &[PathBuf], target: &Target<'_>) -> Result<(), CheckpointError> {
    match files {
        [] => {
            let why = "no file to average is given; name two or more";
            Err(target.refused(why.to_owned()))
        }
        [one] => {
            let why = "a mean takes two or more files; name another one, or keep more checkpoints of a run with \
                       `.keep_checkpoints(n)`";
            Err(no_average(one, why))
        }
        _ => Ok(()),
    }
}

fn is_same(file: &Path, other: &Path) -> bool {
    same_file::is_same_file(file, other).unwrap_or(false)
}

/// Returns the tensors of all files, in the order of the first, which must be equal in names, shapes and types.
fn common_tensors(inputs: &[TensorFile]) -> Result<Vec<(String, TensorInfo)>, CheckpointError> {
    let Some((first, others)) = inputs.split_first() else {
        return Ok(Vec::new());
    };
    let tensors = first.infos();
    for other in others {
        if let Some(difference) = difference(&tensors, other) {
            let first = first.path().display();
            let why = format!("{difference}, unlike `{first}`; average files of one model");
            return Err(no_average(other.path(), &why));
        }
    }
    Ok(tensors)
}

/// Describes the first difference of a file from these tensors, if there is one.
fn difference(tensors: &[(String, TensorInfo)], file: &TensorFile) -> Option<String> {
    for (name, here) in tensors {
        let Some(there) = file.info(name) else {
            return Some(format!("it has no `{name}`"));
        };
        if (here.dtype, &here.shape) != (there.dtype, &there.shape) {
            let (here, there) = (form(here), form(there));
            return Some(format!("its `{name}` is {there} instead of {here}"));
        }
    }
    for (name, _) in file.infos() {
        if !tensors.iter().any(|(known, _)| *known == name) {
            return Some(format!("it has `{name}`"));
        }
    }
    None
}

/// Describes type and shape, such as `F32 [2, 3]`.
fn form(info: &TensorInfo) -> String {
    format!("{:?} {:?}", info.dtype, info.shape)
}

fn no_average(path: &Path, why: &str) -> CheckpointError {
    CheckpointError::NoAverage {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Writes a safetensors file with the means of these tensors, in the order of the list.
fn write_mean(
    path: &Path,
    tensors: &[(String, TensorInfo)],
    inputs: &mut [TensorFile],
) -> Result<(), CheckpointError> {
    let failed = |source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = BufWriter::new(File::create_new(path).map_err(failed)?);
    write_header(&mut file, tensors).map_err(failed)?;
    for (name, info) in tensors {
        let mean = mean(name, is_float(info.dtype), inputs)?;
        file.write_all(mean.as_bytes()).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

fn write_header(file: &mut impl Write, tensors: &[(String, TensorInfo)]) -> io::Result<()> {
    // PyTorch's own files have `format: pt`, and Python loaders require it.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // The offsets are those of the first file, whose tensors are checked to follow each other without gaps.
    let header = Metadata::new(Some(format), tensors.to_vec()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' '); // as safetensors aligns the first tensor
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)
}

/// Computes the mean of a tensor over all files; of a tensor that has none, returns the last.
fn mean(
    name: &str,
    is_float: bool,
    inputs: &mut [TensorFile],
) -> Result<TensorData, CheckpointError> {
    let count = inputs.len() as f64;
    let mut sum = Vec::new();
    let mut last = None;
    for input in inputs {
        let data = input.tensor(name)?;
        if is_float {
            add(&mut sum, &data);
        }
        last = Some(data);
    }
    let last = last.expect("`check_files` requires two files or more");
    if !is_float {
        return Ok(last);
    }
    for sum in &mut sum {
        *sum /= count;
    }
    let (shape, dtype) = (last.shape().clone(), last.dtype());
    Ok(TensorData::new(sum, shape).convert_dtype(dtype))
}

/// Adds a tensor to a sum, which is empty before the first.
fn add(sum: &mut Vec<f64>, data: &TensorData) {
    sum.resize(data.num_elements(), 0.0);
    for (sum, value) in sum.iter_mut().zip(data.iter::<f64>()) {
        *sum += value;
    }
}
