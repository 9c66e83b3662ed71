//! Lines that wait to be written, and recent ones that a replaced file may lack.

use std::collections::VecDeque;

/// Bytes of written lines that are kept, in case another file replaces ours and lacks them.
pub(super) const RECENT: usize = 1 << 20;

/// The newest lines in order: first written ones, then waiting ones.
#[derive(Debug, Default)]
pub(super) struct Lines {
    all: VecDeque<(u64, Vec<u8>)>,
    num_written: usize,
    num_written_bytes: usize,
    pub(super) num_waiting_bytes: usize,
    /// The last step whose line is no longer kept, or was written before a resume.
    pub(super) gone: Option<u64>,
}

impl Lines {
    pub(super) fn push(&mut self, step: u64, line: Vec<u8>) {
        self.num_waiting_bytes += line.len();
        self.all.push_back((step, line));
    }

    /// Returns the first waiting line.
    pub(super) fn next(&self) -> Option<&[u8]> {
        let (_, line) = self.all.get(self.num_written)?;
        Some(line)
    }

    /// Marks the first waiting line as written, and drops old lines above [`RECENT`] bytes.
    pub(super) fn is_written(&mut self) {
        let bytes = self.next().map_or(0, <[u8]>::len);
        self.num_waiting_bytes -= bytes;
        self.num_written_bytes += bytes;
        self.num_written += 1;
        while self.num_written_bytes > RECENT
            && let Some((step, line)) = self.all.pop_front()
        {
            self.num_written_bytes -= line.len();
            self.num_written -= 1;
            self.gone = Some(step);
        }
    }

    /// Makes all lines of steps after `last` wait again. Returns the last of those steps whose line is no longer kept.
    pub(super) fn rewind(&mut self, last: Option<u64>) -> Option<u64> {
        self.num_written = self.all.partition_point(|(step, _)| Some(*step) <= last);
        self.num_written_bytes = 0;
        self.num_waiting_bytes = 0;
        for (index, (_, line)) in self.all.iter().enumerate() {
            if index < self.num_written {
                self.num_written_bytes += line.len();
            } else {
                self.num_waiting_bytes += line.len();
            }
        }
        self.gone.filter(|gone| Some(*gone) > last)
    }

    /// Returns the first and the last step of the waiting lines.
    pub(super) fn waiting(&self) -> Option<(u64, u64)> {
        let (first, _) = self.all.get(self.num_written)?;
        Some((*first, self.last_step()?))
    }

    pub(super) fn last_step(&self) -> Option<u64> {
        self.all.back().map(|(step, _)| *step)
    }
}
