//! Event files: `TFRecord` frames, each a length, a message and a checksum of either.

use super::events::now;
use super::proto::Event;
use crate::sinks::on_disk::{Faults, check_not_deleted};
use bdh::files;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// What every name begins with; then come the time, a host, a process and a number.
const PREFIX: &str = "events.out.tfevents.";

/// Bytes before a message: its length, and the checksum of that.
const HEADER: usize = 12;

/// Bytes of the checksum after a message.
const FOOTER: usize = 4;

/// A file that grows by whole events.
#[derive(Debug)]
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
    /// Bytes of whole frames in the file.
    len: u64,
    /// Frames that are not in the file yet.
    frames: Vec<u8>,
    pub(super) faults: Faults,
}

impl EventFile {
    /// Begins a file that no other writer has, and that readers read after all that are there.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let stamps = event_files(dir)?.into_iter().filter_map(|path| stamp(&path));
        let newest = stamps.max().map_or(0, |newest| newest + 1);
        let stamp = newest.max(now() as u64);
        let process = std::process::id();
        for number in 0.. {
            // A host's name is nobody's business: files are shared.
            let path = dir.join(format!("{PREFIX}{stamp:010}.bdh.{process}.{number}"));
            // For appending: should a resumed run cut this file while we still write, it has no hole.
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let (file, faults) = (opened?, Faults::default());
                    return Ok(Self { file, path, len: 0, frames: Vec::new(), faults });
                }
            }
        }
        unreachable!("some number is free")
    }

    /// Appends events with one `write(2)`: a killed process has written all of them or none. Those that have no room wait
    /// for the next call, up to 16 MiB of them.
    pub(super) fn write(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            push_frame(&mut self.frames, event);
        }
        let written = self.catch_up();
        self.faults.bear(written, self.frames.len())
    }

    /// Writes the frames that wait, or none; what got there of them is taken back.
    fn catch_up(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.len {
            self.file.set_len(self.len)?; // a torn frame: readers would find none of those after it
        }
        if let Err(error) = self.file.write_all(&self.frames) {
            let _ = self.file.set_len(self.len); // the first error is the one to tell
            return Err(error);
        }
        self.len += self.frames.len() as u64;
        self.frames.clear();
        Ok(())
    }

    /// Does the same as [`sync`](Self::sync), but bears a fault of the disk while there is room for what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let synced = self.sync();
        self.faults.bear(synced, self.frames.len())
    }

    /// Waits until everything is on the disk, where a file must not have been deleted.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.catch_up()?;
        check_not_deleted(&self.file, &self.path)?;
        self.file.sync_data()
    }
}

/// The event files of a directory, in the order in which TensorBoard reads them.
pub(super) fn event_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = dir.read_dir()?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = paths.into_iter().filter(|path| stamp(path).is_some()).collect();
    paths.sort();
    Ok(paths)
}

/// The time in a file's name, in seconds since 1970. It has ten digits until 2286; longer ones sort wrongly.
fn stamp(path: &Path) -> Option<u64> {
    let stamp = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('.').next()?;
    stamp.parse().ok().filter(|stamp| *stamp < 9_999_999_999)
}

fn push_frame(frames: &mut Vec<u8>, event: &Event) {
    let start = frames.len();
    frames.extend([0; HEADER]);
    event.encode(frames).expect("a Vec grows as needed");
    let (header, message) = frames[start..].split_at_mut(HEADER);
    let length = (message.len() as u64).to_le_bytes();
    header[..8].copy_from_slice(&length);
    header[8..].copy_from_slice(&masked_crc(&length));
    let crc = masked_crc(message);
    frames.extend(crc);
}

/// TensorFlow's checksum: CRC-32C, changed so that a checksum of data with checksums in it stays good.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The events of a file, each with the place where it begins: up to the end, or to one that is torn or
/// damaged.
pub(super) struct Events {
    file: BufReader<File>,
    place: u64,
    len: u64,
}

impl Events {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let file = files::open(dir, path.file_name().unwrap_or_default())?;
        let len = file.metadata()?.len();
        Ok(Self { file: BufReader::new(file), place: 0, len })
    }
}

impl Iterator for Events {
    type Item = (u64, Event);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u64::from_le_bytes(self.checked(8)?.try_into().ok()?);
        let message = self.checked(length)?;
        let place = self.place;
        self.place += (HEADER + FOOTER) as u64 + length;
        Some((place, Event::decode(&*message).ok()?))
    }
}

