//! Sink that writes the records of a run as a W&B log.

use crate::folder;
#[cfg(feature = "online")]
use crate::live::LiveUpload;
use crate::session::Session;
use crate::settings::{Given, Mode, Resume, Settings};
use crate::text;
use bdh::error::with_causes;
use bdh::{BoxError, Message, Outcome, Record, RunInfo, Sink};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Sink that logs a run to Weights & Biases.
///
/// The sink reads the environment (`WANDB_MODE`, `WANDB_PROJECT`, `WANDB_API_KEY`, … and the variables of a sweep agent) and
/// the settings files as W&B's own client does. Values set here take precedence over both. Nothing about the machine or
/// its user is written unless they log it.
///
/// | value | in W&B |
/// |---|---|
/// | scalar | a metric, drawn over `step`; NaN and infinities stay as they are |
/// | histogram | a histogram of at most 512 bins; `<key>/nonfinite` counts the values in no bin |
/// | text | a table of one row: `step`, `text` |
/// | table, image, HTML | media of that kind; cells of a table stay text |
/// | file | an artifact `<kind>-<run id>` with its aliases and `latest` |
///
/// Files go to `wandb/` in `WANDB_DIR`, by default in the run directory, or in the current directory for a run without
/// one.
///
/// # Examples
///
/// ```
/// use bdh_wandb::Wandb;
///
/// let wandb = Wandb::from_env().project("first-steps").tags(["tiny"]);
/// // … `.sink(wandb)` …
/// # drop(wandb);
/// ```
#[derive(Default)]
pub struct Wandb {
    given: Given,
    finish_timeout: Option<Duration>,
    /// Run that is being logged; `None` before the sink is open, or if logging is disabled.
    session: Option<Session>,
    /// Upload of an online run.
    #[cfg(feature = "online")]
    live: Option<LiveUpload>,
}

impl fmt::Debug for Wandb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wandb")
            .field("finish_timeout", &self.finish_timeout)
            .finish_non_exhaustive()
    }
}

/// Default time that the end of a run waits for the rest of the upload.
const FINISH_TIMEOUT: Duration = Duration::from_mins(5);

impl Wandb {
    /// Returns a sink with all settings from the environment and the settings files.
    #[must_use]
    pub fn from_env() -> Self {
        Self::default()
    }

    /// Sets the project. Defaults to `uncategorized`.
    #[must_use]
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.given.project = Some(project.into());
        self
    }

    /// Sets the team or user that owns the project. Defaults to the default entity of the API key.
    #[must_use]
    pub fn entity(mut self, entity: impl Into<String>) -> Self {
        self.given.entity = Some(entity.into());
        self
    }

    /// Sets the displayed name of the run. Defaults to the name of its run directory.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.given.name = Some(name.into());
        self
    }

    /// Sets a description of the run.
    #[must_use]
    pub fn notes(mut self, notes: impl Into<String>) -> Self {
        self.given.notes = Some(notes.into());
        self
    }

    /// Sets the group of runs to which this run belongs.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.given.group = Some(group.into());
        self
    }

    /// Sets the tags of the run, of 1 to 64 characters each.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.given.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the run's id, unique in its project. Defaults to a random one, or on resume to that of the resumed run.
    #[must_use]
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.given.run_id = Some(run_id.into());
        self
    }

    /// Sets the type of work that the run does, such as `train` or `eval`.
    #[must_use]
    pub fn job_type(mut self, job_type: impl Into<String>) -> Self {
        self.given.job_type = Some(job_type.into());
        self
    }

    /// Sets how a run is treated whose id already exists on the server.
    #[must_use]
    pub fn resume(mut self, resume: Resume) -> Self {
        self.given.resume = Some(resume);
        self
    }

    /// Sets the folder in which `wandb/` is created. Defaults to the run directory, or without one to the current
    /// directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
        self.given.dir = Some(dir.into());
        self
    }

    /// Sets the address of a self-hosted W&B server. Defaults to `https://api.wandb.ai`.
    #[must_use]
    pub fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.given.base_url = Some(base_url.into());
        self
    }

    /// Sets how long the end of an online run waits for the rest of the upload. Defaults to 5 minutes.
    ///
    /// A server that does not answer is waited for 30 s at most, and Ctrl-C ends the wait at once. If something is
    /// left, a warning contains the command that uploads it.
    #[must_use]
    pub fn finish_timeout(mut self, timeout: Duration) -> Self {
        self.finish_timeout = Some(timeout);
        self
    }

    /// Sets whether the run is uploaded while it trains, uploaded later, or not logged at all.
    ///
    /// Defaults to [`Mode::Online`] with an API key and the feature `online`, else to [`Mode::Offline`].
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.given.mode = Some(mode);
        self
    }
}

impl Sink for Wandb {
    fn name(&self) -> String {
        "wandb".to_owned()
    }

    fn files(&self) -> Vec<String> {
        vec!["wandb/".to_owned(), folder::POINTER.to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        let settings = Settings::resolve(&self.given, |name| std::env::var(name).ok())?;
        if settings.mode == Mode::Disabled {
            return Ok(());
        }
        let online = settings.mode == Mode::Online;
        let session = Session::open(settings, run, online)?;
        for warning in &session.settings.warnings {
            session.notice(format!("wandb: {warning}"));
        }
        #[cfg(feature = "online")]
        if online {
            self.live = Some(LiveUpload::start(&session)?);
        }
        self.session = Some(session);
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session
            .write(record)
            .map_err(|error| with_command(session, &*error))
    }

    fn message(&mut self, message: &Message) {
        if let Some(session) = &mut self.session {
            let _ = session.output(&message.to_string()); // if the log fails, the next record reports it
        }
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session
            .flush()
            .map_err(|error| with_command(session, &*error))
    }

    fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        let Some(mut session) = self.session.take() else {
            return Ok(());
        };
        session.close(outcome)?;
        #[cfg(feature = "online")]
        if let Some(live) = self.live.take() {
            live.finish(&session, self.finish_timeout.unwrap_or(FINISH_TIMEOUT));
            return Ok(());
        }
        let folder = text::shell(&session.folder.root);
        session.notice(format!("wandb: send this run with: wandb sync {folder}"));
        Ok(())
    }

    fn flush_timeout(&self) -> Duration {
        self.finish_timeout
            .unwrap_or(FINISH_TIMEOUT)
            .saturating_add(Duration::from_secs(30))
    }
}

/// Returns an error that closes the sink, with the command that uploads what the log contains.
fn with_command(session: &Session, error: &(dyn Error + 'static)) -> BoxError {
    let causes = with_causes(error);
    let folder = text::shell(&session.folder.root);
    format!("{causes}; upload what the log contains with: wandb sync {folder}").into()
}
