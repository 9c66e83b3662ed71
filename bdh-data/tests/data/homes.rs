//! Home directories of nanochat among the fixtures, with the results of the original.
//!
//! The folder is `BDH_FIXTURES`, or `../shared/fixtures` next to the workspace. Without it a test is skipped with a line.

use bdh_data::Tokenizer;
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Home directory: data, tokenizer, and what the original makes of them.
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    /// Contents of `expected.json`.
    pub(crate) expected: Value,
    tensors: Vec<u8>,
}

impl Home {
    /// Returns every folder `nanochat_home*`.
    pub(crate) fn all() -> Vec<Self> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
        let root = std::env::var_os("BDH_FIXTURES").map_or_else(|| beside.into(), PathBuf::from);
        let mut dirs = Vec::new();
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("nanochat_home") {
                dirs.push(entry.path());
            }
        }
        if dirs.is_empty() {
            let root = root.display();
            eprintln!("skipped: no nanochat_home in {root}; set BDH_FIXTURES to its folder");
        }
        dirs.sort();
        dirs.into_iter().map(Self::read).collect()
    }

    fn read(dir: PathBuf) -> Self {
        let expected = fs::read(dir.join("expected.json")).expect("a home has an expected.json");
        Self {
            expected: serde_json::from_slice(&expected).expect("expected.json is JSON"),
            tensors: fs::read(dir.join("expected.safetensors")).expect("a home has tensors"),
            dir,
        }
    }

    /// Returns the folder with the parquet files.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("base_data_climbmix")
    }

    pub(crate) fn tokenizer(&self) -> Tokenizer {
        Tokenizer::load(&self.dir.join("tokenizer")).expect("a tokenizer")
    }

    /// Returns the targets of the batches of a split, `[batch][id]`, and the shape of a batch.
    pub(crate) fn targets(&self, split: &str) -> (Vec<Vec<i32>>, [usize; 2]) {
        let file = SafeTensors::deserialize(&self.tensors).expect("a safetensors file");
        let view = file.tensor(&format!("{split}.targets")).expect("targets");
        let [_, rows, seq_len] = view.shape()[..] else {
            panic!("{split}.targets is {:?}", view.shape());
        };
        let (numbers, _) = view.data().as_chunks::<4>();
        let ids: Vec<i32> = numbers.iter().map(|id| i32::from_le_bytes(*id)).collect();
        (
            ids.chunks(rows * seq_len).map(<[i32]>::to_vec).collect(),
            [rows, seq_len],
        )
    }
}

/// Returns the ids of a list in `expected.json`.
pub(crate) fn ids(list: &Value) -> Vec<i32> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|id| id.as_i64().expect("an id") as i32)
        .collect()
}
