//! Checkpoints of nanochat, read and written: `model_NNNNNN.pt`, `meta_NNNNNN.json`, `optim_NNNNNN_rank0.pt`.

mod error;
mod find;
mod groups;
mod meta;
mod optimizer;

pub use error::ImportError;
pub use meta::{LoopState, Meta, ModelConfig};

use super::config::{GptConfig, NanochatVersion};
use super::gpt::Gpt;
use bdh::Clock;
use bdh::burn::tensor::Device;
use bdh::checkpoint::{Start, TorchFile};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Checkpoint of nanochat: one step in a directory such as `base_checkpoints/d12`.
///
/// # Examples
///
/// ```no_run
/// use bdh::{NextToken, Trainer};
/// use bdh_models::nanochat::NanochatCheckpoint;
/// # use bdh::lm::RandomCrops;
/// # fn main() -> bdh::Result<()> {
/// # let data = RandomCrops::new(vec![0_i32; 9], 1, 8, 1)?;
/// # let dir = std::path::Path::new("base_checkpoints/d12");
///
/// let checkpoint = NanochatCheckpoint::find(dir, None)?;
/// let model = checkpoint.load(&checkpoint.config()?, &bdh::device("cuda")?)?;
/// // Continues after the checkpoint's step, with its optimizer state and data position.
/// let run = Trainer::builder(NextToken::new(), model)
///     .train_data(data)
///     .start_from(checkpoint.start()?);
/// # let _ = run;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NanochatCheckpoint {
    /// The directory.
    pub dir: PathBuf,
    /// Completed updates, which are part of the names of the files.
    pub step: u64,
    /// Description of the checkpoint.
    pub meta: Meta,
}

impl NanochatCheckpoint {
    /// Finds the checkpoint of a step in a directory, or the newest one, and reads its description.
    ///
    /// # Errors
    ///
    /// [`ImportError::NotFound`] with the steps that there are, [`ImportError::Meta`] if the description cannot be
    /// read, [`ImportError::Io`] if the directory cannot.
    pub fn find(dir: &Path, step: Option<u64>) -> Result<Self, ImportError> {
        let steps = find::steps(dir)?;
        let step = match step {
            Some(wanted) => steps.contains(&wanted).then_some(wanted),
            None => steps.last().copied(),
        }
        .ok_or_else(|| find::not_found(dir, &steps, step))?;
        let meta = Meta::read(&file(dir, "meta", step, "json"), step)?;
        Ok(Self {
            dir: dir.to_owned(),
            step,
            meta,
        })
    }

    /// Returns the steps of a directory's checkpoints, in ascending order.
    ///
    /// # Errors
    ///
    /// [`ImportError::NotFound`] if there is no such directory, [`ImportError::Io`] if it cannot be read.
    pub fn steps(dir: &Path) -> Result<Vec<u64>, ImportError> {
        find::steps(dir)
    }

    /// Returns the settings of the model, with the default precision.
    ///
    /// # Errors
    ///
    /// [`ImportError::Config`] if they describe no model.
    pub fn config(&self) -> Result<GptConfig, ImportError> {
        let config = GptConfig::from(&self.meta.model_config);
        match config.check() {
            Ok(()) => Ok(config),
            Err(source) => Err(ImportError::Config {
                path: self.file("meta", "json"),
                source,
            }),
        }
    }

    /// Loads the weights, in f32. `config` is [that of the checkpoint](Self::config), perhaps in another precision.
    ///
    /// Nothing of the file but tensors is read, and no code of its pickle is run.
    ///
    /// # Errors
    ///
    /// [`ImportError::Size`] if the weights are those of another size of model, [`ImportError::Weights`] if they
    /// cannot be read or a tensor is missing or unknown, [`ImportError::Config`] if `config` describes no model.
    pub fn load(&self, config: &GptConfig, device: &Device) -> Result<Gpt, ImportError> {
        let path = self.file("model", "pt");
        check_size(&TorchFile::open(&path)?, config).map_err(|why| ImportError::Size {
            path: path.clone(),
            why,
        })?;
        let model = config.init(0, device);
        let model = model.map_err(|source| ImportError::Config {
            path: self.file("meta", "json"),
            source,
        })?;
        Ok(bdh::load_weights(model, path)?)
    }

    /// Reads the optimizer state, clock and data position, for
    /// [`TrainerBuilder::start_from`](bdh::TrainerBuilder::start_from).
    ///
    /// The optimizers of the run are those of [`groups`](super::groups). The data position is that of nanochat's own
    /// resume: the row group after the last one that was read.
    ///
    /// # Errors
    ///
    /// [`ImportError::Optimizer`] if the state is missing, divided among processes, or that of another model;
    /// [`ImportError::Meta`] if the description has no batch size; [`ImportError::Weights`] if the file cannot be
    /// read, or has anything but data.
    pub fn start(&self) -> Result<Start, ImportError> {
        let config = self.config()?;
        let path = optimizer::file_of(&self.dir, self.step)?;
        if config.version == NanochatVersion::Next {
            let why = "only that of nanochat's master is read; load the weights alone";
            let why = why.to_owned();
            return Err(ImportError::Optimizer { path, why });
        }
        let clock = self.clock()?;
        let state = optimizer::read(&path, &config, self.step)?;
        Ok(Start {
            clock,
            optimizer: state.tensors,
            counters: state.counters,
            data: self.meta.dataloader_state_dict.clone(),
        })
    }

