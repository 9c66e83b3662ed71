//! A thread that owns something, and does with it what it is asked.

use crate::failure::panic_text;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns an `S`. It does its jobs one after the other.
pub(super) struct Worker<S> {
    /// `None` at the end: then the thread ends.
    jobs: Option<Sender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
}

/// The answer to a job, which the worker may still be at.
pub(super) struct Pending<R>(Receiver<Result<R, String>>);

impl<S: Send + 'static> Worker<S> {
    /// Starts a thread of this name.
    pub(super) fn start(name: String, mut owned: S) -> std::io::Result<Self> {
        let (jobs, orders) = channel::<Job<S>>();
        let work = move || orders.into_iter().for_each(|job| job(&mut owned));
        let thread = thread::Builder::new().name(name).spawn(work)?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Has it do something; what it panics with is its answer.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Pending<R> {
        let (answer, pending) = channel();
        let job = move |owned: &mut S| {
            // All that the job holds is let go of before it is answered.
            let result = catch_unwind(AssertUnwindSafe(|| job(owned)));
            let _ = answer.send(result.map_err(|panic| panic_text(&*panic)));
        };
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Box::new(job)); // a thread that is gone answers nothing, which `wait` tells
        }
        Pending(pending)
    }
}

impl<R> Pending<R> {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// What the job panicked with.
    pub(super) fn wait(self) -> Result<R, String> {
        self.0
            .recv()
            .unwrap_or_else(|_| Err("its thread is gone".to_owned()))
    }
}

impl<S> Worker<S> {
    /// Lets the thread end by itself: it may be waiting for a device that another replica keeps busy forever.
    pub(super) fn abandon(&mut self) {
        self.thread = None;
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its jobs' panics have been caught
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_does_its_jobs_in_order_and_survives_a_panic() {
        let worker = Worker::start("test".to_owned(), Vec::new()).expect("a thread");
        let first = worker.ask(|list| list.push(1));
        let broken = worker.ask(|_: &mut Vec<i32>| -> i32 { panic!("out of {}", "paper") });
        let second = worker.ask(|list| {
            list.push(2);
            list.clone()
        });
        assert_eq!(first.wait(), Ok(()));
        assert_eq!(broken.wait(), Err("out of paper".to_owned()));
        assert_eq!(second.wait(), Ok(vec![1, 2]));
    }

    #[test]
    fn what_a_job_holds_is_free_before_it_is_answered() {
        let worker = Worker::start("test".to_owned(), ()).expect("a thread");
        for _ in 0..200 {
            let mut shared = std::sync::Arc::new(0);
            let held = std::sync::Arc::clone(&shared);
            assert_eq!(worker.ask(move |()| *held).wait(), Ok(0));
            assert!(std::sync::Arc::get_mut(&mut shared).is_some());
        }
    }
}
