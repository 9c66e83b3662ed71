//! The second thread: files and artifacts, which may take long, while rows and heartbeats go on.

use super::bucket::Place;
use super::link::{GaveUp, Link};
use super::{artifacts, files};
use crate::sinks::wandb::proto::Artifact;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;

/// Jobs that may wait; with more of them, reading the log waits too.
const MAX_WAITING: usize = 64;

/// Something to send.
#[derive(Debug)]
pub(super) enum Job {
    /// A file of the run, by its name in the folder of files.
    File(String),
    Artifact(Box<Artifact>),
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Bulk {
    /// Gone once no job comes any more.
    jobs: Option<SyncSender<Job>>,
    /// What became of each job; closed once all are done.
    pub(super) done: Receiver<Done>,
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Done {
    Sent(Option<String>),
    Failed,
}

impl Bulk {
    pub(super) fn start(link: Link, place: Place, files: PathBuf) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(MAX_WAITING);
        let (sender, done) = channel();
        thread::Builder::new()
            .name("wandb files".to_owned())
            .spawn(move || work(&link, &place, &files, &queue, &sender))?;
        Ok(Self { jobs: Some(jobs), done })
    }

    /// Hands over a job; it comes back if there are too many already.
    pub(super) fn take(&self, job: Job) -> Option<Job> {
        match self.jobs.as_ref()?.try_send(job) {
            Err(TrySendError::Full(job)) => Some(job),
            _ => None, // a thread that has ended has told why
        }
    }

    /// No job comes any more.
    pub(super) fn close(&mut self) {
        self.jobs = None;
    }
}

fn work(
    link: &Link,
    place: &Place,
    files: &std::path::Path,
    jobs: &Receiver<Job>,
    done: &Sender<Done>,
) {
    for job in jobs {
        let (what, sent) = match job {
            Job::File(name) => {
                let sent = files::send(link, place, files, &name);
                (format!("file `{name}`"), sent.map(|is_sent| is_sent.then_some(name)))
            }
            Job::Artifact(artifact) => {
                let sent = artifacts::send(link, place, &artifact);
                (format!("artifact `{}`", artifact.name), sent.map(|()| None))
            }
        };
        let became = match sent {
            Ok(name) => Done::Sent(name),
            Err(GaveUp::Stopped) => return,
            Err(GaveUp::Refused(why) | GaveUp::Unreachable(why)) => {
                link.problem(&format!("upload of {what}"), why, "the run goes on without it there");
                Done::Failed
            }
        };
        let _ = done.send(became); // nobody listens once the run is over
    }
}
