//! Pictures that are drawn while the run goes on.

use crate::deferred::DeferredHistogram;
use crate::failure::{BoxError, panic_text};
use crate::histogram::Histogram;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

/// A picture of distributions, drawn on a thread of its own once the step has been read.
///
/// The training thread waits for none. A sink is handed the record when the picture is there, as a
/// [`Value::Image`](crate::Value::Image): in the record of its step, however long it took.
#[derive(Clone)]
pub struct Picture(Arc<Inner>);

struct Inner {
    pending: Mutex<Option<Pending>>,
    drawn: OnceLock<Result<Vec<u8>, String>>,
    is_told: AtomicBool,
}

type Draw = dyn FnOnce(Vec<Histogram>) -> Result<Vec<u8>, BoxError> + Send;

struct Pending {
    of: Vec<DeferredHistogram>,
    draw: Box<Draw>,
}

impl Picture {
    /// Has distributions drawn by `draw`, which gives a PNG.
    pub fn of(
        histograms: Vec<DeferredHistogram>,
        draw: impl FnOnce(Vec<Histogram>) -> Result<Vec<u8>, BoxError> + Send + 'static,
    ) -> Self {
        let pending = Pending {
            of: histograms,
            draw: Box::new(draw),
        };
        let pending = Mutex::new(Some(pending));
        Self(Arc::new(Inner {
            pending,
            drawn: OnceLock::new(),
            is_told: AtomicBool::new(false),
        }))
    }

    /// What has to be read before it can be drawn.
    pub(crate) fn histograms(&self) -> Vec<DeferredHistogram> {
        let pending = self
            .0
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pending
            .as_ref()
            .map(|pending| pending.of.clone())
            .unwrap_or_default()
    }

    /// Begins to draw, now that the step has been read. Does nothing the second time.
    pub(crate) fn begin(&self) {
        let pending = self
            .0
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Pending { of, draw }) = pending else {
            return;
        };
        let read = of
            .iter()
            .map(|histogram| histogram.value().unwrap_or_default())
            .collect();
        let inner = Arc::clone(&self.0);
        let work = move || {
            let drawn = catch_unwind(AssertUnwindSafe(|| draw(read)));
            let drawn = drawn.unwrap_or_else(|panic| {
                Err(format!("the drawing panicked: {}", panic_text(&*panic)).into())
            });
            let _ = inner.drawn.set(drawn.map_err(|error| error.to_string()));
        };
        if let Err(error) = thread::Builder::new()
            .name("picture".to_owned())
            .spawn(work)
        {
            let _ = self
                .0
                .drawn
                .set(Err(format!("there is no thread to draw on: {error}")));
        }
    }

    /// The PNG, once it is there. A picture that nobody has begun to draw is an error at once.
    pub(crate) fn wait(&self) -> Result<&[u8], &str> {
        if self
            .0
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
        {
            return Err("nobody has begun to draw it");
        }
        self.0.drawn.wait().as_deref().map_err(String::as_str)
    }

    /// Whether its failure is still to be told: every sink meets it, and the run shall hear of it once.
    pub(crate) fn is_untold(&self) -> bool {
        !self.0.is_told.swap(true, Ordering::Relaxed)
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
