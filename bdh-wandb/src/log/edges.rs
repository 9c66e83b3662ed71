//! Records of every small size at every place around the edges of blocks, read by us and by W&B's own code.

use super::*;
use crate::judges::Judge;

/// Where records begin, in bytes before an edge.
const BEFORE: [u64; 10] = [0, 1, 6, 7, 8, 14, 15, 50, 107, 120];

/// A log that is made up record by record.
struct Made {
    records: Vec<Vec<u8>>,
    /// Where each record ends.
    ends: Vec<u64>,
    writer: LogWriter,
}

impl Made {
    fn push(&mut self, len: u64) {
        let salt = self.records.len() as u64;
        let record: Vec<_> = (0..len).map(|byte| (byte * 7 + salt) as u8).collect();
        self.writer.append(&record).expect("space");
        self.records.push(record);
        self.ends.push(self.writer.len());
    }

    /// Fills the log up to so many bytes before an edge.
    fn fill(&mut self, before: u64) {
        let len = self.writer.len();
        let left = BLOCK - len % BLOCK;
        let begin = if left < CHUNK_HEAD { len + left } else { len };
        let edge = (begin + 2 * CHUNK_HEAD + before).next_multiple_of(BLOCK);
        let chunks = (edge - before - 1) / BLOCK - begin / BLOCK + 1;
        self.push(edge - before - begin - chunks * CHUNK_HEAD);
        assert_eq!(self.writer.len(), edge - before);
    }
}

#[test]
fn records_of_0_to_100_bytes_and_one_of_a_megabyte_come_back_around_every_edge() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("run-x.wandb");
    let writer = LogWriter::create(&path).expect("a new log");
    let mut made = Made {
        records: Vec::new(),
        ends: Vec::new(),
        writer,
    };
    made.push(1_000_000);
    for size in 0..=100 {
        for before in BEFORE {
            made.fill(before);
            made.push(size);
        }
    }
    let mut reader = LogReader::open(&path).expect("a log");
    for (record, end) in made.records.iter().zip(&made.ends) {
        assert!(reader.next_record().expect("an undamaged log").as_ref() == Some(record));
        assert_eq!(reader.offset(), *end);
    }
    assert!(reader.next_record().expect("an undamaged log").is_none());

    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let read = judge.json("wandb_records.py", [&path]);
    let read = read.as_array().expect("records");
    assert_eq!(read.len(), made.records.len());
    for (index, (read, record)) in read.iter().zip(&made.records).enumerate() {
        let ours = serde_json::json!([made.ends[index], record.len(), crc32fast::hash(record)]);
        assert_eq!(*read, ours, "record {index}");
    }
}
