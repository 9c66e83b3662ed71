//! Saving of a model's weights to a file that appears when it is complete.

#[cfg(feature = "pytorch")]
mod pickle;
#[cfg(feature = "pytorch")]
mod torch;

use super::source::is_torch;
use crate::checkpoint::write_tensors;
use crate::device_read::DeviceError;
use crate::error::CheckpointError;
use crate::params::{self, ParamTable, Tensors};
use burn::module::Module;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
#[cfg(feature = "pytorch")]
use torch::write as write_torch;

/// The extension of the files that are written.
const EXTENSION: &str = "safetensors";

/// Saves the weights of a model to a `.safetensors` file or, with the feature `pytorch`, to a `.pt` file.
///
/// Names and layouts are PyTorch's, as in the `model.safetensors` of a checkpoint: a `Linear` weight is `[out, in]`.
/// Frozen parameters and buffers are saved too, such as the running mean of a `BatchNorm`.
/// [`load_weights`](crate::load_weights) restores every bit. In Python, `safetensors.torch.load_file` reads the one
/// kind of file, and `torch.load(path, weights_only=True)` the other (`.pt`, `.pth` or `.bin`) as a state dict.
///
/// The file is written under a temporary name beside `path` and renamed when it is on the disk, so an existing file is
/// replaced as a whole or not at all. Costs one device read, and one more for a model with tied
/// parameters.
///
/// # Errors
///
/// [`CheckpointError::NotSaved`] if the name has another extension, the folder does not exist, or the device fails;
/// [`CheckpointError::Io`] if the file system fails.
///
/// # Examples
///
/// ```
/// use bdh::burn::nn::LinearConfig;
///
/// # fn main() -> bdh::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("linear.safetensors");
/// let device = bdh::device("cpu")?;
/// let model = LinearConfig::new(3, 2).init(&device);
/// bdh::save_weights(&model, &path)?; // a path such as "linear.safetensors"
///
/// let other = LinearConfig::new(3, 2).init(&device);
/// let other = bdh::load_weights(other, &path)?;
/// assert_eq!(other.weight.val().into_data(), model.weight.val().into_data());
/// # Ok(())
/// # }
/// ```
pub fn save_weights<M: Module>(model: &M, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
    let target = Target::of_weights(path.as_ref())?;
    let tensors = match capture(model) {
        Ok(tensors) => tensors,
        Err(error) => return Err(target.refused(format!("the device failed: {}", error.reason))),
    };
    let is_torch = is_torch(target.path);
    target.write(|path| {
        if is_torch {
            write_torch(path, &tensors)
        } else {
            write_tensors(path, &tensors)
        }
    })
}

/// Stands for the writer of PyTorch's files, whose names [`Target`] refuses without the feature.
#[cfg(not(feature = "pytorch"))]
fn write_torch(path: &Path, tensors: &Tensors) -> Result<(), CheckpointError> {
    write_tensors(path, tensors)
}

/// Reads the tensors of a model: a tied one once, but both of a clone and its original that differ by now.
fn capture<M: Module>(model: &M) -> Result<Tensors, DeviceError> {
    let model = params::separated(model.clone())?;
    params::capture(&model, &ParamTable::with_frozen(&model))
}

/// File of weights to write, under a temporary name until it is complete.
pub(super) struct Target<'a> {
    path: &'a Path,
    scratch: PathBuf,
}

impl<'a> Target<'a> {
    /// Checks the name and the folder of a safetensors file before anything is computed for it.
    pub(super) fn new(path: &'a Path) -> Result<Self, CheckpointError> {
        let target = Self::unchecked(path);
        let fault = target.fault_of_name("the format is safetensors");
        target.checked(fault)
    }

    /// Checks the name and the folder of a safetensors file or, with the feature `pytorch`, a file of PyTorch.
    fn of_weights(path: &'a Path) -> Result<Self, CheckpointError> {
        let target = Self::unchecked(path);
        let fault = match (is_torch(path), cfg!(feature = "pytorch")) {
            (true, true) => None,
            (true, false) => {
                target.fault_of_name("files of `torch.save` are written with the feature `pytorch`")
            }
            (false, _) => target.fault_of_name("the formats are safetensors and PyTorch's (`.pt`)"),
        };
        target.checked(fault)
    }

