//! Records of every small size around the edges of blocks, read here and by W&B's own code.

use super::*;
use crate::judges::Judge;

/// Distances of records from the next edge, in bytes.
const BEFORE: [u64; 10] = [0, 1, 6, 7, 8, 14, 15, 50, 107, 120];

/// Log that is made record by record.
struct Made {
    records: Vec<Vec<u8>>,
    /// Offset after each record.
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

    /// Fills the log with one record up to `before` bytes before an edge.
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
fn records_of_0_to_100_bytes_are_read_back_around_every_edge() {
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

    assert_wandb_reads(&made, &path);
}

/// Checks that W&B's own reader finds the same records, if it is installed.
fn assert_wandb_reads(made: &Made, path: &Path) {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    let all = judge.json("wandb_records.py", [path]);
    let all = all.as_array().expect("records");
    assert_eq!(all.len(), made.records.len());
    for (index, (read, record)) in all.iter().zip(&made.records).enumerate() {
        let ours = serde_json::json!([made.ends[index], record.len(), crc32fast::hash(record)]);
        assert_eq!(*read, ours, "record {index}");
    }
}
