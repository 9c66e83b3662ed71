//! Event files: `TFRecord` frames, each a length, a message and a checksum of each.

use crate::events::now;
use crate::proto::Event;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
#[cfg(any(test, feature = "sink"))]
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Prefix of every file name, which continues with the time, a writer, a process and a number.
const PREFIX: &str = "events.out.tfevents.";

/// Bytes before a message: its length (8) and the checksum of the length (4).
const HEADER: usize = 12;

/// Bytes of the checksum after a message.
#[cfg(any(test, feature = "sink"))]
const FOOTER: usize = 4;

/// Bound on time stamps: names are ordered as text, so a stamp of eleven digits would sort wrongly.
const MAX_STAMP: u64 = 9_999_999_999;

/// Event file that grows by whole events.
#[derive(Debug)]
pub(crate) struct EventFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Bytes of whole frames in the file.
    len: u64,
    /// Frames that have not been written yet.
    frames: Vec<u8>,
}

impl EventFile {
    /// Creates a file that no other writer uses, and that readers read after all existing ones.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let stamp = next_stamp(dir)?;
        let process = std::process::id();
        for number in 0.. {
            // TensorFlow writes the host's name here. Event files are shared, so it is left out.
            let path = dir.join(format!("{PREFIX}{stamp:010}.bdh.{process}.{number}"));
            // Opened for appending, so that no hole appears if a resumed run cuts the file under a live writer.
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        len: 0,
                        frames: Vec::new(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("a directory has fewer files than there are numbers")
    }

    /// Appends events with one `write(2)`, so that a killed process has written all of them or none.
    ///
    /// Events that could not be written are kept for the next call.
    pub(crate) fn write(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            push_frame(&mut self.frames, event);
        }
        self.catch_up()
    }

    /// Writes all pending frames, or none of them: a part that was written is cut off again.
    pub(crate) fn catch_up(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.len {
            self.file.set_len(self.len)?; // readers stop at a torn frame and miss everything after it
        }
        if let Err(error) = self.file.write_all(&self.frames) {
            let _ = self.file.set_len(self.len); // the first error is the one to report
            return Err(error);
        }
        self.len += self.frames.len() as u64;
        self.frames.clear();
        Ok(())
    }

    /// Returns the size of the pending frames, in bytes.
    #[cfg(feature = "sink")]
    pub(crate) fn pending(&self) -> usize {
        self.frames.len()
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.catch_up()?;
        self.file.sync_data()
    }
}

/// Returns the current time in seconds since 1970, or a later one that sorts after every existing file.
fn next_stamp(dir: &Path) -> io::Result<u64> {
    let mut next = now() as u64;
    for path in event_files(dir)? {
        if let Some(stamp) = stamp(&path) {
            next = next.max(stamp + 1);
        }
    }
    Ok(next)
}

/// Returns the event files of a directory in the order in which TensorBoard reads them.
pub(crate) fn event_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        if stamp(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Returns the time in a file's name, in seconds since 1970; `None` for a file of another kind.
fn stamp(path: &Path) -> Option<u64> {
    let rest = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let stamp = rest.split('.').next()?.parse().ok()?;
    (stamp < MAX_STAMP).then_some(stamp)
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

/// Returns TensorFlow's checksum: a CRC-32C, rotated and offset.
///
/// A plain CRC of data that contains CRCs is weak. Source: `masked_crc` in TensorFlow's `tsl/lib/hash/crc32c.h`.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
        .to_le_bytes()
}

/// Iterator over the events of a file, each with its offset in bytes; it stops at a torn or damaged one.
#[cfg(any(test, feature = "sink"))]
pub(crate) struct Events {
    file: BufReader<File>,
    /// Offset of the next event.
    place: u64,
    len: u64,
}

#[cfg(any(test, feature = "sink"))]
impl Events {
    /// Reads the events of a file that is open for reading.
    pub(crate) fn of(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            file: BufReader::new(file),
            place: 0,
            len,
        })
    }
}

#[cfg(any(test, feature = "sink"))]
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

#[cfg(any(test, feature = "sink"))]
impl Events {
    /// Reads the next `count` bytes and their checksum; `None` if either is missing or they disagree.
    fn checked(&mut self, count: u64) -> Option<Vec<u8>> {
        if count > self.len {
            return None; // a damaged length must not allocate more than the file has
        }
        let mut bytes = vec![0; usize::try_from(count).ok()?];
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

    fn events(path: &Path) -> Events {
        Events::of(File::open(path).expect("a file")).expect("a file")
    }

    fn steps(path: &Path) -> Vec<i64> {
        events(path).map(|(_, event)| event.step).collect()
    }

    #[test]
    fn torn_or_damaged_file_is_read_up_to_the_damage() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = EventFile::create(dir.path()).expect("a new file");
        for step in 1..=3 {
            file.write(&[Event::values(step, Vec::new())])
                .expect("space");
        }
        let path = event_files(dir.path()).expect("a directory").remove(0);
        let whole = std::fs::read(&path).expect("the file");
        let places: Vec<_> = events(&path).map(|(place, _)| place).collect();
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
        std::fs::write(&path, bytes).expect("a file left by a power cut");
        assert_eq!(steps(&path), [1, 2]);
    }

    #[test]
    fn concurrent_writers_get_separate_files_in_order() {
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
    fn other_file_names_and_far_times_are_skipped() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in [
            "metrics.jsonl",
            "events.out.tfevents.x",
            "events.out.tfevents.99999999999.a",
        ] {
            std::fs::write(dir.path().join(name), "").expect("space");
        }
        EventFile::create(dir.path()).expect("a new file");
        let files = event_files(dir.path()).expect("a directory");
        assert_eq!(files.len(), 1);
        assert!(stamp(&files[0]).is_some_and(|stamp| stamp.abs_diff(now() as u64) < 60));
    }
}
