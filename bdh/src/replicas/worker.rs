//! Worker threads that own a value and run jobs on it.

use crate::failure::panic_text;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns an `S` and runs jobs on it, one after another.
pub(super) struct Worker<S> {
    /// Set to `None` to end the thread: it ends when the channel is closed.
    jobs: Option<Sender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
}

/// Failure of a job: the text of its panic, or the end of its thread.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct JobError(pub(super) String);

/// The future answer to a job.
pub(super) struct Pending<R>(Receiver<Result<R, JobError>>);

impl<S: Send + 'static> Worker<S> {
    /// Starts a thread with this name.
    pub(super) fn start(name: String, mut owned: S) -> std::io::Result<Self> {
        let (jobs, queue) = channel::<Job<S>>();
        let thread = thread::Builder::new().name(name).spawn(move || {
            for job in queue {
                job(&mut owned);
            }
        })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Sends a job to the thread. If the job panics, the text of the panic is the answer.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Pending<R> {
        let (answer, pending) = channel();
        let job = move |owned: &mut S| {
            // The job is consumed, and so drops what it holds, before the answer is sent.
            let result = catch_unwind(AssertUnwindSafe(|| job(owned)));
            let _ = answer.send(result.map_err(|panic| JobError(panic_text(&*panic))));
        };
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Box::new(job)); // if the thread is gone, `wait` reports it
        }
        Pending(pending)
    }
}

impl<R> Pending<R> {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// [`JobError`] if the job panicked.
    pub(super) fn wait(self) -> Result<R, JobError> {
        match self.0.recv() {
            Ok(answer) => answer,
            Err(_) => Err(JobError("its thread has ended".to_owned())),
        }
    }
}

impl<S> Worker<S> {
    /// Detaches the thread, so that drop does not join it: it may be blocked forever in a collective.
    pub(super) fn abandon(&mut self) {
        self.thread = None;
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // no panic can escape: each job's is caught
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_runs_its_jobs_in_order_and_survives_a_panic() {
        let worker = Worker::start("test".to_owned(), Vec::new()).expect("a thread");
        let first = worker.ask(|list| list.push(1));
        let broken = worker.ask(|_: &mut Vec<i32>| -> i32 { panic!("out of {}", "paper") });
        let second = worker.ask(|list| {
            list.push(2);
            list.clone()
        });
        assert_eq!(first.wait(), Ok(()));
        assert_eq!(broken.wait(), Err(JobError("out of paper".to_owned())));
        assert_eq!(second.wait(), Ok(vec![1, 2]));
    }

    #[test]
    fn a_job_drops_what_it_holds_before_it_is_answered() {
        let worker = Worker::start("test".to_owned(), ()).expect("a thread");
        for _ in 0..200 {
            let mut shared = std::sync::Arc::new(0);
            let held = std::sync::Arc::clone(&shared);
            assert_eq!(worker.ask(move |()| *held).wait(), Ok(0));
            assert!(std::sync::Arc::get_mut(&mut shared).is_some());
        }
    }
}