impl Events {
    /// The next `count` bytes, if they and their checksum are there and agree.
    fn checked(&mut self, count: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(count).ok().filter(|_| count <= self.len)?];
        let mut crc = [0; 4];
        self.file.read_exact(&mut bytes).ok()?;
        self.file.read_exact(&mut crc).ok()?;
        (masked_crc(&bytes) == crc).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn read(path: &Path) -> Vec<Event> {
        Events::open(path).expect("a file").map(|(_, event)| event).collect()
    }

    fn steps(path: &Path) -> Vec<i64> {
        read(path).iter().map(|event| event.step).collect()
    }

    #[test]
    fn a_torn_or_damaged_file_is_read_up_to_there() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = EventFile::create(dir.path()).expect("a new file");
        for step in 1..=3 {
            file.write(&[Event::values(step, Vec::new())]).expect("space");
        }
        let path = event_files(dir.path()).expect("a directory").remove(0);
        let whole = std::fs::read(&path).expect("the file");
        let places: Vec<_> = Events::open(&path).expect("a file").map(|(place, _)| place).collect();
        assert_eq!(places.len(), 3);
        let last = places[2] as usize;
        for len in last..whole.len() {
            std::fs::write(&path, &whole[..len]).expect("a torn file");
            assert_eq!(steps(&path), [1, 2], "torn after {len} bytes");
        }
        for place in last..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x40;
            std::fs::write(&path, bytes).expect("a damaged file");
            assert_eq!(steps(&path), [1, 2], "damaged at {place}");
        }
        let mut bytes = whole[..last].to_vec();
        bytes.extend([0; 100]);
        std::fs::write(&path, bytes).expect("a file of a machine that lost power");
        assert_eq!(steps(&path), [1, 2]);
    }

    #[test]
    fn writers_in_one_folder_and_second_have_files_of_their_own_in_order() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let begin = |step| {
            let mut file = EventFile::create(dir.path()).expect("a new file");
            file.write(&[Event::session_start(step)]).expect("space");
        };
        (0..4).for_each(begin);
        let files = || event_files(dir.path()).expect("a directory");
        let in_order: Vec<_> = files().iter().flat_map(|path| steps(path)).collect();
        assert_eq!(in_order, [0, 1, 2, 3], "a later file sorts later");

        thread::scope(|scope| {
            for step in 4..20 {
                scope.spawn(move || begin(step));
            }
        });
        let mut all: Vec<_> = files().iter().flat_map(|path| steps(path)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn events_without_room_wait_for_it_and_a_disk_that_stays_full_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = EventFile::create(dir.path()).expect("a new file");
        let full = OpenOptions::new().append(true).open("/dev/full").expect("Linux has one");
        let disk = std::mem::replace(&mut file.file, full);
        for step in 1..=2 {
            file.write(&[Event::values(step, Vec::new())]).expect("room in memory");
        }
        let error = file.sync().expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.flush().expect("hope");
        assert!(file.faults.untold().is_some() && file.faults.untold().is_none(), "told once");
        file.file = disk;
        file.write(&[Event::values(3, Vec::new())]).expect("space");
        assert_eq!(steps(&file.path), [1, 2, 3]);

        std::fs::write(
            &file.path,
            [std::fs::read(&file.path).expect("the file"), vec![7; 9]].concat(),
        )
        .expect("a torn frame that could not be taken back");
        file.write(&[Event::values(4, Vec::new())]).expect("space");
        assert_eq!(steps(&file.path), [1, 2, 3, 4]);
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_was_deleted_is_told_and_one_that_was_moved_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = EventFile::create(dir.path()).expect("a new file");
        let moved = dir.path().join("moved");
        std::fs::rename(&file.path, &moved).expect("a moved file");
        file.write(&[Event::version("bdh")]).expect("space");
        file.sync().expect("a durable event");
        std::fs::remove_file(moved).expect("a deleted file");
        let error = file.sync().expect_err("nobody will see it").to_string();
        assert!(error.ends_with("` has been deleted"), "{error}");
    }

    #[test]
    fn names_that_are_no_event_files_and_times_far_away_are_passed_over() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["metrics.jsonl", "events.out.tfevents.x", "events.out.tfevents.99999999999.a"]
        {
            std::fs::write(dir.path().join(name), "").expect("space");
        }
        EventFile::create(dir.path()).expect("a new file");
        let files = event_files(dir.path()).expect("a directory");
        assert_eq!(files.len(), 1);
        assert!(stamp(&files[0]).is_some_and(|stamp| stamp.abs_diff(now() as u64) < 60));
    }
}
