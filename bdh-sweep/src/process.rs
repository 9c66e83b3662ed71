//! The process of a trial.

use crate::error::SweepError;
use crate::ledger::Ledger;
use crate::reason::reason;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The variable that tells a trial its run directory, which may hold the beginning of the run already.
pub(crate) const TRIAL_DIR: &str = "BDH_TRIAL_DIR";

/// Time that a process has between being asked to end and being ended; as long as W&B's agent waits.
const GRACE: Duration = Duration::from_secs(30);

/// The run directory of the trial that this process is, if a sweep started it.
///
/// A program that takes its run directory from here, and goes on with the run that it finds there
/// ([`Resume::Auto`](bdh::Resume::Auto)), can be swept.
#[must_use]
pub fn trial_dir() -> Option<PathBuf> {
    std::env::var_os(TRIAL_DIR)
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
}

/// The process of a trial.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// Bytes of the log that an earlier process of the trial has printed.
    log_from: u64,
    /// When it was asked to end.
    asked: Option<Instant>,
}

/// What a trial is started with.
pub(crate) struct Start<'a> {
    pub(crate) words: &'a [String],
    /// The GPU that is all it sees.
    pub(crate) device: Option<u32>,
    /// Its share of the cores, if there are others.
    pub(crate) threads: Option<usize>,
    /// The trial's lock, which it holds as its input: so the trial is taken as long as its process lives, even if the
    /// sweep that started it does not.
    pub(crate) lock: Option<File>,
}

impl Process {
    pub(crate) fn start(
        ledger: &Ledger,
        number: u64,
        start: Start<'_>,
    ) -> Result<Self, SweepError> {
        let log = ledger.log(number);
        let failed = |source| SweepError::Folder {
            path: log.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(&failed)?;
        let log_from = file.metadata().map_err(&failed)?.len();
        let [program, args @ ..] = start.words else {
            return Err(SweepError::Invalid("`command` has no words".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(args).env(TRIAL_DIR, ledger.run_dir(number));
        command.stdin(start.lock.map_or_else(Stdio::null, Stdio::from)); // it is empty
        command
            .stdout(file.try_clone().map_err(&failed)?)
            .stderr(file);
        if let Some(device) = start.device {
            command.env("CUDA_VISIBLE_DEVICES", device.to_string());
        }
        if let Some(threads) = start.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        // A group of its own: Ctrl-C is the sweep's to hear, and whatever the trial has started is asked to end with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| {
            SweepError::Invalid(format!(
                "`{program}`, the program of `command`, cannot be started: {error}"
            ))
        })?;
        Ok(Self {
            child,
            log,
            log_from,
            asked: None,
        })
    }

    /// Its number, for people.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed of why it failed.
    pub(crate) fn reason(&self) -> Option<String> {
        reason(&self.log, self.log_from)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.asked.is_some_and(|asked| asked.elapsed() > GRACE) {
            signal(&mut self.child, Signal::Kill);
        }
        self.child.try_wait()
    }

    /// Asks it to end, once; what does not within half a minute is killed.
    pub(crate) fn end(&mut self) {
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            signal(&mut self.child, Signal::Term);
        }
    }
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
    // One that is gone already needs no signal.
    let _ = Pid::from_raw(child.id() as i32).map(|group| kill_process_group(group, signal));
}

#[cfg(not(unix))]
fn signal(child: &mut Child, _: Signal) {
    let _ = child.kill(); // there is no asking
}

/// Whether it ended as one does that a signal asked to end: after saving, or because it had not begun to listen.
pub(crate) fn was_asked(exit: ExitStatus) -> bool {
    #[cfg(unix)]
    let by_signal = {
        use std::os::unix::process::ExitStatusExt;
        matches!(exit.signal(), Some(2 | 15)) // SIGINT, SIGTERM
    };
    #[cfg(not(unix))]
    let by_signal = false;
    by_signal || exit.code() == Some(130)
}
