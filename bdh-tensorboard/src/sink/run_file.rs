//! The event file of a run: a disk that is full for a while ends nothing, and a file that was deleted is told.

use crate::event_file::EventFile;
use crate::proto::Event;
use bdh::files::{Faults, check_not_deleted};
use std::io;
use std::path::Path;

/// A file that bears faults of the disk.
#[derive(Debug)]
pub(super) struct RunFile {
    file: EventFile,
    pub(super) faults: Faults,
}

impl RunFile {
    /// Begins a file that no other writer has.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            file: EventFile::create(dir)?,
            faults: Faults::default(),
        })
    }

    /// Appends events. Those that have no room wait for the next call, up to 16 MiB of them.
    pub(super) fn write(&mut self, events: &[Event]) -> io::Result<()> {
        let written = self.file.write(events);
        self.faults.bear(written, self.file.waiting())
    }

    /// Does the same as [`sync`](Self::sync), but bears a fault of the disk while there is room for what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let synced = self.sync();
        self.faults.bear(synced, self.file.waiting())
    }

    /// Waits until everything is on the disk, where a file must not have been deleted.
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
    fn events_without_room_wait_for_it_and_a_disk_that_stays_full_is_an_error() {
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
        file.flush().expect("hope");
        assert!(
            file.faults.untold().is_some() && file.faults.untold().is_none(),
            "told once"
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
        .expect("a torn frame that could not be taken back");
        file.write(&[Event::values(4, Vec::new())]).expect("space");
        assert_eq!(steps(&file), [1, 2, 3, 4]);
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_was_deleted_is_told_and_one_that_was_moved_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = RunFile::create(dir.path()).expect("a new file");
        let moved = dir.path().join("moved");
        std::fs::rename(&file.file.path, &moved).expect("a moved file");
        file.write(&[Event::version("bdh")]).expect("space");
        file.sync().expect("a durable event");
        std::fs::remove_file(moved).expect("a deleted file");
        let error = file.sync().expect_err("nobody will see it").to_string();
        assert!(error.ends_with("` has been deleted"), "{error}");
    }
}
