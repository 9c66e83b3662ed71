//! Home directories of nanochat among the fixtures, with the results of the original.

#![allow(dead_code, reason = "each test uses its part of it")]

use bdh::burn::tensor::Device;
use bdh::lm::Vocabulary;
use bdh::{NextToken, TokenBatch};
use bdh_models::nanochat::{Gpt, NanochatCheckpoint};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Home directory: `base_checkpoints/<tag>`, and what the original computes.
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    /// Contents of `expected.json`.
    pub(crate) expected: Value,
    tensors: Vec<u8>,
}

impl Home {
    /// Returns every folder `nanochat_home*` in `BDH_FIXTURES` or `../shared/fixtures`; none with a printed line.
    pub(crate) fn all() -> Vec<Self> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
        let root = std::env::var_os("BDH_FIXTURES").map_or_else(|| beside.into(), PathBuf::from);
        let mut dirs = Vec::new();
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let is_home = entry
                .file_name()
                .to_string_lossy()
                .starts_with("nanochat_home");
            if is_home && entry.path().join("expected.json").is_file() {
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

    /// Returns the folder of each model's checkpoints.
    pub(crate) fn tags(&self) -> Vec<PathBuf> {
        let mut tags = Vec::new();
        for entry in fs::read_dir(self.dir.join("base_checkpoints")).expect("a folder") {
            tags.push(entry.expect("a folder").path());
        }
        tags.sort();
        assert!(!tags.is_empty(), "{} has no checkpoint", self.dir.display());
        tags
    }

    /// Returns the bytes and the shape of a tensor of `expected.safetensors`.
    fn tensor(&self, name: &str) -> (Vec<[u8; 4]>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.tensors).expect("a safetensors file");
        let view = file.tensor(name).expect("a tensor of the original");
        let (numbers, _) = view.data().as_chunks::<4>();
        (numbers.to_vec(), view.shape().to_vec())
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        let (numbers, _) = self.tensor(name);
        numbers.into_iter().map(f32::from_le_bytes).collect()
    }

    /// Returns the ids of a list, such as `long.ids`.
    pub(crate) fn ids(&self, name: &str) -> Vec<i32> {
        let (numbers, _) = self.tensor(name);
        numbers.into_iter().map(i32::from_le_bytes).collect()
    }

    /// Returns the batches of a split, `train` or `val`.
    pub(crate) fn batches(&self, split: &str) -> Vec<TokenBatch> {
        let (inputs, shape) = self.tensor(&format!("{split}.inputs"));
        let (targets, _) = self.tensor(&format!("{split}.targets"));
        let [_, rows, seq_len] = shape[..] else {
            panic!("{split}.inputs is {shape:?}");
        };
        let ids = |numbers: &[[u8; 4]]| -> Vec<i32> {
            numbers.iter().map(|id| i32::from_le_bytes(*id)).collect()
        };
        let each = rows * seq_len;
        let pairs = inputs.chunks(each).zip(targets.chunks(each));
        pairs
            .map(|(inputs, targets)| TokenBatch::from_ids(ids(inputs), ids(targets), rows))
            .collect()
    }

    /// Returns the task with the lengths of the tokens, to measure bits per byte.
    pub(crate) fn task(&self) -> NextToken<Gpt> {
        let lengths = self.expected["token_bytes"].as_array().expect("a list");
        let lengths = lengths
            .iter()
            .map(|bytes| bytes.as_u64().expect("a length") as u32);
        NextToken::new().vocabulary(Lengths(lengths.collect()))
    }
}

/// Vocabulary that knows only the number of bytes behind each token.
struct Lengths(Vec<u32>);

impl Vocabulary for Lengths {
    fn encode(&self, _: &str) -> Vec<i32> {
        Vec::new()
    }

    fn decode(&self, _: &[i32]) -> String {
        String::new()
    }

    fn bos(&self) -> Option<i32> {
        None
    }

    fn token_bytes(&self) -> Vec<u32> {
        self.0.clone()
    }
}

/// Loads the newest checkpoint of a folder.
pub(crate) fn newest(tag: &Path) -> NanochatCheckpoint {
    NanochatCheckpoint::find(tag, None).expect("a checkpoint")
}

/// Loads the weights of a checkpoint.
pub(crate) fn load(checkpoint: &NanochatCheckpoint, device: &Device) -> Gpt {
    let config = checkpoint.config().expect("settings of a model");
    checkpoint.load(&config, device).expect("weights that fit")
}
