//! Lines that wait to be written, and written ones that a new file may lack.

use std::collections::VecDeque;
use std::ops::Range;

/// Bytes of written lines that are kept, for a file that is put in the place of ours and lacks them.
pub(super) const RECENT: usize = 1 << 20;

/// The newest lines, in order: those that are written, then those that wait.
#[derive(Debug, Default)]
pub(super) struct Lines {
    all: VecDeque<(u64, Vec<u8>)>,
    num_written: usize,
    num_written_bytes: usize,
    pub(super) num_waiting_bytes: usize,
    /// The last step of which the line is no longer kept, or was written before a resume.
    pub(super) gone: Option<u64>,
}

impl Lines {
    pub(super) fn push(&mut self, step: u64, line: Vec<u8>) {
        self.num_waiting_bytes += line.len();
        self.all.push_back((step, line));
    }

    /// The first line that waits.
    pub(super) fn next(&self) -> Option<&[u8]> {
        self.all
            .get(self.num_written)
            .map(|(_, line)| line.as_slice())
    }

    /// Moves on to the next line, and lets old ones go.
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

    /// Lets all lines of steps after `last` wait. Gives the last step of those among them that are gone.
    pub(super) fn rewind(&mut self, last: Option<u64>) -> Option<u64> {
        self.num_written = self.all.partition_point(|(step, _)| Some(*step) <= last);
        let bytes = |lines: Range<usize>| self.all.range(lines).map(|(_, line)| line.len()).sum();
        self.num_written_bytes = bytes(0..self.num_written);
        self.num_waiting_bytes = bytes(self.num_written..self.all.len());
        self.gone.filter(|gone| Some(*gone) > last)
    }

    /// The first and the last step of which the lines wait.
    pub(super) fn waiting(&self) -> Option<(u64, u64)> {
        let (first, _) = self.all.get(self.num_written)?;
        Some((*first, self.last_step()?))
    }

    pub(super) fn last_step(&self) -> Option<u64> {
        self.all.back().map(|(step, _)| *step)
    }
}
