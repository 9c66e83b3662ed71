//! Weights that a run begins with: random ones, those of a checkpoint, or a run of nanochat that it continues.

mod settings;

use crate::checkpoint::AnyCheckpoint;
use crate::dirs;
use bdh::burn::tensor::Device;
use bdh::checkpoint::Start;
use bdh::{BoxError, load_weights};
use bdh_examples::args::Args;
use bdh_examples::nanochat_home::NanochatHome;
use bdh_models::nanochat::{Gpt, GptConfig, NanochatCheckpoint};
use std::path::{Path, PathBuf};

/// Origin of a run's weights.
#[derive(Debug)]
pub(crate) enum Weights {
    /// Drawn from the seed, or restored from the run's own checkpoint.
    Drawn,
    /// File with weights, whose settings are those of the flags.
    File(PathBuf),
    /// Checkpoint of any origin; optimizer and data begin anew.
    Checkpoint(AnyCheckpoint),
    /// Run of nanochat that is continued, with its optimizer and its data.
    Continued(AnyCheckpoint),
}

impl Weights {
    /// Finds the weights that the flags ask for. Files of weights are not read yet.
    pub(crate) fn find(args: &Args) -> Result<Self, BoxError> {
        if dirs::has_checkpoint(args) {
            return Ok(Self::Drawn);
        }
        match (&args.init_from, args.resume_from_step) {
            (Some(path), Some(step)) => Err(format!(
                "--init-from {} and --resume-from-step {step} both choose the weights: give one of them",
                path.display()
            )
            .into()),
            (Some(path), None) if path.is_file() && is_weights(path) => {
                Ok(Self::File(path.clone()))
            }
            (Some(path), None) => {
                let found = AnyCheckpoint::open(path, args.init_step)?;
                Ok(Self::Checkpoint(found))
            }
            (None, Some(step)) => Ok(Self::Continued(of_nanochat(args, step)?)),
            (None, None) => Ok(Self::Drawn),
        }
    }

    /// Returns the arguments with the settings of the checkpoint, which no flag may contradict.
    pub(crate) fn settle(&self, mut args: Args) -> Result<Args, BoxError> {
        if let Self::Checkpoint(found) | Self::Continued(found) = self {
            settings::take(found, &mut args)?;
        }
        Ok(args)
    }

    /// Checks that the weights fit a model of these settings.
    pub(crate) fn check(&self, config: &GptConfig) -> Result<(), BoxError> {
        match self {
            Self::Checkpoint(found) | Self::Continued(found) => settings::check(found, config),
            Self::Drawn | Self::File(_) => Ok(()),
        }
    }

    /// Makes the model.
    pub(crate) fn load(
        &self,
        config: &GptConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Gpt, BoxError> {
        match self {
            Self::Drawn => Ok(config.init(seed, device)?),
            Self::File(path) => Ok(load_weights(config.init(seed, device)?, path)?),
            Self::Checkpoint(found) | Self::Continued(found) => found.load(config, device),
        }
    }

    /// Reads the place at which the run begins: that of nanochat's run, or the start.
    pub(crate) fn start(&self) -> Result<Option<Start>, BoxError> {
        match self {
            Self::Continued(found) => Ok(Some(found.nanochat()?.start()?)),
            _ => Ok(None),
        }
    }

    /// Returns the checkpoint of nanochat, if its run is continued.
    pub(crate) fn continued(&self) -> Option<&NanochatCheckpoint> {
        match self {
            Self::Continued(found) => found.nanochat().ok(),
            _ => None,
        }
    }

    /// Returns a description of the weights, unless the seed decides them.
    pub(crate) fn describe(&self) -> Option<String> {
        match self {
            Self::Drawn => None,
            Self::File(path) => Some(path.display().to_string()),
            Self::Checkpoint(found) | Self::Continued(found) => {
                Some(format!("{}, step {}", found.path.display(), found.step))
            }
        }
    }
}

/// Returns whether a file has weights and no settings.
fn is_weights(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_nanochats = name.starts_with("model_") && ending == "pt";
    !is_nanochats
        && ["safetensors", "pt", "pth", "bin"]
            .iter()
            .any(|known| ending == *known)
}

/// Finds the checkpoint of nanochat's run with the name of this run.
fn of_nanochat(args: &Args, step: u64) -> Result<AnyCheckpoint, BoxError> {
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| format!("d{}", args.depth));
    let Some(home) = NanochatHome::from_env() else {
        let ours = args.runs.join(args.run_name());
        return Err(format!(
            "--resume-from-step {step}: there is no run `{}`, and NANOCHAT_BASE_DIR is not set",
            ours.display()
        )
        .into());
    };
    AnyCheckpoint::open_nanochat(&home.checkpoints(&name), Some(step))
}
