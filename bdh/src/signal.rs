//! Handling of SIGINT and SIGTERM: the first one stops the run cleanly, the second one ends the process at once.
//!
//! While the sinks close, the next signal ends their waiting, and only the one after it ends the process.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Handler of SIGINT and SIGTERM, for a program that has to save before it ends.
///
/// While one exists, the first signal sets a flag, and the second one ends the process. Otherwise signals have their
/// default effect. A [`Trainer`](crate::Trainer) holds one while it runs. All instances in a process share the flag.
///
/// # Examples
///
/// ```
/// let signals = bdh::signal::SignalWatch::start();
/// assert!(!signals.is_some_and(|signals| signals.asked()));
/// ```
#[derive(Debug)]
pub struct SignalWatch(&'static Flags);

#[derive(Debug)]
struct Flags {
    /// Whether a signal arrived during a run.
    asked: Arc<AtomicBool>,
    /// Whether the next signal has its default effect, which is to end the process.
    deadly: Arc<AtomicBool>,
    /// Number of active runs in this process.
    runs: AtomicUsize,
}

/// Flags of the process, created once: handlers of a second set would end the process on the first signal.
/// `None` if the system refused the handlers.
static FLAGS: OnceLock<Option<Flags>> = OnceLock::new();

impl SignalWatch {
    /// Starts to watch; `None` if the system refuses the handlers.
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

    /// Returns whether a signal arrived after [`listen_again`](Self::listen_again).
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

/// Registers the handlers for the life of the process: removing one would leave its signal ignored.
fn register() -> io::Result<Flags> {
    let flags = Flags {
        asked: Arc::new(AtomicBool::new(false)),
        deadly: Arc::new(AtomicBool::new(true)),
        runs: AtomicUsize::new(0),
    };
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in this order: the first signal finds `deadly` unset, and sets it for the second.
        flag::register_conditional_default(signal, Arc::clone(&flags.deadly))?;
        flag::register(signal, Arc::clone(&flags.deadly))?;
        flag::register(signal, Arc::clone(&flags.asked))?;
    }
    Ok(flags)
}
