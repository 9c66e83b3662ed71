//! SIGINT and SIGTERM: the first one ends the run cleanly, the second one the process at once.
//!
//! While the sinks close, the next one ends what they wait for, and only the one after it the process.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Watch over SIGINT and SIGTERM, for a program that has to save before it ends.
///
/// As long as one lives, the first signal sets a flag, and the second one ends the process. Without one, signals have
/// their default effect. A [`Trainer`](crate::Trainer) holds one while it runs. Several at once, of a trainer or of the
/// program, share the flag.
///
/// # Examples
///
/// ```
/// let signals = bdh::SignalWatch::start();
/// assert!(!signals.is_some_and(|signals| signals.asked()));
/// ```
#[derive(Debug)]
pub struct SignalWatch(&'static Flags);

#[derive(Debug)]
struct Flags {
    /// A signal came while a run was under way.
    asked: Arc<AtomicBool>,
    /// The next signal has its default effect, which is to end the process.
    deadly: Arc<AtomicBool>,
    /// Runs under way in this process.
    runs: AtomicUsize,
}

/// Made once, by whoever comes first: handlers of a second set of flags would end the process on the
/// first signal. `None` where the system refused.
static FLAGS: OnceLock<Option<Flags>> = OnceLock::new();

impl SignalWatch {
    /// Starts to watch; `None` if the system refuses its handlers.
    #[must_use]
    pub fn start() -> Option<Self> {
        let flags = FLAGS.get_or_init(|| register().ok()).as_ref()?;
        if flags.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            flags.asked.store(false, Ordering::SeqCst);
            flags.deadly.store(false, Ordering::SeqCst);
        }
        Some(Self(flags))
    }

    /// Returns whether a signal asked the program to stop.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Makes the next signal one that [`asked_again`](Self::asked_again) reports, even if an earlier one ended the run.
    pub(crate) fn listen_again(&self) {
        self.0.deadly.store(false, Ordering::SeqCst);
    }

    /// Whether a signal came after [`listen_again`](Self::listen_again).
    pub(crate) fn asked_again(&self) -> bool {
        self.0.deadly.load(Ordering::Relaxed)
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        if self.0.runs.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.deadly.store(true, Ordering::SeqCst);
        }
    }
}

/// Registers once for the process: a handler that is taken back would leave the signal ignored.
fn register() -> io::Result<Flags> {
    let flags = Flags {
        asked: Arc::new(AtomicBool::new(false)),
        deadly: Arc::new(AtomicBool::new(true)),
        runs: AtomicUsize::new(0),
    };
    for signal in [SIGINT, SIGTERM] {
        // In this order: a first signal finds `deadly` unset, and sets it for the second.
        flag::register_conditional_default(signal, Arc::clone(&flags.deadly))?;
        flag::register(signal, Arc::clone(&flags.deadly))?;
        flag::register(signal, Arc::clone(&flags.asked))?;
    }
    Ok(flags)
}
