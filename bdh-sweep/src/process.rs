//! The process of a trial.

use crate::error::SweepError;
use crate::reason::reason;
use crate::trial_store::TrialStore;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Environment variable with a trial's run directory, which may already contain the beginning of the run.
pub(crate) const TRIAL_DIR: &str = "BDH_TRIAL_DIR";

/// Time between asking a process to end and killing it; W&B's agent waits as long.
const GRACE: Duration = Duration::from_secs(30);

/// Returns the run directory of this trial; `None` if no sweep started this process.
///
/// A program can be swept if it uses this run directory and resumes the run that it finds there
/// ([`Resume::Auto`](bdh::Resume::Auto)).
#[must_use]
pub fn trial_dir() -> Option<PathBuf> {
    let dir = std::env::var_os(TRIAL_DIR)?;
    (!dir.is_empty()).then(|| PathBuf::from(dir))
}

/// The process of a trial.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// Length of the log in bytes before this process; earlier processes of the trial wrote it.
    log_from: u64,
    /// Time of the request to end.
    asked: Option<Instant>,
}

/// Options for starting a trial.
pub(crate) struct Start<'a> {
    pub(crate) argv: &'a [String],
    /// Value for `CUDA_VISIBLE_DEVICES`.
    pub(crate) device: Option<u32>,
    /// Value for `RAYON_NUM_THREADS`.
    pub(crate) threads: Option<usize>,
    /// The trial's lock, which the process holds as its standard input. The trial stays locked while its process lives,
    /// even if the sweep that started it is dead.
    pub(crate) lock: Option<File>,
}

impl Start<'_> {
    /// Sets the input, the variables and the group of a process.
    fn configure(self, command: &mut Command) {
        // The lock's file is empty, so a trial that reads its input sees its end.
        command.stdin(self.lock.map_or_else(Stdio::null, Stdio::from));
        if let Some(device) = self.device {
            command.env("CUDA_VISIBLE_DEVICES", device.to_string());
        }
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        // A process group of its own: Ctrl-C reaches only the sweep, and a signal to the group reaches all processes
        // that the trial has started.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
    }
}

impl Process {
    pub(crate) fn start(
        store: &TrialStore,
        number: u64,
        start: Start<'_>,
    ) -> Result<Self, SweepError> {
        let path = store.log(number);
        let (log, log_from) = open_log(&path).map_err(|source| SweepError::Folder {
            path: path.clone(),
            source,
        })?;
        let [program, args @ ..] = start.argv else {
            return Err(SweepError::Invalid("`command` is empty".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(args).env(TRIAL_DIR, store.run_dir(number));
        start.configure(&mut command);
        let [out, err] = log;
        let child = match command.stdout(out).stderr(err).spawn() {
            Ok(child) => child,
            Err(error) => return Err(not_started(program, &error)),
        };
        Ok(Self {
            child,
            log: path,
            log_from,
            asked: None,
        })
    }

    /// Process id, for people.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the error message that the process printed.
    pub(crate) fn reason(&self) -> Option<String> {
        reason(&self.log, self.log_from)
    }

    /// Returns the exit status, if the process has ended; kills it if its time to end is over.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.asked.is_some_and(|asked| asked.elapsed() > GRACE) {
            signal(&mut self.child, Signal::Kill);
        }
        self.child.try_wait()
    }

    /// Asks the process to end, once. If it has not ended after [`GRACE`], [`ended`](Self::ended) kills it.
    pub(crate) fn end(&mut self) {
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            signal(&mut self.child, Signal::Term);
        }
    }
}

fn not_started(program: &str, error: &io::Error) -> SweepError {
    SweepError::Invalid(format!(
        "`{program}`, the program of `command`, cannot be started: {error}"
    ))
}

/// Opens a log for standard output and standard error, and returns its length in bytes.
fn open_log(path: &Path) -> io::Result<([File; 2], u64)> {
    let file = File::options().create(true).append(true).open(path)?;
    let len = file.metadata()?.len();
    Ok(([file.try_clone()?, file], len))
}

#[derive(Clone, Copy)]
enum Signal {
    Term,
    Kill,
}

#[cfg(unix)]
fn signal(child: &mut Child, signal: Signal) {
    use rustix::process::{Pid, Signal as Unix, kill_process_group};
    let signal = match signal {
        Signal::Term => Unix::TERM,
        Signal::Kill => Unix::KILL,
    };
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        // An error means that the process is already gone.
        let _ = kill_process_group(group, signal);
    }
}

#[cfg(not(unix))]
fn signal(child: &mut Child, _: Signal) {
    let _ = child.kill(); // these systems have no request to end
}

/// Whether a process ended because of a signal: after saving, or before it could handle the signal.
pub(crate) fn was_asked(exit: ExitStatus) -> bool {
    #[cfg(unix)]
    let by_signal = {
        use std::os::unix::process::ExitStatusExt;
        matches!(exit.signal(), Some(2 | 15)) // SIGINT, SIGTERM
    };
    #[cfg(not(unix))]
    let by_signal = false;
    // 130 is the shell's code for SIGINT; our programs use it after they have saved.
    by_signal || exit.code() == Some(130)
}
