//! Upload of a run while it trains.

use crate::folder::{self, Folder};
use crate::online::{Notify, Pace, Upload, UploadMessage, Uploader, notify_run};
use crate::session::Session;
use crate::text::shell;
use bdh::BoxError;
use bdh::lines::short;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// Wait before a notice of it is sent: a shorter one is not worth a line.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Upload of a session's log while it is written.
pub(super) struct LiveUpload(Uploader);

impl LiveUpload {
    /// Starts the upload.
    pub(super) fn start(session: &Session) -> Result<Self, BoxError> {
        let upload = Upload {
            log: session.folder.log(),
            run: session.folder.root.clone(),
            settings: session.settings.clone(),
            pace: Pace::default(),
        };
        Ok(Self(Uploader::start(upload, notify(session))?))
    }

    /// Waits up to `timeout` for the rest of the log to arrive, and reports the result.
    pub(super) fn finish(self, session: &Session, timeout: Duration) {
        let mut is_shown = false;
        let finished = self.0.finish(timeout, |waited| {
            if waited >= SHOWN_AFTER && !std::mem::replace(&mut is_shown, true) {
                session.notice(waiting(session, timeout));
            }
            session.feedback.is_hurried()
        });
        let folder = &session.folder;
        let Some(why) = finished.left else {
            mark_synced(folder);
            return session.notice("wandb: the run is complete on the server");
        };
        let path = shell(&folder.root);
        session.warn("upload", &why, &how_to_send(&path, finished.rows));
    }
}

/// Marks a log that is complete on the server, and deletes the staged files, which have all arrived.
fn mark_synced(folder: &Folder) {
    // `wandb sync` leaves this mark too, and skips a run that has it.
    let _ = folder::create(&folder.synced());
    let _ = fs::remove_dir_all(folder.artifacts());
}

/// Returns the consequence of an incomplete upload: the commands that send the rest.
fn how_to_send(path: &str, rows: u64) -> String {
    let mut text = format!("the log is complete; send it with: wandb sync {path}");
    if rows > 0 {
        text += &format!(
            " (which sends the first {rows} rows again; `bdh wandb sync` sends only the rest)"
        );
    }
    text
}

/// Returns the notice of the wait at the end of a run.
fn waiting(session: &Session, timeout: Duration) -> String {
    let server = &session.settings.base_url;
    let away = short(Pace::default().farewell.min(timeout));
    format!(
        "wandb: waiting for {server} to take the rest of the run: {} at most, {away} while it does not answer; Ctrl-C \
         ends the wait and keeps the log",
        short(timeout)
    )
}

/// Returns a function that forwards the uploader's messages to the run; for a quiet session, failures only.
fn notify(session: &Session) -> Notify {
    let notify = notify_run(session.feedback.clone());
    if session.is_silent() {
        return Arc::new(move |message| match message {
            UploadMessage::Url(_) | UploadMessage::Notice(_) => {}
            message => notify(message),
        });
    }
    notify
}