    /// Returns the work of the steps so far, from the sizes of batches in the description.
    fn clock(&self) -> Result<Clock, ImportError> {
        let meta = &self.meta;
        let per_micro_batch = meta.device_batch_size.saturating_mul(meta.max_seq_len);
        if per_micro_batch == 0 || meta.total_batch_size < per_micro_batch {
            let source = "it has no `device_batch_size`, `max_seq_len` or `total_batch_size`";
            return Err(ImportError::Meta {
                path: self.file("meta", "json"),
                source: source.into(),
            });
        }
        let per_step = Clock {
            micro_batches: (meta.total_batch_size / per_micro_batch) as u64,
            samples: (meta.total_batch_size / meta.max_seq_len) as u64,
            tokens: meta.total_batch_size as u64,
            ..Clock::default()
        };
        let seconds = meta.loop_state.total_training_time.unwrap_or(0.0);
        Ok(Clock {
            elapsed: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
            ..per_step.after(self.step)
        })
    }

    fn file(&self, kind: &str, ending: &str) -> PathBuf {
        file(&self.dir, kind, self.step, ending)
    }
}

/// Writes the weights and the description of a checkpoint, which nanochat loads. Returns the file of the weights.
///
/// The directory is created if necessary. The files are those of `step`, and each appears when it is complete, the
/// weights last. Optimizer state is not written: nanochat evaluates such a checkpoint and samples from it, and cannot
/// resume its training. [`Meta::new`] describes a model.
///
/// # Errors
///
/// [`ImportError::Weights`] if the weights cannot be written, [`ImportError::Io`] if the directory or the description
/// cannot.
///
/// # Examples
///
/// ```
/// use bdh::burn::tensor::Device;
/// use bdh_models::nanochat::{GptConfig, Meta, NanochatCheckpoint, export_nanochat};
///
/// # let folder = tempfile::tempdir()?;
/// # let dir = &folder.path().join("d1");
/// let config = GptConfig { vocab_size: 64, n_layer: 1, n_head: 2, n_kv_head: 2, n_embd: 32, ..GptConfig::default() };
/// let model = config.init(7, &Device::flex())?;
/// export_nanochat(&model, 500, &Meta::new(500, &config), dir)?; // such as `base_checkpoints/d1`
///
/// let checkpoint = NanochatCheckpoint::find(dir, None)?;
/// assert_eq!((checkpoint.step, checkpoint.config()?), (500, config));
/// # Ok::<(), bdh::BoxError>(())
/// ```
pub fn export_nanochat(
    model: &Gpt,
    step: u64,
    meta: &Meta,
    dir: &Path,
) -> Result<PathBuf, ImportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let meta = Meta {
        step,
        ..meta.clone()
    };
    let description = file(dir, "meta", step, "json");
    write_meta(&meta, &description).map_err(failed(&description))?;
    let weights = file(dir, "model", step, "pt");
    bdh::save_weights(model, &weights)?;
    Ok(weights)
}

/// Writes a description under a temporary name, and renames it when it is on the disk.
fn write_meta(meta: &Meta, path: &Path) -> io::Result<()> {
    let scratch = path.with_extension("json.tmp");
    fs::write(&scratch, serde_json::to_vec_pretty(meta)?)?;
    File::open(&scratch)?.sync_all()?;
    fs::rename(scratch, path)
}

/// Returns the path of a file such as `model_000040.pt`.
fn file(dir: &Path, kind: &str, step: u64, ending: &str) -> PathBuf {
    dir.join(format!("{kind}_{step:06}.{ending}"))
}

/// Checks that a file of weights has the model's layers, width and vocabulary, before a model of that size is made. The
/// error is a clause.
fn check_size(weights: &TorchFile, config: &GptConfig) -> Result<(), String> {
    let (mut layers, mut table) = (0, None);
    for (name, shape) in weights.shapes() {
        let name = name.strip_prefix("_orig_mod.").unwrap_or(name);
        layers +=
            usize::from(name.starts_with("transformer.h.") && name.ends_with(".mlp.c_fc.weight"));
        if name == "transformer.wte.weight" {
            table = Some(shape);
        }
    }
    let wanted = [config.padded_vocab(), config.n_embd];
    if layers == config.n_layer && table.is_some_and(|shape| shape == wanted) {
        return Ok(());
    }
    let wanted_layers = config.n_layer;
    Err(format!(
        "it has {layers} layers and the token table {:?}, and the settings give {wanted_layers} layers and the table \
         {wanted:?}",
        table.unwrap_or_default()
    ))
}
