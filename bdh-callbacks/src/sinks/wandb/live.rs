//! The upload of a run that goes on.

use super::online::{News, Pace, Tell, Upload, Uploader, tell_run};
use super::session::Session;
use super::text::shell;
use bdh::BoxError;
use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

/// Sends the log of a session while it is written.
pub(super) struct Live(Uploader);

impl Live {
    /// Starts to send.
    pub(super) fn start(session: &Session) -> Result<Self, BoxError> {
        let upload = Upload {
            log: session.folder.log(),
            files: session.folder.files(),
            settings: session.settings.clone(),
            pace: Pace::default(),
        };
        Ok(Self(Uploader::start(upload, tell(session))?))
    }

    /// Waits for the rest of the log to arrive, but no longer than `timeout`, and says how that ended.
    pub(super) fn finish(self, session: &Session, timeout: Duration) {
        let finished = self.0.finish(timeout);
        let folder = &session.folder;
        let Some(why) = finished.left else {
            // As `wandb sync` does, which then passes the run over; and what was kept for it has arrived.
            let _ = File::create(folder.synced());
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
