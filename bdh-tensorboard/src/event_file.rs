//! Event files: `TFRecord` frames, each a length, a message and a checksum of either.

use crate::events::now;
use crate::proto::Event;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
#[cfg(any(test, feature = "sink"))]
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// What every name begins with; then come the time, a host, a process and a number.
const PREFIX: &str = "events.out.tfevents.";

/// Bytes before a message: its length, and the checksum of that.
const HEADER: usize = 12;

/// Bytes of the checksum after a message.
#[cfg(any(test, feature = "sink"))]
const FOOTER: usize = 4;

/// A file that grows by whole events.
#[derive(Debug)]
pub(crate) struct EventFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Bytes of whole frames in the file.
    len: u64,
    /// Frames that are not in the file yet.
    frames: Vec<u8>,
}

impl EventFile {
    /// Begins a file that no other writer has, and that readers read after all that are there.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let stamps = event_files(dir)?
            .into_iter()
            .filter_map(|path| stamp(&path));
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
                    return Ok(Self {
                        file: opened?,
                        path,
                        len: 0,
                        frames: Vec::new(),
                    });
                }
            }
        }
        unreachable!("some number is free")
    }

    /// Appends events with one `write(2)`: a killed process has written all of them or none. Those that have no room wait
    /// for the next call.
    pub(crate) fn write(&mut self, events: &[Event]) -> io::Result<()> {
        for event in events {
            push_frame(&mut self.frames, event);
        }
        self.catch_up()
    }

    /// Writes the frames that wait, or none; what got there of them is taken back.
    pub(crate) fn catch_up(&mut self) -> io::Result<()> {
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

    /// Bytes of the frames that wait.
    #[cfg(feature = "sink")]
    pub(crate) fn waiting(&self) -> usize {
        self.frames.len()
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.catch_up()?;
        self.file.sync_data()
    }
}

/// The event files of a directory, in the order in which TensorBoard reads them.
pub(crate) fn event_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = dir
        .read_dir()?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = paths
        .into_iter()
        .filter(|path| stamp(path).is_some())
        .collect();
    paths.sort();
    Ok(paths)
}

/// The time in a file's name, in seconds since 1970. It has ten digits until 2286; longer ones sort wrongly.
fn stamp(path: &Path) -> Option<u64> {
    let stamp = path
        .file_name()?
        .to_str()?
        .strip_prefix(PREFIX)?
        .split('.')
        .next()?;
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
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
        .to_le_bytes()
}

/// The events of a file, each with the place where it begins: up to the end, or to one that is torn or
/// damaged.
#[cfg(any(test, feature = "sink"))]
pub(crate) struct Events {
    file: BufReader<File>,
    place: u64,
    len: u64,
}

#[cfg(any(test, feature = "sink"))]
impl Events {
    /// The events of a file that is open for reading.
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

    fn events(path: &Path) -> Events {
        Events::of(File::open(path).expect("a file")).expect("a file")
    }

    fn steps(path: &Path) -> Vec<i64> {
        events(path).map(|(_, event)| event.step).collect()
    }

    #[test]
    fn a_torn_or_damaged_file_is_read_up_to_there() {
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
    fn names_that_are_no_event_files_and_times_far_away_are_passed_over() {
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
