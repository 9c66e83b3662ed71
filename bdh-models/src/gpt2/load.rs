//! Weights from safetensors files: Hugging Face's `gpt2`, nanoGPT's, and checkpoints of our own.

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

/// Why weights could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Gpt2LoadError {
    /// The directory or a file in it cannot be read.
    #[error(
        "cannot read `{path}` ({source}): give a directory with GPT-2's weights as *.safetensors"
    )]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// The system's word on it.
        source: io::Error,
    },
    /// There is no safetensors file.
    #[error("no *.safetensors file in `{path}`: give the directory that holds GPT-2's weights")]
    NoFile {
        /// The directory.
        path: PathBuf,
    },
    /// A file is not what its name says.
    #[error("`{path}` cannot be understood: {why}; fetch it anew")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A setting is of another computation than ours.
    #[error("`{path}` sets `{name}` to {value}: {expected}")]
    Setting {
        /// The `config.json`.
        path: PathBuf,
        /// The setting.
        name: String,
        /// Its value, as JSON.
        value: String,
        /// What would work.
        expected: String,
    },
    /// Several files may hold the weights.
    #[error(
        "`{path}` has several files of weights ({names}): call the right one model.safetensors, or add the \
         model.safetensors.index.json that lists them"
    )]
    Several {
        /// The directory.
        path: PathBuf,
        /// The files.
        names: String,
    },
    /// Two tensors are called the same.
    #[error("`{path}` has a second tensor `{name}`: keep the right one")]
    Twice {
        /// The file with the second one.
        path: PathBuf,
        /// The name of both, in full.
        name: String,
    },
    /// The head is a tensor of its own.
    #[error(
        "`lm_head.weight` in `{path}` is not the token table, and this model has one tensor for both: \
         its weights are those of another model"
    )]
    Untied {
        /// The directory.
        path: PathBuf,
    },
    /// The settings describe no model.
    #[error(transparent)]
    Config(#[from] Gpt2ConfigError),
    /// The weights are those of another model.
    #[error("the weights in `{path}` do not fit the model: {misfits}")]
    Misfit {
        /// The directory.
        path: PathBuf,
        /// Which, and how.
        misfits: Misfits,
    },
}

/// What keeps weights from fitting a model.
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
        let shape = |(name, found, expected): &(String, Vec<usize>, Vec<usize>)| {
            format!("{name} (is {found:?}, should be {expected:?})")
        };
        let shapes: Vec<_> = self.shapes.iter().map(shape).collect();
        let parts = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("of another shape", &shapes),
        ];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts
            .map(|(what, names)| format!("{} {what}: {}", names.len(), shortened(names)))
            .collect();
        f.write_str(&parts.join("; "))
    }
}

