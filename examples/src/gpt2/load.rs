//! Weights from safetensors files: Hugging Face's `gpt2`, nanoGPT's, and checkpoints of our own.

use super::config::{Gelu, Gpt2Config, Gpt2ConfigError};
use super::model::Gpt2;
use crate::init::Weights;
use bdh::burn::tensor::{DType, Device, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why weights could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Gpt2LoadError {
    /// The directory or a file in it cannot be read.
    #[error("cannot read `{path}`: give a directory with GPT-2's weights as *.safetensors")]
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
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}

/// The part of Hugging Face's `config.json` that decides the model.
#[derive(Deserialize)]
struct HfConfig {
    n_positions: usize,
    vocab_size: usize,
    n_layer: usize,
    n_head: usize,
    n_embd: usize,
    #[serde(default)]
    activation_function: Option<String>,
}

impl Gpt2Config {
    /// Reads the settings of a Hugging Face directory, from its `config.json`.
    ///
    /// # Errors
    ///
    /// [`Gpt2LoadError::Unreadable`], [`Broken`](Gpt2LoadError::Broken), or [`Config`](Gpt2LoadError::Config).
    pub fn from_dir(dir: &Path) -> Result<Self, Gpt2LoadError> {
        let path = dir.join("config.json");
        let text = read(&path)?;
        let hf: HfConfig = serde_json::from_slice(&text)
            .map_err(|error| Gpt2LoadError::Broken { path, why: error.to_string() })?;
        let HfConfig { n_positions, vocab_size, n_layer, n_head, n_embd, activation_function } = hf;
        let gelu = match activation_function.as_deref() {
            Some("gelu") => Gelu::Erf,
            _ => Gelu::Tanh, // `gelu_new` is GPT-2's
        };
        let config = Self {
            block_size: n_positions,
            vocab_size,
            gelu,
            ..Self::sized(n_layer, n_head, n_embd)
        };
        config.check()?;
        Ok(config)
    }

    /// Builds the model with the weights in a directory's `*.safetensors` files.
    ///
    /// Names may begin with `transformer.` or not. Linear weights are `[in, out]`, as Hugging Face's `Conv1D` has
    /// them, or `[out, in]`, as nanoGPT and our own checkpoints do; the shape of the first `attn.c_attn.weight` tells.
    /// The head's copy of the token table and the buffers of attention masks are passed over. Anything else must fit
    /// exactly.
    ///
    /// # Errors
    ///
    /// Any [`Gpt2LoadError`]; that of weights which do not fit lists them.
    pub fn load(&self, dir: &Path, device: &Device) -> Result<Gpt2, Gpt2LoadError> {
        self.check()?;
        let mut found = BTreeMap::new();
        for path in files(dir)? {
            let bytes = read(&path)?;
            let broken = |why: String| Gpt2LoadError::Broken { path: path.clone(), why };
            let file =
                SafeTensors::deserialize(&bytes).map_err(|error| broken(error.to_string()))?;
            for (name, view) in file.iter().filter(|(name, _)| !is_redundant(name)) {
                let tensor = Found::of(&view).ok_or_else(|| {
                    broken(format!("`{name}` is {:?}, not a float", view.dtype()))
                })?;
                found.insert(full_name(name), tensor);
            }
        }
        let values = self
            .fit(found)
            .map_err(|misfits| Gpt2LoadError::Misfit { path: dir.to_owned(), misfits })?;
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
                values
                    .insert(name, if is_transposed { tensor.transposed() } else { tensor.values });
            } else {
                misfits.shapes.push((name, tensor.shape, shape));
            }
        }
        misfits.unexpected = found.into_keys().collect();
        if misfits.is_empty() { Ok(values) } else { Err(misfits) }
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
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => return None,
        };
        let shape = view.shape().to_vec();
        let data = TensorData::from_bytes_vec(view.data().to_vec(), shape.clone(), dtype);
        Some(Self { shape, values: data.iter::<f32>().collect() })
    }

    /// The values of the matrix with its axes exchanged.
    fn transposed(&self) -> Vec<f32> {
        let (rows, columns) = (self.shape[0], self.shape[1]);
        let column = |column| (0..rows).map(move |row| self.values[row * columns + column]);
        (0..columns).flat_map(column).collect()
    }
}

/// Whether a tensor holds nothing of its own: the tied head, or the mask that Hugging Face saves with attention.
fn is_redundant(name: &str) -> bool {
    let is_mask = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    name == "lm_head.weight" || is_mask
}

fn full_name(name: &str) -> String {
    if name.starts_with("transformer.") { name.to_owned() } else { format!("transformer.{name}") }
}

/// The safetensors files of a directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Gpt2LoadError> {
    let unreadable = |source| Gpt2LoadError::Unreadable { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A checkpoint of ours has the optimizer's state beside the model.
        let is_weights = path.file_name().is_some_and(|name| name != "optimizer.safetensors");
        if is_weights && path.extension().is_some_and(|ending| ending == "safetensors") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Gpt2LoadError::NoFile { path: dir.to_owned() });
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, Gpt2LoadError> {
    fs::read(path).map_err(|source| Gpt2LoadError::Unreadable { path: path.to_owned(), source })
}
