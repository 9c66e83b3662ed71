//! The way back from a sink to the run.

use crate::outcome::{Problem, StopReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Lets a sink, or a thread of its own, speak to the run while it goes on. Clones speak to the same run.
///
/// A sink finds it in [`RunInfo::feedback`](crate::RunInfo::feedback). What is said after the run has
/// ended, or to the default value, is heard by nobody.
#[derive(Debug, Clone, Default)]
pub struct Feedback {
    run: Option<Sender<Said>>,
    is_hurried: Arc<AtomicBool>,
}

/// What a sink can say.
#[derive(Debug)]
pub(crate) enum Said {
    Problem(Problem),
    Remark(String),
    Stop(StopReason),
}

impl Feedback {
    /// A feedback and the end at which it arrives.
    pub(crate) fn channel() -> (Self, Receiver<Said>) {
        let (sender, receiver) = channel();
        (
            Self {
                run: Some(sender),
                is_hurried: Arc::default(),
            },
            receiver,
        )
    }

    /// Tells of something that failed without ending the sink: all sinks hear of it, and it is in the
    /// outcome.
    pub fn tell(&self, problem: Problem) {
        self.say(Said::Problem(problem));
    }

    /// Says something that a person may want to know, such as where to look at the run.
    pub fn remark(&self, text: impl Into<String>) {
        self.say(Said::Remark(text.into()));
    }

    /// Asks the run to stop after the step under way, as somebody did from outside of the program.
    pub fn stop(&self, by: impl Into<String>, why: impl Into<String>) {
        self.say(Said::Stop(StopReason::Asked {
            by: by.into(),
            why: why.into(),
        }));
    }

    /// Whether a signal, such as Ctrl-C, came while the sinks were closing: a sink that waits for something in
    /// [`close`](crate::Sink::close), such as a server, gives up and returns.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.is_hurried.load(Ordering::Relaxed)
    }

    /// Asks sinks that are closing to wait for nothing.
    pub(crate) fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Relaxed);
    }

    fn say(&self, said: Said) {
        if let Some(sender) = &self.run {
            let _ = sender.send(said); // nobody listens once the run is over
        }
    }
}
