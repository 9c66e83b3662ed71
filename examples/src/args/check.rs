//! Combinations of flags that contradict each other.

use super::{Args, BYTE_VOCAB, Every, Tokenizer, ValueError, command};
use bdh::clock::RunLength;
use clap::error::ErrorKind;

impl Args {
    /// Returns the arguments with one name of the run, if they contradict each other nowhere.
    pub(super) fn checked(mut self) -> Result<Self, clap::Error> {
        self.check_names()?;
        let tag = self.model_tag.take();
        self.name = self.name.or(tag);
        self.check_vocabulary()?;
        self.hardware.check(command)?;
        self.check_core()?;
        Ok(self)
    }

    /// Checks that both names of the run are equal.
    fn check_names(&self) -> Result<(), clap::Error> {
        match (&self.name, &self.model_tag) {
            (Some(name), Some(tag)) if name != tag => Err(conflict(format!(
                "--name {name} and --model-tag {tag} both name the run's directory: give one of them"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that the tokenizer has a vocabulary of any size if one is given.
    fn check_vocabulary(&self) -> Result<(), clap::Error> {
        let Some(ids) = self.vocab_size else {
            return Ok(());
        };
        let why = match self.tokenizer() {
            Tokenizer::Bpe => return Ok(()),
            Tokenizer::Bytes => format!("bytes always have {BYTE_VOCAB} ids"),
            Tokenizer::Path(path) => format!("`{}` has its own ids", path.display()),
        };
        Err(conflict(format!(
            "--vocab-size {ids} needs --tokenizer bpe; {why}"
        )))
    }

    /// Checks that tasks of CORE are evaluated if they are given.
    fn check_core(&self) -> Result<(), clap::Error> {
        let (Every::Never, Some(dir)) = (self.core_metric_every, &self.core_bundle) else {
            return Ok(());
        };
        let text = format!(
            "--core-bundle {} needs --core-metric-every STEPS; to evaluate a finished run, see \
             `nanochat_sweep core --help`",
            dir.display()
        );
        Err(command().error(ErrorKind::MissingRequiredArgument, text))
    }

    /// Checks flags that depend on the number of steps. If the run is limited by time, there is nothing to check.
    ///
    /// # Errors
    ///
    /// [`ValueError::NeverFires`] for given steps after the end of the run. Default early checkpoints may be after the
    /// end: a short run has none.
    pub fn check_steps(&self, length: impl Into<RunLength>) -> Result<(), ValueError> {
        let Some(steps) = length.into().steps() else {
            return Ok(());
        };
        if let Some(early) = &self.early_save
            && !early.beyond(steps).is_empty()
            && early.cadence(steps).is_none()
        {
            return Err(ValueError::NeverFires {
                flag: "--early-save",
                given: early.to_string(),
                steps,
                instead: format!("steps up to {steps}, shares such as 10%,25%,50%, or off"),
            });
        }
        if self.log_every > steps {
            return Err(ValueError::NeverFires {
                flag: "--log-every",
                given: self.log_every.to_string(),
                steps,
                instead: format!("{steps} or less"),
            });
        }
        Ok(())
    }
}

fn conflict(text: String) -> clap::Error {
    command().error(ErrorKind::ArgumentConflict, text)
}
