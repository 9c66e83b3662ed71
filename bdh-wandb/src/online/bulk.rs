//! The second thread, which sends files and artifacts.
//!
//! They may take long, and rows and heartbeats must not wait for them.

use super::bucket::Place;
use super::ledger::Ledger;
use super::link::{GaveUp, Link};
use super::{artifacts, files};
use crate::proto::Artifact;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;

/// Jobs that may be queued; if there are more, reading the log pauses.
const MAX_WAITING: usize = 64;

/// File or artifact to send.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) payload: Payload,
    /// Offset in the log after the entry that asks for it; `None` for a file without an entry.
    pub(super) end: Option<u64>,
}

/// Content of a job.
#[derive(Debug)]
pub(super) enum Payload {
    /// File of the run, by its name in the folder of files.
    File(String),
    Artifact(Box<Artifact>),
}

/// Handle of the second thread.
#[derive(Debug)]
pub(super) struct Bulk {
    /// Queue of jobs; dropped when no more follow, which ends the thread.
    jobs: Option<SyncSender<Job>>,
    /// Results of the jobs; closed once all are done.
    pub(super) done: Receiver<Done>,
}

/// Result of a job.
#[derive(Debug)]
pub(super) enum Done {
    /// The server has it; a file of the run comes with its name.
    Sent(Option<String>),
    /// The file of the run no longer exists.
    Gone,
    /// The server did not accept it, with the reason.
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

    /// Queues a job; returns it if the queue is full.
    pub(super) fn take(&self, job: Job) -> Option<Job> {
        match self.jobs.as_ref()?.try_send(job) {
            Err(TrySendError::Full(job)) => Some(job),
            _ => None, // a thread that has ended has sent its reason
        }
    }

    /// Ends the thread after the queued jobs.
    pub(super) fn close(&mut self) {
        self.jobs = None;
    }
}

/// Sends a warning if the note could not be saved.
pub(super) fn warn_of_note(link: &Link, ledger: &mut Ledger) {
    if let Some(why) = ledger.take_error() {
        let phase = "note of what has been sent";
        let consequence = "if the upload is interrupted, the next one sends everything again";
        link.warn(phase, phase, why, consequence);
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
    // Set when the server is away at the end of the run: the remaining jobs fail without another wait.
    let mut unreachable: Option<String> = None;
    for Job { payload, end } in jobs {
        if let Some(why) = &unreachable {
            let _ = done.send(Done::Failed(why.clone())); // fails if the uploader has ended
            continue;
        }
        let result = match payload.send(link, place, run) {
            Ok(done) => done,
            Err(GaveUp::Stopped) => return,
            Err(GaveUp::Unreachable(why)) => {
                unreachable = Some(why.clone());
                Done::Failed(why)
            }
            Err(GaveUp::Refused(why)) => {
                warn_of_refusal(link, &payload, why.clone());
                Done::Failed(why)
            }
        };
        if let Some(end) = end {
            ledger.record(end, !matches!(result, Done::Failed(_)));
            warn_of_note(link, ledger);
        }
        let _ = done.send(result); // fails if the uploader has ended
    }
}

impl Payload {
    fn send(&self, link: &Link, place: &Place, run: &Path) -> Result<Done, GaveUp> {
        match self {
            Self::File(name) => files::send(link, place, run, name),
            Self::Artifact(artifact) => artifacts::send(link, place, run, artifact),
        }
    }
}

fn warn_of_refusal(link: &Link, payload: &Payload, why: String) {
    let (kind, phase) = match payload {
        Payload::File(name) => ("upload of a file", format!("upload of file `{name}`")),
        Payload::Artifact(artifact) => (
            "upload of an artifact",
            format!("upload of artifact `{}`", artifact.name),
        ),
    };
    link.warn(
        kind,
        &phase,
        why,
        "the run continues without it on the server",
    );
}