    fn unchecked(path: &'a Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            path,
            scratch: path.with_file_name(format!(".{name}.tmp")),
        }
    }

    /// Returns the target, unless its name or its folder has a fault.
    fn checked(self, fault_of_name: Option<String>) -> Result<Self, CheckpointError> {
        match fault_of_name.or_else(|| self.fault_of_folder()) {
            Some(why) => Err(self.refused(why)),
            None => Ok(self),
        }
    }

    /// Returns the reason why the name is not that of a safetensors file, if it is not.
    fn fault_of_name(&self, why: &str) -> Option<String> {
        let extension = self.path.extension();
        if extension.is_some_and(|found| found == EXTENSION) {
            return None;
        }
        let better = self.path.with_extension(EXTENSION);
        let better = better.display();
        Some(format!("{why}; use the name `{better}`"))
    }

    /// Returns the reason why no file can be written under the path, if there is one.
    fn fault_of_folder(&self) -> Option<String> {
        if self.path.is_dir() {
            return Some("it is a directory; use the name of a file in it".to_owned());
        }
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                let folder = folder.display();
                Some(format!("there is no folder `{folder}`; create it first"))
            }
            _ => None,
        }
    }

    /// Returns whether the path is a file that exists already, perhaps under another name.
    pub(super) fn is_same_as(&self, file: &Path) -> bool {
        same_file::is_same_file(self.path, file).unwrap_or(false)
    }

    pub(super) fn refused(&self, why: String) -> CheckpointError {
        CheckpointError::NotSaved {
            path: self.path.to_owned(),
            why,
        }
    }

    /// Converts an error of the file system.
    fn failed(&self, source: io::Error) -> CheckpointError {
        CheckpointError::Io {
            path: self.path.to_owned(),
            source,
        }
    }

    /// Writes the file with `write`, which gets the temporary path, then renames it. An incomplete file is deleted.
    pub(super) fn write(
        self,
        write: impl FnOnce(&Path) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        // It may be left from a process that died, or be a link to a file elsewhere, which must not be overwritten.
        let _ = fs::remove_file(&self.scratch);
        let written = match write(&self.scratch) {
            Ok(()) => self.publish().map_err(|source| self.failed(source)),
            Err(CheckpointError::Io { source, path }) if path == self.scratch => {
                Err(self.failed(source))
            }
            Err(error) => Err(error),
        };
        if written.is_err() {
            let _ = fs::remove_file(&self.scratch);
        }
        written
    }

    fn publish(&self) -> io::Result<()> {
        // Before the rename, or a crash could leave an incomplete file under the final name.
        File::open(&self.scratch)?.sync_all()?;
        fs::rename(&self.scratch, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names in a folder.
    fn names(folder: &Path) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder") {
            let name = entry.expect("a file").file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        names
    }

    #[test]
    fn nothing_is_left_of_an_incomplete_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a.safetensors");
        fs::write(&path, "old").expect("a file");
        let target = Target::new(&path).expect("a name that fits");
        let error = target.write(|scratch| {
            fs::write(scratch, "half").expect("a file");
            Err(CheckpointError::Io {
                path: scratch.to_owned(),
                source: io::ErrorKind::StorageFull.into(),
            })
        });
        let text = error.expect_err("a full disk").to_string();
        let shown = path.display();
        assert!(text.starts_with(&format!("`{shown}` cannot")), "{text}");
        assert_eq!(names(dir.path()), ["a.safetensors"]);
        assert_eq!(fs::read(&path).expect("a file"), b"old");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_under_the_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, elsewhere) = (
            dir.path().join("a.safetensors"),
            dir.path().join("elsewhere"),
        );
        fs::write(&elsewhere, "theirs").expect("a file");
        let scratch = dir.path().join(".a.safetensors.tmp");
        std::os::unix::fs::symlink(&elsewhere, scratch).expect("a link");
        let target = Target::new(&path).expect("a name that fits");
        target
            .write(|scratch| {
                fs::write(scratch, "new").expect("a file");
                Ok(())
            })
            .expect("written");
        assert_eq!(fs::read(&elsewhere).expect("a file"), b"theirs");
        assert_eq!(fs::read(&path).expect("a file"), b"new");
    }

    #[test]
    fn names_that_cannot_be_written_are_refused_with_advice() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let shown = dir.path().display();
        let refusal = |name: &str| {
            let path = dir.path().join(name);
            let error = Target::new(&path).err().expect("no name for weights");
            let text = error.to_string();
            let start = format!("cannot write weights to `{}`: ", path.display());
            text.strip_prefix(&start).expect(&text).to_owned()
        };
        let expected = format!("the format is safetensors; use the name `{shown}/a.safetensors`");
        assert_eq!(refusal("a.pt"), expected);
        assert_eq!(refusal("a"), expected);
        let of_weights = |name: &str| {
            let path = dir.path().join(name);
            let error = Target::of_weights(&path).err();
            error.map(|error| error.to_string())
        };
        let text = of_weights("a.npz").expect("no name for weights");
        let expected = format!(
            "the formats are safetensors and PyTorch's (`.pt`); use the name `{shown}/a.safetensors`"
        );
        assert!(text.ends_with(&expected), "{text}");
        let text = of_weights("a.pt");
        assert_eq!(text.is_none(), cfg!(feature = "pytorch"), "{text:?}");
        let expected = format!("there is no folder `{shown}/none`; create it first");
        assert_eq!(refusal("none/a.safetensors"), expected);
        fs::create_dir(dir.path().join("b.safetensors")).expect("a folder");
        assert!(refusal("b.safetensors").starts_with("it is a directory"));
    }
}
