//! Weights from safetensors files: Hugging Face's `gpt2`, nanoGPT's, and our own checkpoints.

use super::config::{Gpt2Config, Gpt2ConfigError};
use super::model::Gpt2;
use crate::init::Weights;
use bdh::burn::tensor::{DType, Device, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Error of loading weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Gpt2LoadError {
    /// The directory or a file in it cannot be read.
    #[error(
        "cannot read `{path}` ({source}): give a directory with GPT-2's weights as *.safetensors"
    )]
    Unreadable {
        /// The directory or file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// There is no safetensors file.
    #[error("no *.safetensors file in `{path}`: give the directory with GPT-2's weights")]
    NoFile {
        /// The directory.
        path: PathBuf,
    },
    /// A file is damaged, or not in the expected format.
    #[error("`{path}` is damaged: {why}; download it again")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Description of the damage, as a clause.
        why: String,
    },
    /// A setting describes a model that differs from this one.
    #[error("`{path}` sets `{name}` to {value}: {expected}")]
    Setting {
        /// The `config.json`.
        path: PathBuf,
        /// Name of the setting.
        name: String,
        /// Value of the setting, as JSON.
        value: String,
        /// Accepted values, as a clause.
        expected: String,
    },
    /// Several files may hold the weights.
    #[error(
        "`{path}` has several files of weights ({names}): rename the right one to model.safetensors, or add the \
         model.safetensors.index.json that lists them"
    )]
    Several {
        /// The directory.
        path: PathBuf,
        /// The files.
        names: String,
    },
    /// Two tensors have the same name.
    #[error("`{path}` has a second tensor `{name}`: remove one of them")]
    Twice {
        /// The file with the second tensor.
        path: PathBuf,
        /// Full name of both.
        name: String,
    },
    /// The head is another tensor than the token table.
    #[error(
        "`lm_head.weight` in `{path}` differs from the token table: GPT-2 uses one tensor for both, so these are the \
         weights of another model"
    )]
    Untied {
        /// The directory.
        path: PathBuf,
    },
    /// The settings describe no model.
    #[error(transparent)]
    Config(#[from] Gpt2ConfigError),
    /// The weights belong to another model.
    #[error("the weights in `{path}` do not fit the model: {misfits}")]
    Misfit {
        /// The directory.
        path: PathBuf,
        /// All differences.
        misfits: Misfits,
    },
}

/// Differences between the weights in files and the parameters of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misfits {
    /// Parameters without a value.
    pub missing: Vec<String>,
    /// Values without a parameter.
    pub unexpected: Vec<String>,
    /// Name, shape in the file and shape in the model, in the file's layout.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Misfits {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.shapes.is_empty()
    }
}

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shapes = Vec::new();
        for (name, found, expected) in &self.shapes {
            shapes.push(format!("{name} (is {found:?}, should be {expected:?})"));
        }
        let mut parts = Vec::new();
        for (problem, names) in [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("of another shape", &shapes),
        ] {
            if !names.is_empty() {
                parts.push(format!("{} {problem}: {}", names.len(), shortened(names)));
            }
        }
        f.write_str(&parts.join("; "))
    }
}

/// Joins the first few of many names.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        format!("{shown}, …")
    } else {
        shown
    }
}

impl Gpt2Config {
    /// Builds the model with the weights in a directory.
    ///
    /// The weights are in `model.safetensors`, in the files that `model.safetensors.index.json` lists, or in the only
    /// `*.safetensors` file besides `optimizer.safetensors`.
    ///
    /// Names may begin with `transformer.` or not. Linear weights are `[in, out]` as in Hugging Face's `Conv1D`, or
    /// `[out, in]` as in nanoGPT and our own checkpoints; the shape of the first `attn.c_attn.weight` decides. Buffers
    /// of attention masks are skipped, and so is a head that equals the token table. All other tensors must fit
    /// exactly.
    ///
    /// # Errors
    ///
    /// Any [`Gpt2LoadError`]. [`Gpt2LoadError::Misfit`] lists the tensors that do not fit.
    pub fn load(&self, dir: &Path, device: &Device) -> Result<Gpt2, Gpt2LoadError> {
        self.check()?;
        let mut found = BTreeMap::new();
        for path in files(dir)? {
            read_tensors(path, &mut found)?;
        }
        if let Some(head) = found.remove(HEAD)
            && let Some(table) = found.get("transformer.wte.weight")
            && !table.is_equal(&head)
        {
            return Err(Gpt2LoadError::Untied {
                path: dir.to_owned(),
            });
        }
        let values = self.fit(found).map_err(|misfits| Gpt2LoadError::Misfit {
            path: dir.to_owned(),
            misfits,
        })?;
        Ok(Gpt2::new(self, &Weights::given(&values, device), device))
    }

    /// Returns the values of each parameter in burn's layout, or all differences.
    fn fit(
        &self,
        mut found: BTreeMap<String, Found>,
    ) -> Result<HashMap<String, Vec<f32>>, Misfits> {
        let (mut values, mut misfits) = (HashMap::new(), Misfits::default());
        let is_conv1d = found
            .get("transformer.h.0.attn.c_attn.weight")
            .is_some_and(|tensor| tensor.shape.first() == Some(&self.n_embd));
        for (name, mut shape) in self.parameters() {
            let Some(tensor) = found.remove(&name) else {
                misfits.missing.push(name);
                continue;
            };
            let is_linear = shape.len() == 2 && name.starts_with("transformer.h.");
            let is_transposed = is_linear && !is_conv1d;
            if is_transposed {
                shape.reverse();
            }
            if tensor.shape != shape {
                misfits.shapes.push((name, tensor.shape, shape));
            } else if is_transposed {
                values.insert(name, tensor.transposed());
            } else {
                values.insert(name, tensor.values);
            }
        }
        misfits.unexpected = found.into_keys().collect();
        if misfits.is_empty() {
            Ok(values)
        } else {
            Err(misfits)
        }
    }
}

