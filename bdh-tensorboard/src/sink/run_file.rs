//! Event file of a run, which tolerates a disk that is full for a while and reports its own deletion.

use crate::event_file::EventFile;
use crate::proto::Event;
use bdh::files::{Faults, check_not_deleted};
use std::io;
use std::path::Path;

/// Event file that tolerates disk faults.
#[derive(Debug)]
pub(super) struct RunFile {
    file: EventFile,
    pub(super) faults: Faults,
}

impl RunFile {
    /// Creates a file that no other writer uses.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            file: EventFile::create(dir)?,
            faults: Faults::default(),
        })
    }

    /// Appends events; those that could not be written are kept for the next call, up to 16 MiB.
    pub(super) fn write(&mut self, events: &[Event]) -> io::Result<()> {
        let written = self.file.write(events);
        self.faults.tolerate(written, self.file.pending())
    }

    /// Syncs like [`sync`](Self::sync), but tolerates a disk fault while the pending events fit in memory.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let synced = self.sync();
        self.faults.tolerate(synced, self.file.pending())
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or has been deleted.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.catch_up()?;
        check_not_deleted(&self.file.file, &self.file.path)?;
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::rewind;
    use std::fs::OpenOptions;

    fn steps(file: &RunFile) -> Vec<i64> {
        let events = rewind::open(&file.file.path).expect("a file");
        events.map(|(_, event)| event.step).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn events_wait_for_a_full_disk_until_sync_fails() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = RunFile::create(dir.path()).expect("a new file");
        let full = OpenOptions::new()
            .append(true)
            .open("/dev/full")
            .expect("Linux has one");
        let disk = std::mem::replace(&mut file.file.file, full);
        for step in 1..=2 {
            file.write(&[Event::values(step, Vec::new())])
                .expect("room in memory");
        }
        let error = file.sync().expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.flush().expect("room in memory");
        assert!(
            file.faults.unreported().is_some() && file.faults.unreported().is_none(),
            "reported once"
        );
        file.file.file = disk;
        file.write(&[Event::values(3, Vec::new())]).expect("space");
        assert_eq!(steps(&file), [1, 2, 3]);

        std::fs::write(
            &file.file.path,
            [
                std::fs::read(&file.file.path).expect("the file"),
                vec![7; 9],
            ]
            .concat(),
        )
        .expect("a torn frame");
        file.write(&[Event::values(4, Vec::new())]).expect("space");
        assert_eq!(steps(&file), [1, 2, 3, 4]);
    }

    #[test]
    #[cfg(unix)]
    fn deleted_file_is_an_error_and_a_moved_one_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = RunFile::create(dir.path()).expect("a new file");
        let moved = dir.path().join("moved");
        std::fs::rename(&file.file.path, &moved).expect("a moved file");
        file.write(&[Event::version("bdh")]).expect("space");
        file.sync().expect("a durable event");
        std::fs::remove_file(moved).expect("a deleted file");
        let error = file.sync().expect_err("the file is deleted").to_string();
        assert!(error.ends_with("` has been deleted"), "{error}");
    }
}