/// The first few of many names.
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
    /// Builds the model with the weights in a directory: in its `model.safetensors`, in the files that
    /// `model.safetensors.index.json` lists, or in the only `*.safetensors` file there is beside an optimizer's.
    ///
    /// Names may begin with `transformer.` or not. Linear weights are `[in, out]`, as Hugging Face's `Conv1D` has
    /// them, or `[out, in]`, as nanoGPT and our own checkpoints do; the shape of the first `attn.c_attn.weight` tells.
    /// The buffers of attention masks are passed over, and the head's copy of the token table if it is one. Anything else
    /// must fit exactly.
    ///
    /// # Errors
    ///
    /// Any [`Gpt2LoadError`]; that of weights which do not fit lists them.
    pub fn load(&self, dir: &Path, device: &Device) -> Result<Gpt2, Gpt2LoadError> {
        self.check()?;
        let mut found = BTreeMap::new();
        for path in files(dir)? {
            let bytes = read(&path)?;
            let broken = |why: String| Gpt2LoadError::Broken {
                path: path.clone(),
                why,
            };
            let file =
                SafeTensors::deserialize(&bytes).map_err(|error| broken(error.to_string()))?;
            for (name, view) in file.iter().filter(|(name, _)| !is_mask(name)) {
                let tensor = Found::of(&view).ok_or_else(|| {
                    let dtype = view.dtype();
                    broken(format!(
                        "`{name}` is of {dtype:?}, and weights are F64, F32, F16 or BF16"
                    ))
                })?;
                let name = full_name(name);
                if found.insert(name.clone(), tensor).is_some() {
                    return Err(Gpt2LoadError::Twice { path, name });
                }
            }
        }
        if let Some(head) = found.remove(HEAD)
            && found
                .get("transformer.wte.weight")
                .is_some_and(|table| !table.is_equal(&head))
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

    /// The value of each parameter in burn's layout, or what does not fit.
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
            if tensor.shape == shape {
                values.insert(
                    name,
                    if is_transposed {
                        tensor.transposed()
                    } else {
                        tensor.values
                    },
                );
            } else {
                misfits.shapes.push((name, tensor.shape, shape));
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

/// A tensor of a file.
struct Found {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Found {
    /// The values as f32; `None` if they are no floats.
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

    /// Whether both are the same to the bit.
    fn is_equal(&self, other: &Self) -> bool {
        let mut pairs = self.values.iter().zip(&other.values);
        self.shape == other.shape && pairs.all(|(a, b)| a.to_bits() == b.to_bits())
    }

    /// The values of the matrix with its axes exchanged.
    fn transposed(&self) -> Vec<f32> {
        let (rows, columns) = (self.shape[0], self.shape[1]);
        let column = |column| (0..rows).map(move |row| self.values[row * columns + column]);
        (0..columns).flat_map(column).collect()
    }
}

/// Whether a tensor is the mask that Hugging Face saves with attention.
fn is_mask(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

/// The head, which is the token table once more.
const HEAD: &str = "lm_head.weight";

fn full_name(name: &str) -> String {
    let is_full = name.starts_with("transformer.") || name == HEAD;
    if is_full {
        name.to_owned()
    } else {
        format!("transformer.{name}")
    }
}

/// The safetensors files of a directory that hold its weights.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Gpt2LoadError> {
    let (whole, index) = (
        dir.join("model.safetensors"),
        dir.join("model.safetensors.index.json"),
    );
    if whole.is_file() {
        return Ok(vec![whole]);
    }
    if index.is_file() {
        return listed(dir, &index);
    }
    let unreadable = |source| Gpt2LoadError::Unreadable {
        path: dir.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A checkpoint of ours has the optimizer's state beside the model.
        let is_weights = path
            .file_name()
            .is_some_and(|name| name != "optimizer.safetensors");
        if is_weights
            && path
                .extension()
                .is_some_and(|ending| ending == "safetensors")
        {
            files.push(path);
        }
    }
    match files.len() {
        0 => Err(Gpt2LoadError::NoFile {
            path: dir.to_owned(),
        }),
        1 => Ok(files),
        _ => {
            let name = |path: &PathBuf| path.file_name().map(|name| name.display().to_string());
            let mut names: Vec<_> = files.iter().filter_map(name).collect();
            names.sort(); // a listing has no order of its own
            Err(Gpt2LoadError::Several {
                path: dir.to_owned(),
                names: shortened(&names),
            })
        }
    }
}

/// The files that an index lists, each once.
fn listed(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, Gpt2LoadError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let broken = |why| Gpt2LoadError::Broken {
        path: index.to_owned(),
        why,
    };
    let Index { weight_map } =
        serde_json::from_slice(&read(index)?).map_err(|error| broken(error.to_string()))?;
    let names: BTreeSet<_> = weight_map.into_values().collect();
    if let Some(name) = names
        .iter()
        .find(|name| Path::new(name).file_name() != Some(OsStr::new(name)))
    {
        return Err(broken(format!(
            "it lists `{name}`, which is no file beside it"
        )));
    }
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Gpt2LoadError> {
    fs::read(path).map_err(|source| Gpt2LoadError::Unreadable {
        path: path.to_owned(),
        source,
    })
}
