//! Console lines that nanochat's scripts look for.
//!
//! The scripts find parameters, steps, batch, validation loss and CORE of a run with `grep`, so these lines are an
//! interface. [`header`] has what is known before the run, [`NanochatLog`] prints it with the lines of the steps, and
//! [`NanochatTrain`] measures what these lines contain.
//!
//! | line | differs from nanochat's |
//! |---|---|
//! | `step 00010/00040 (25.00%) | loss: …` | the position in the data is that of the last batch that was trained on |
//! | `Step 00010 | CORE metric: …` | with all 22 tasks only; with 20 it is `CORE-20 metric:` |
//! | `Peak memory usage: …` | on the CPU that of the process, where nanochat prints 0 |
//! | `Number of parameters: … (scaling: …)` | nanochat printed it once, and `runs/miniseries.sh` still looks for it |
//!
//! A step has the number of updates before it, so the line of the first update has step 0, as in nanochat. In
//! `metrics.jsonl` this is the record of step 1.
//!
//! Source: `scripts/base_train.py` of karpathy/nanochat at 92d63d4.

mod data_place;
mod header;
mod lines;
mod text;
mod train;

pub use data_place::{DataPlace, Place, Tracked, tracked};
pub use header::header;
pub(crate) use train::{LOSS, TRAINING_TIME};
pub use train::{LoopState, NanochatTrain};

use bdh::lines::printable;
use bdh::{BoxError, Message, Outcome, Record, RunInfo, Sink};
use bdh_models::scaling::{Recipe, Request};
use lines::Lines;
use std::fmt;
use std::io::{self, Write};

/// Sink that prints a run in nanochat's lines, with the values of [`NanochatTrain`].
///
/// In place of [`Console`](bdh_callbacks::Console). Notices and warnings of the run are printed too.
pub struct NanochatLog {
    header: String,
    lines: Lines,
    out: Box<dyn Write + Send>,
}

impl fmt::Debug for NanochatLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NanochatLog")
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}

impl NanochatLog {
    /// Creates the log of a run with this recipe, which follows from the request.
    ///
    /// `peak_flops` is the peak of one device in operations per second. Without it the MFU is 0.00, as in nanochat.
    #[must_use]
    pub fn new(recipe: &Recipe, request: &Request, peak_flops: Option<f64>) -> Self {
        Self {
            header: header(recipe, request),
            lines: Lines::new(recipe, peak_flops.map(|peak| peak * request.devices as f64)),
            out: Box::new(io::stdout()),
        }
    }

    fn print(&mut self, line: &str) {
        // A closed pipe must not end the run.
        drop(writeln!(self.out, "{line}"));
    }
}

impl Sink for NanochatLog {
    fn name(&self) -> String {
        "nanochat_log".to_owned()
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        self.lines.length = run.length;
        if let Some(step) = run.resumed_at {
            self.print(&format!("Resuming optimization from step {step}"));
        }
        let header = std::mem::take(&mut self.header);
        self.print(&header);
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        for line in self.lines.of(record) {
            self.print(&line);
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) {
        // The line may contain text from a server or a file, with control characters.
        let line = printable(&message.to_string()).into_owned();
        self.print(&line);
    }

    fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        if *outcome != Outcome::Completed {
            self.print(&format!("run {outcome}"));
        }
        for line in self.lines.at_end() {
            self.print(&line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
