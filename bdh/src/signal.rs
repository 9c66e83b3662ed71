//! SIGINT and SIGTERM: the first one ends the run cleanly, the second one the process at once.
//!
//! While the sinks close, the next one ends what they wait for, and only the one after it the process.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Watches for signals as long as it lives. Outside of that, signals do what they always do.
pub(crate) struct SignalWatch(&'static Flags);

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
    pub(crate) fn start() -> Option<Self> {
        let flags = FLAGS.get_or_init(|| register().ok()).as_ref()?;
        if flags.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            flags.asked.store(false, Ordering::SeqCst);
            flags.deadly.store(false, Ordering::SeqCst);
        }
        Some(Self(flags))
    }

    /// Whether a signal asked the run to stop.
    pub(crate) fn asked(&self) -> bool {
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
