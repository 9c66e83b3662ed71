//! Writes checkpoints on another thread, while training goes on.

use super::{Checkpoint, folder};
use crate::checkpoint::CheckpointRequest;
use crate::error::CheckpointError;
use crate::failure::panic_text;
use crate::flushing::Flushing;
use crate::run_lock::RunLock;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

/// Writes one state at a time, so that there is never more than one copy of it in memory.
#[derive(Default)]
pub(crate) struct Saver(Option<Saving>);

enum Saving {
    /// The step whose state it is, and the thread.
    Elsewhere(u64, JoinHandle<Saved>),
    Done(Saved),
}

/// What is to be written.
pub(crate) struct Job {
    /// The folder of checkpoints.
    pub(crate) dir: PathBuf,
    /// The state.
    pub(crate) checkpoint: Checkpoint,
    /// Who asked for it, and under which names.
    pub(crate) requests: Vec<(String, CheckpointRequest)>,
    /// How many checkpoints stay that are not pinned.
    pub(crate) keep: usize,
    /// What the checkpoint claims to have recorded must be on the disk before it appears.
    pub(crate) flushing: Flushing,
    /// The run directory must still be the run's.
    pub(crate) lock: Option<RunLock>,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Saved {
    /// The step whose state it was.
    pub(crate) step: u64,
    /// The checkpoints that are complete now, and whether they are pinned.
    pub(crate) written: Vec<(PathBuf, bool)>,
    /// Who did not get one, and why.
    pub(crate) failed: Vec<(String, CheckpointError)>,
    /// The sinks that did not flush in time, by their place.
    pub(crate) late: Vec<usize>,
}

impl Saver {
    /// Begins to write. The job before must have been waited for.
    pub(crate) fn begin(&mut self, job: Job) {
        debug_assert!(self.0.is_none(), "one state at a time");
        // A thread a checkpoint costs nothing against what it writes, and ends with it. It is handed the job when it
        // runs: where the system has no thread to give, the job is still here, and is done before training goes on.
        let step = job.checkpoint.state.clock.step;
        let (hand, taken) = channel::<Job>();
        let work = move || taken.recv().map(Job::run).unwrap_or_default();
        self.0 = Some(
            match thread::Builder::new()
                .name("checkpoint".to_owned())
                .spawn(work)
            {
                Ok(thread) => {
                    let _ = hand.send(job); // the thread waits for it
                    Saving::Elsewhere(step, thread)
                }
                Err(_) => Saving::Done(job.run()),
            },
        );
    }

    /// Whether there is something to be heard without waiting.
    pub(crate) fn is_done(&self) -> bool {
        self.0.as_ref().is_some_and(|saving| match saving {
            Saving::Elsewhere(_, thread) => thread.is_finished(),
            Saving::Done(_) => true,
        })
    }

    /// Waits for what is being written, if anything is.
    pub(crate) fn wait(&mut self) -> Option<Saved> {
        let (step, thread) = match self.0.take()? {
            Saving::Elsewhere(step, thread) => (step, thread),
            Saving::Done(saved) => return Some(saved),
        };
        Some(thread.join().unwrap_or_else(|panic| {
            let what = format!("its writer panicked: {}", panic_text(&*panic));
            let error = CheckpointError::Mismatch {
                path: PathBuf::new(),
                what,
            };
            Saved {
                step,
                failed: vec![("checkpoint".to_owned(), error)],
                ..Saved::default()
            }
        }))
    }
}

impl Job {
    fn run(self) -> Saved {
        let Self {
            dir,
            checkpoint,
            requests,
            keep,
            flushing,
            lock,
        } = self;
        let lock = lock.as_ref();
        let step = checkpoint.state.clock.step;
        let mut saved = Saved {
            step,
            late: flushing.wait(),
            ..Saved::default()
        };
        for (by, CheckpointRequest { name, pinned }) in requests {
            let path = dir.join(name);
            match checkpoint.write_in_run(&path, pinned, lock) {
                Ok(()) => saved.written.push((path, pinned)),
                Err(error) => saved.failed.push((by, error)),
            }
        }
        if let Err(source) = folder::rotate(&dir, keep, lock) {
            let error = CheckpointError::Io { path: dir, source };
            saved.failed.push(("rotation".to_owned(), error));
        }
        saved
    }
}
