//! Checkpoints of any origin: of this program's runs, and of nanochat.

mod ours;
mod tokenizer;

pub(crate) use ours::find as find_ours;

use crate::page::say;
use bdh::BoxError;
use bdh::burn::module::Module;
use bdh::burn::tensor::Device;
use bdh::checkpoint::State;
use bdh::device::DeviceSpec;
use bdh::load_weights;
use bdh::ops::Precision;
use bdh_data::Tokenizer;
use bdh_examples::args::{Args, Hardware};
use bdh_models::nanochat::{Gpt, GptConfig, NanochatCheckpoint};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Checkpoint whose settings are known; its weights are not loaded yet.
#[derive(Debug)]
pub(crate) struct AnyCheckpoint {
    /// Directory of the checkpoint.
    pub(crate) path: PathBuf,
    /// Updates of the model before the checkpoint.
    pub(crate) step: u64,
    /// Settings of the model.
    pub(crate) config: GptConfig,
    /// Sequences in a forward pass of the training.
    pub(crate) micro_batch: usize,
    pub(crate) origin: Origin,
}

/// Program that wrote a checkpoint.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A run of this program.
    Ours(Box<State>),
    /// nanochat's training script.
    Nanochat(Box<NanochatCheckpoint>),
}

/// Checkpoint, and the way to compute with it: flags of several subcommands.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// Directory of a run, of one of its checkpoints, or of nanochat's checkpoints
    #[arg(long, value_name = "DIR", visible_alias = "checkpoint")]
    pub(crate) run: PathBuf,
    /// Step of the checkpoint [default: the newest]
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<u64>,
    /// Tokenizer: a file or a directory [default: the one that the run has saved, or nanochat's beside it]
    #[arg(long, value_name = "PATH")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Device: cpu, cuda, cuda:0, wgpu, vulkan or metal [default: the fastest of this build]
    #[arg(long, value_name = "DEVICE", visible_alias = "device-type")]
    pub(crate) device: Option<DeviceSpec>,
    /// Precision of activations: f32 or bf16 [default: the run's]
    #[arg(long, value_name = "PRECISION")]
    pub(crate) precision: Option<Precision>,
}

/// Trained model with its tokenizer.
pub(crate) struct Trained {
    pub(crate) checkpoint: AnyCheckpoint,
    pub(crate) model: Gpt,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) device: Device,
}

impl Source {
    /// Loads the checkpoint's model and tokenizer.
    ///
    /// The model uses the requested precision, or that of the training.
    pub(crate) fn load(&self) -> Result<Trained, BoxError> {
        let mut checkpoint = AnyCheckpoint::open(&self.run, self.step)?;
        if let Some(precision) = self.precision {
            checkpoint.config.precision = precision;
        }
        let device = self.open_device(checkpoint.config.precision)?;
        let tokenizer = checkpoint.tokenizer(self.tokenizer.as_deref())?;
        Ok(Trained {
            model: checkpoint.load(&checkpoint.config, &device)?.valid(),
            tokenizer,
            checkpoint,
            device,
        })
    }

    /// Opens the device, and checks that it supports the precision.
    fn open_device(&self, precision: Precision) -> Result<Device, BoxError> {
        let hardware = Hardware {
            device: self.device.clone(),
            precision: Some(precision),
            ..Hardware::default()
        };
        Ok(hardware.open()?.remove(0))
    }
}

impl Trained {
    /// Prints the checkpoint and the precision of the model.
    pub(crate) fn print(&self) {
        let AnyCheckpoint { path, step, .. } = &self.checkpoint;
        let (path, precision) = (path.display(), self.model.config().precision);
        say(format_args!("model    {path}, step {step}, in {precision}"));
    }
}

impl AnyCheckpoint {
    /// Finds a checkpoint and reads its settings: the newest one, or that of a step.
    ///
    /// `path` is the directory of a run, of a checkpoint, of nanochat's checkpoints, or a file of these.
    pub(crate) fn open(path: &Path, step: Option<u64>) -> Result<Self, BoxError> {
        match nanochat_place(path) {
            Some((dir, of_file)) => Self::open_nanochat(dir, step.or(of_file)),
            None => ours::open(&ours::find(path, step)?),
        }
    }

    /// Reads the settings of nanochat's checkpoint.
    pub(crate) fn open_nanochat(dir: &Path, step: Option<u64>) -> Result<Self, BoxError> {
        let found = NanochatCheckpoint::find(dir, step)?;
        Ok(Self {
            path: dir.to_owned(),
            step: found.step,
            config: found.config()?,
            micro_batch: found.meta.device_batch_size.max(1), // 0 if not known
            origin: Origin::Nanochat(Box::new(found)),
        })
    }

    /// Loads the weights into a model of these settings, which may differ from the checkpoint's in the precision.
    pub(crate) fn load(&self, config: &GptConfig, device: &Device) -> Result<Gpt, BoxError> {
        match &self.origin {
            Origin::Nanochat(found) => Ok(found.load(config, device)?),
            Origin::Ours(_) => {
                let model = config.init(0, device)?;
                Ok(load_weights(model, self.path.join("model.safetensors"))?)
            }
        }
    }

    /// Returns the tokenizer of the training, or the given one, which must have the ids that the model knows.
    pub(crate) fn tokenizer(&self, given: Option<&Path>) -> Result<Arc<Tokenizer>, BoxError> {
        tokenizer::of(self, given)
    }

    /// Returns the file or directory with the tokenizer of the training, if it was saved.
    pub(crate) fn tokenizer_path(&self) -> Option<PathBuf> {
        tokenizer::place(self)
    }

    /// Returns the arguments of the run; nanochat's checkpoints have others.
    pub(crate) fn args(&self) -> Result<Option<Args>, BoxError> {
        match &self.origin {
            Origin::Ours(state) => Ok(Some(ours::args(state)?)),
            Origin::Nanochat(_) => Ok(None),
        }
    }

    /// Returns nanochat's checkpoint.
    pub(crate) fn nanochat(&self) -> Result<&NanochatCheckpoint, BoxError> {
        match &self.origin {
            Origin::Nanochat(found) => Ok(found),
            Origin::Ours(_) => {
                let path = self.path.display();
                Err(format!("`{path}` is not a checkpoint of nanochat").into())
            }
        }
    }

    /// Returns the directory of the run, if the checkpoint is in one of ours.
    pub(crate) fn run_dir(&self) -> Option<&Path> {
        match self.origin {
            Origin::Ours(_) => ours::run_dir(&self.path),
            Origin::Nanochat(_) => None,
        }
    }
}

/// Returns the directory of nanochat's checkpoints at a path, and the step if the path is one of its files.
fn nanochat_place(path: &Path) -> Option<(&Path, Option<u64>)> {
    if let Some(step) = nanochat_step(path)
        && path.is_file()
    {
        return Some((path.parent()?, Some(step)));
    }
    let mut entries = fs::read_dir(path).ok()?.flatten();
    let is_one = entries.any(|entry| nanochat_step(&entry.path()).is_some());
    is_one.then_some((path, None))
}

/// Returns the step in the name of a file such as `model_000040.pt`.
fn nanochat_step(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix("model_")?.strip_suffix(".pt")?;
    digits.parse().ok()
}
