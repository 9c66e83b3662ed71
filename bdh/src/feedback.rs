//! Messages from a sink to its run.

use crate::message::Message;
use crate::outcome::{StopReason, Warning};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// The way for a sink, or a thread of its own, to send messages to its run.
///
/// A sink finds it in [`RunInfo::feedback`](crate::RunInfo::feedback). Clones send to the same run. Messages sent after
/// the end of the run, or through the default value, are dropped.
#[derive(Debug, Clone, Default)]
pub struct Feedback {
    run: Option<Sender<Message>>,
    is_hurried: Arc<AtomicBool>,
}

impl Feedback {
    /// Returns a feedback and the receiver of its messages.
    pub(crate) fn channel() -> (Self, Receiver<Message>) {
        let (sender, receiver) = channel();
        let feedback = Self {
            run: Some(sender),
            is_hurried: Arc::default(),
        };
        (feedback, receiver)
    }

    /// Reports a failure that does not end the sink. All sinks receive it, and it is in the result of the run.
    pub fn warn(&self, warning: Warning) {
        self.send(Message::Warning(warning));
    }

    /// Sends a line that a person may want to know, such as the address of the run's page.
    pub fn notice(&self, text: impl Into<String>) {
        self.send(Message::Notice(text.into()));
    }

    /// Asks the run to stop after the step under way, for a request from outside of the program.
    pub fn stop(&self, by: impl Into<String>, why: impl Into<String>) {
        self.send(Message::StopRequested(StopReason::Asked {
            by: by.into(),
            why: why.into(),
        }));
    }

    /// Whether a signal, such as Ctrl-C, arrived while the sinks were closing.
    ///
    /// A sink that waits in [`close`](crate::Sink::close), such as for a server, then gives up and returns.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.is_hurried.load(Ordering::Relaxed)
    }

    /// Asks sinks that are closing to stop waiting.
    pub(crate) fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Relaxed);
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.run {
            let _ = sender.send(message); // fails only after the end of the run
        }
    }
}