/// Adds the tensors of a file, except attention masks, under their full names.
fn read_tensors(path: PathBuf, found: &mut BTreeMap<String, Found>) -> Result<(), Gpt2LoadError> {
    let bytes = read(&path)?;
    let file = match SafeTensors::deserialize(&bytes) {
        Ok(file) => file,
        Err(error) => {
            let why = error.to_string();
            return Err(Gpt2LoadError::Broken { path, why });
        }
    };
    for (name, view) in file.iter() {
        if is_mask(name) {
            continue;
        }
        let Some(tensor) = Found::of(&view) else {
            let dtype = view.dtype();
            let why = format!("`{name}` is of {dtype:?}, but weights are F64, F32, F16 or BF16");
            return Err(Gpt2LoadError::Broken { path, why });
        };
        let name = full_name(name);
        if found.insert(name.clone(), tensor).is_some() {
            return Err(Gpt2LoadError::Twice { path, name });
        }
    }
    Ok(())
}

/// Tensor of a file, converted to f32.
struct Found {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Found {
    /// Converts a tensor to f32; returns `None` if it does not contain floats.
    fn of(view: &TensorView<'_>) -> Option<Self> {
        let dtype = match view.dtype() {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => return None,
        };
        let shape = view.shape().to_vec();
        let data = TensorData::from_bytes_vec(view.data().to_vec(), shape.clone(), dtype);
        Some(Self {
            shape,
            values: data.iter::<f32>().collect(),
        })
    }

    /// Returns whether both have the same shape and bits.
    fn is_equal(&self, other: &Self) -> bool {
        let mut pairs = self.values.iter().zip(&other.values);
        self.shape == other.shape && pairs.all(|(a, b)| a.to_bits() == b.to_bits())
    }

    /// Returns the values of the transposed matrix.
    fn transposed(&self) -> Vec<f32> {
        let (rows, columns) = (self.shape[0], self.shape[1]);
        let mut values = Vec::with_capacity(self.values.len());
        for column in 0..columns {
            for row in 0..rows {
                values.push(self.values[row * columns + column]);
            }
        }
        values
    }
}

/// Returns whether a tensor is an attention mask, which Hugging Face saves with the weights.
fn is_mask(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

/// Name of the head, which is the token table.
const HEAD: &str = "lm_head.weight";

/// Returns the name with the prefix `transformer.`, except for the head.
fn full_name(name: &str) -> String {
    let is_full = name.starts_with("transformer.") || name == HEAD;
    if is_full {
        name.to_owned()
    } else {
        format!("transformer.{name}")
    }
}

/// Returns the files with the weights in a directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Gpt2LoadError> {
    let whole = dir.join("model.safetensors");
    if whole.is_file() {
        return Ok(vec![whole]);
    }
    let index = dir.join("model.safetensors.index.json");
    if index.is_file() {
        return listed(dir, &index);
    }
    let path = dir.to_owned();
    let files = weight_files(dir).map_err(|source| Gpt2LoadError::Unreadable {
        path: path.clone(),
        source,
    })?;
    match files.len() {
        0 => Err(Gpt2LoadError::NoFile { path }),
        1 => Ok(files),
        _ => Err(Gpt2LoadError::Several {
            path,
            names: file_names(&files),
        }),
    }
}

/// Joins the names of the first few files, in alphabetical order because `read_dir` has none.
fn file_names(files: &[PathBuf]) -> String {
    let mut names = Vec::with_capacity(files.len());
    for file in files {
        let name = file.file_name().unwrap_or_default();
        names.push(name.display().to_string());
    }
    names.sort();
    shortened(&names)
}

/// Returns all safetensors files in a directory, except the optimizer's state in our own checkpoints.
fn weight_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_optimizer = path.file_name() == Some(OsStr::new("optimizer.safetensors"));
        if path.extension() == Some(OsStr::new("safetensors")) && !is_optimizer {
            files.push(path);
        }
    }
    Ok(files)
}

/// Returns the files that an index lists, each once.
fn listed(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, Gpt2LoadError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = match serde_json::from_slice(&read(index)?) {
        Ok(index) => index,
        Err(error) => return Err(damaged(index, error.to_string())),
    };
    let names: BTreeSet<_> = weight_map.into_values().collect();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        // A path could lead out of the directory.
        if Path::new(&name).file_name() != Some(OsStr::new(&name)) {
            let why = "which is not the name of a file in the same directory";
            return Err(damaged(index, format!("it lists `{name}`, {why}")));
        }
        files.push(dir.join(name));
    }
    Ok(files)
}

/// Returns the error of a damaged file.
pub(super) fn damaged(path: &Path, why: String) -> Gpt2LoadError {
    Gpt2LoadError::Broken {
        path: path.to_owned(),
        why,
    }
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Gpt2LoadError> {
    fs::read(path).map_err(|source| Gpt2LoadError::Unreadable {
        path: path.to_owned(),
        source,
    })
}
