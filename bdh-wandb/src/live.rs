//! The upload of a run that goes on.

use crate::folder;
use crate::online::{News, Pace, Tell, Upload, Uploader, tell_run};
use crate::session::Session;
use crate::text::shell;
use bdh::BoxError;
use bdh::lines::short;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// A wait that is shorter is not worth a line.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Sends the log of a session while it is written.
pub(super) struct Live(Uploader);

impl Live {
    /// Starts to send.
    pub(super) fn start(session: &Session) -> Result<Self, BoxError> {
        let upload = Upload {
            log: session.folder.log(),
            run: session.folder.root.clone(),
            settings: session.settings.clone(),
            pace: Pace::default(),
        };
        Ok(Self(Uploader::start(upload, tell(session))?))
    }

    /// Waits for the rest of the log to arrive, but no longer than `timeout`, and says how that ended.
    pub(super) fn finish(self, session: &Session, timeout: Duration) {
        let mut is_shown = false;
        let finished = self.0.finish(timeout, |waited| {
            if waited >= SHOWN_AFTER && !std::mem::replace(&mut is_shown, true) {
                session.say(waiting(session, timeout));
            }
            session.feedback.is_hurried()
        });
        let folder = &session.folder;
        let Some(why) = finished.left else {
            // As `wandb sync` does, which then passes the run over; and what was kept for it has arrived.
            let _ = folder::create(&folder.synced());
            let _ = fs::remove_dir_all(folder.artifacts());
            return session.say("wandb: the run is complete on the server");
        };
        let sync = format!("wandb sync {}", shell(&folder.root));
        let consequence = match finished.rows {
            0 => format!("the log is complete; send it with: {sync}"),
            rows => format!(
                "the log is complete; send it with: {sync} (which sends the first {rows} rows again; \
                 bdh_callbacks::wandb::sync sends the rest alone)"
            ),
        };
        session.tell("upload", &why, &consequence);
    }
}

/// The wait at the end of a run: for what, and how long.
fn waiting(session: &Session, timeout: Duration) -> String {
    let server = &session.settings.base_url;
    let away = short(Pace::default().farewell.min(timeout));
    format!(
        "wandb: waiting for {server} to take the rest of the run: {} at most, {away} while it does not answer; Ctrl-C \
         ends the wait, and the log stays",
        short(timeout)
    )
}

/// Passes on what the uploader has to say; where the user wants silence, only what failed.
fn tell(session: &Session) -> Tell {
    let tell = tell_run(session.feedback.clone());
    if session.is_silent() {
        return Arc::new(move |news| match news {
            News::Url(_) | News::Remark(_) => {}
            news => tell(news),
        });
    }
    tell
}
