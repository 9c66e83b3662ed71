//! Checkpoint writing on another thread, while training continues.

use super::{Checkpoint, folder};
use crate::checkpoint::CheckpointRequest;
use crate::error::CheckpointError;
use crate::failure::panic_text;
use crate::flushing::Flushing;
use crate::run_lock::RunLock;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

/// Writer of checkpoints. It writes one state at a time, so at most one copy of the state is in memory.
#[derive(Default)]
pub(crate) struct Saver(Option<Saving>);

enum Saving {
    Running {
        /// The step of the state.
        step: u64,
        /// The folder of checkpoints.
        dir: PathBuf,
        thread: JoinHandle<Saved>,
    },
    Done(Saved),
}

/// A state to write, and the names to write it under.
pub(crate) struct Job {
    /// The folder of checkpoints.
    pub(crate) dir: PathBuf,
    /// The state.
    pub(crate) checkpoint: Checkpoint,
    /// The requests to write it, each with the name of the callback that made it.
    pub(crate) requests: Vec<(String, CheckpointRequest)>,
    /// Number of checkpoints to keep that are not pinned.
    pub(crate) keep: usize,
    /// Flush of the sinks, which must end first: records up to this step must be on the disk before the checkpoint
    /// appears.
    pub(crate) flushing: Flushing,
    /// Lock that shows whether the run directory is still the run's.
    pub(crate) lock: Option<RunLock>,
}

/// Result of writing a checkpoint.
#[derive(Default)]
pub(crate) struct Saved {
    /// The step of the state.
    pub(crate) step: u64,
    /// The checkpoints that are complete now, and whether they are pinned.
    pub(crate) written: Vec<(PathBuf, bool)>,
    /// The requests that failed: the name of the callback, and the error.
    pub(crate) failed: Vec<(String, CheckpointError)>,
    /// Indices of the sinks that did not flush in time.
    pub(crate) late: Vec<usize>,
}

impl Saver {
    /// Starts to write. [`wait`](Self::wait) must be called between two jobs.
    pub(crate) fn begin(&mut self, job: Job) {
        debug_assert!(self.0.is_none(), "one state at a time");
        let (step, dir) = (job.checkpoint.state.clock.step, job.dir.clone());
        // The job is sent after the thread has started: if no thread can be started, it is still here and runs now.
        // One thread for each checkpoint costs little compared to the writing.
        let (sender, receiver) = channel::<Job>();
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || match receiver.recv() {
                Ok(job) => job.run(),
                Err(_) => Saved::default(), // the sender is dropped only after it has sent the job
            });
        self.0 = Some(match thread {
            Ok(thread) => {
                let _ = sender.send(job); // cannot fail: the thread waits for it
                Saving::Running { step, dir, thread }
            }
            Err(_) => Saving::Done(job.run()),
        });
    }

    /// Whether a result is ready.
    pub(crate) fn is_done(&self) -> bool {
        match &self.0 {
            Some(Saving::Running { thread, .. }) => thread.is_finished(),
            Some(Saving::Done(_)) => true,
            None => false,
        }
    }

    /// Waits for the checkpoint being written, if there is one.
    pub(crate) fn wait(&mut self) -> Option<Saved> {
        let saved = match self.0.take()? {
            Saving::Done(saved) => saved,
            Saving::Running { step, dir, thread } => match thread.join() {
                Ok(saved) => saved,
                Err(panic) => Saved::panicked(step, dir, &panic_text(&*panic)),
            },
        };
        Some(saved)
    }
}

impl Saved {
    fn panicked(step: u64, dir: PathBuf, text: &str) -> Self {
        let error = CheckpointError::Io {
            path: dir,
            source: io::Error::other(format!("the writer of the checkpoint panicked: {text}")),
        };
        Self {
            step,
            failed: vec![("checkpoint".to_owned(), error)],
            ..Self::default()
        }
    }
}

impl Job {
    /// Writes the state once for each request, then deletes old checkpoints.
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
