//! The records of a run, as a W&B log.

use crate::folder;
#[cfg(feature = "online")]
use crate::live::Live;
use crate::session::Session;
use crate::settings::{Given, Mode, Resume, Settings};
use crate::text;
use bdh::{BoxError, Outcome, Problem, Record, RunInfo, Sink, with_causes};
use std::error::Error;
use std::time::Duration;

/// Logs a run to Weights & Biases.
///
/// It honours the environment (`WANDB_MODE`, `WANDB_PROJECT`, `WANDB_API_KEY`, … and what a sweep agent sets) and the
/// settings files as W&B's own client does; what is set here wins over both. Nothing about the machine or its user
/// is written that they did not log.
///
/// | value | in W&B |
/// |---|---|
/// | scalar | a metric, drawn over `step`; NaN and the infinities as they are |
/// | histogram | a histogram of at most 512 bins; `<key>/nonfinite` counts what is in no bin |
/// | text | a table of one row: `step`, `text` |
/// | table, image, HTML | media of that kind; cells of a table stay text |
/// | file | an artifact `<kind>-<run id>` with its aliases, `latest` among them |
///
/// Files go to `wandb/` in `WANDB_DIR` if that is set, in the run directory, or without one in the current directory.
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
    /// What was decided about the run; not there yet before it is open, nor if it is disabled.
    session: Option<Session>,
    /// Only of an online run.
    #[cfg(feature = "online")]
    live: Option<Live>,
}

/// How long the end of a run waits for what is left to arrive, unless the user says otherwise.
const FINISH_TIMEOUT: Duration = Duration::from_mins(5);

impl Wandb {
    /// Takes everything from the environment and the settings files.
    #[must_use]
    pub fn from_env() -> Self {
        Self::default()
    }

    /// The project.
    #[must_use]
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.given.project = Some(project.into());
        self
    }

    /// The team or user whose project it is.
    #[must_use]
    pub fn entity(mut self, entity: impl Into<String>) -> Self {
        self.given.entity = Some(entity.into());
        self
    }

    /// The name that the run is shown under. Defaults to that of its run directory.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.given.name = Some(name.into());
        self
    }

    /// A remark on the run.
    #[must_use]
    pub fn notes(mut self, notes: impl Into<String>) -> Self {
        self.given.notes = Some(notes.into());
        self
    }

    /// The group of runs that it belongs to.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.given.group = Some(group.into());
        self
    }

    /// Words to find the run by; 1 to 64 characters each.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.given.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// The run's id, unique in its project. Defaults to a new one, or on resume to the resumed run's.
    #[must_use]
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.given.run_id = Some(run_id.into());
        self
    }

    /// What kind of work the run is, such as `train` or `eval`.
    #[must_use]
    pub fn job_type(mut self, job_type: impl Into<String>) -> Self {
        self.given.job_type = Some(job_type.into());
        self
    }

    /// What to do about a run of the same id that the server has already.
    #[must_use]
    pub fn resume(mut self, resume: Resume) -> Self {
        self.given.resume = Some(resume);
        self
    }

    /// The folder that `wandb/` goes into. Defaults to the run directory, or without one to the current one.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
        self.given.dir = Some(dir.into());
        self
    }

    /// The address of a W&B server of one's own.
    #[must_use]
    pub fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.given.base_url = Some(base_url.into());
        self
    }

    /// How long the end of an online run waits for what is left to arrive at a server that takes it. Defaults to
    /// 5 minutes; a server that is away is waited for 30 s at most, and Ctrl-C ends the wait at once. What has not
    /// arrived then is reported, with the command that sends it.
    #[must_use]
    pub fn finish_timeout(mut self, timeout: Duration) -> Self {
        self.finish_timeout = Some(timeout);
        self
    }

    /// Whether the run is sent while it goes on, later, or not logged at all.
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
            session.say(format!("wandb: {warning}"));
        }
        #[cfg(feature = "online")]
        if online {
            self.live = Some(Live::start(&session)?);
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

    fn problem(&mut self, problem: &Problem) {
        self.remark(&format!("warning: {problem}"));
    }

    fn remark(&mut self, text: &str) {
        if let Some(session) = &mut self.session {
            let _ = session.output(text); // the next row fails too, and tells
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
        session.say(format!("wandb: send this run with: wandb sync {folder}"));
        Ok(())
    }

    fn patience(&self) -> Duration {
        self.finish_timeout
            .unwrap_or(FINISH_TIMEOUT)
            .saturating_add(Duration::from_secs(30))
    }
}

/// An error that ends the sink, and how to send what is in the log all the same.
fn with_command(session: &Session, error: &(dyn Error + 'static)) -> BoxError {
    let causes = with_causes(error);
    let folder = text::shell(&session.folder.root);
    format!("{causes}; what is in its log is sent with: wandb sync {folder}").into()
}
