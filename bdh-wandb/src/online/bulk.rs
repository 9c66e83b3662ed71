//! The second thread: files and artifacts, which may take long, while rows and heartbeats go on.

use super::bucket::Place;
use super::ledger::Ledger;
use super::link::{GaveUp, Link};
use super::{artifacts, files};
use crate::proto::Artifact;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;

/// Jobs that may wait; with more of them, reading the log waits too.
const MAX_WAITING: usize = 64;

/// Something to send, and where the entry of the log ends that asks for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) what: What,
    pub(super) end: Option<u64>,
}

#[derive(Debug)]
pub(super) enum What {
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
    /// It is on the server; of a file of the run, its name.
    Sent(Option<String>),
    /// A file of the run that was on the disk no more.
    Gone,
    /// Why it was not taken.
    Failed(String),
}

impl Bulk {
    pub(super) fn start(
        link: Link,
        place: Place,
        run: PathBuf,
        mut ledger: Ledger,
    ) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(MAX_WAITING);
        let (sender, done) = channel();
        thread::Builder::new()
            .name("wandb files".to_owned())
            .spawn(move || work(&link, &place, &run, &mut ledger, &queue, &sender))?;
        Ok(Self {
            jobs: Some(jobs),
            done,
        })
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

/// Tells of a note that could not be saved.
pub(super) fn tell_trouble(link: &Link, ledger: &mut Ledger) {
    if let Some(why) = ledger.trouble() {
        let consequence = "should the upload be broken off, the next one sends everything again";
        let during = "note of what has been sent";
        link.problem(during, during, why, consequence);
    }
}

fn work(
    link: &Link,
    place: &Place,
    run: &Path,
    ledger: &mut Ledger,
    jobs: &Receiver<Job>,
    done: &Sender<Done>,
) {
    let mut away = None; // at the end of the run, which does not wait for ever
    for Job { what, end } in jobs {
        if let Some(why) = &away {
            let _ = done.send(Done::Failed(String::clone(why))); // nobody listens once the run is over
            continue;
        }
        let (kind, name, sent) = match what {
            What::File(name) => {
                let sent = files::send(link, place, run, &name);
                ("upload of a file", format!("file `{name}`"), sent)
            }
            What::Artifact(artifact) => {
                let sent = artifacts::send(link, place, run, &artifact);
                (
                    "upload of an artifact",
                    format!("artifact `{}`", artifact.name),
                    sent,
                )
            }
        };
        let became = match sent {
            Ok(done) => done,
            Err(GaveUp::Stopped) => return,
            Err(GaveUp::Unreachable(why)) => {
                away = Some(why.clone());
                Done::Failed(why)
            }
            Err(GaveUp::Refused(why)) => {
                let consequence = "the run goes on without it there";
                link.problem(kind, &format!("upload of {name}"), why.clone(), consequence);
                Done::Failed(why)
            }
        };
        if let Some(end) = end {
            ledger.settle(end, !matches!(became, Done::Failed(_)));
            tell_trouble(link, ledger);
        }
        let _ = done.send(became); // nobody listens once the run is over
    }
}
