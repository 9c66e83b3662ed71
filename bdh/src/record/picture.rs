//! Pictures that are drawn while training continues.

use crate::deferred::DeferredHistogram;
use crate::failure::{BoxError, panic_text};
use crate::histogram::Histogram;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Picture of histograms, drawn on its own thread after the step has been read.
///
/// The training thread does not wait for it. A sink receives the record of the step once the picture is drawn, as a
/// [`Value::Image`](crate::Value::Image).
#[derive(Clone)]
pub struct Picture(Arc<Inner>);

struct Inner {
    /// Inputs until drawing starts. Locked by the training thread, and by the threads of sinks that wait.
    pending: Mutex<Option<Pending>>,
    /// The PNG, once it is drawn.
    drawn: OnceLock<Result<Vec<u8>, DrawError>>,
    is_reported: AtomicBool,
}

type Draw = dyn FnOnce(Vec<Histogram>) -> Result<Vec<u8>, BoxError> + Send;

/// Error of a picture that could not be drawn.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DrawError(String);

struct Pending {
    histograms: Vec<DeferredHistogram>,
    draw: Box<Draw>,
}

impl Picture {
    /// Creates a picture that `draw` will draw from histograms, as a PNG.
    pub fn of(
        histograms: Vec<DeferredHistogram>,
        draw: impl FnOnce(Vec<Histogram>) -> Result<Vec<u8>, BoxError> + Send + 'static,
    ) -> Self {
        let pending = Pending {
            histograms,
            draw: Box::new(draw),
        };
        Self(Arc::new(Inner {
            pending: Mutex::new(Some(pending)),
            drawn: OnceLock::new(),
            is_reported: AtomicBool::new(false),
        }))
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        let pending = self.0.pending.lock();
        pending.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the histograms to read before drawing.
    pub(crate) fn histograms(&self) -> Vec<DeferredHistogram> {
        match &*self.pending() {
            Some(pending) => pending.histograms.clone(),
            None => Vec::new(),
        }
    }

    /// Starts drawing on another thread, after the step has been read. Does nothing when called again.
    pub(crate) fn begin(&self) {
        let Some(Pending { histograms, draw }) = self.pending().take() else {
            return;
        };
        let values = values(&histograms);
        let inner = Arc::clone(&self.0);
        // The thread ends when the picture is drawn; sinks wait for `drawn`, so it is not joined.
        let thread = thread::Builder::new().name("picture".to_owned());
        let started = thread.spawn(move || {
            let drawn = run(draw, values).map_err(|error| DrawError(error.to_string()));
            let _ = inner.drawn.set(drawn); // set once: only one thread has taken the inputs
        });
        if let Err(error) = started {
            let text = format!("cannot start a thread to draw on: {error}");
            let _ = self.0.drawn.set(Err(DrawError(text)));
        }
    }

    /// Waits for the PNG. Fails at once if drawing has not been started.
    pub(crate) fn wait(&self) -> Result<&[u8], DrawError> {
        if self.pending().is_some() {
            return Err(DrawError("drawing has not been started".to_owned()));
        }
        self.0.drawn.wait().as_deref().map_err(DrawError::clone)
    }

    /// Returns true on the first call, so that a failure that every sink meets is reported once.
    pub(crate) fn needs_report(&self) -> bool {
        !self.0.is_reported.swap(true, Ordering::Relaxed)
    }
}

/// Returns the histograms that have been read; empty ones in place of those that have not.
fn values(histograms: &[DeferredHistogram]) -> Vec<Histogram> {
    let mut values = Vec::with_capacity(histograms.len());
    for histogram in histograms {
        values.push(histogram.value().unwrap_or_default());
    }
    values
}

/// Calls a drawing function, and turns a panic into an error.
fn run(draw: Box<Draw>, histograms: Vec<Histogram>) -> Result<Vec<u8>, BoxError> {
    match catch_unwind(AssertUnwindSafe(|| draw(histograms))) {
        Ok(drawn) => drawn,
        Err(panic) => Err(format!("the drawing panicked: {}", panic_text(&*panic)).into()),
    }
}

impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.drawn.get() {
            Some(Ok(png)) => write!(f, "Picture({} bytes)", png.len()),
            Some(Err(error)) => write!(f, "Picture({error})"),
            None => f.write_str("Picture(being drawn)"),
        }
    }
}
