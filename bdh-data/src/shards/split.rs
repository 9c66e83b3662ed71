//! Shards of a directory, by the names of its files.

use super::TokenShards;
use super::error::ShardError;
use super::header::Header;
use super::shard::read_head;
use crate::left_out::LeftOut;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Token shards of a directory.
#[derive(Debug, Clone)]
pub struct ShardSplit {
    /// Shards with `train` in their names.
    pub train: TokenShards,
    /// Shards with `val` in their names, if there are any.
    pub val: Option<TokenShards>,
    /// Other files, with the reasons.
    pub left_out: LeftOut,
}

/// Paths of shards, sorted by split.
#[derive(Debug, Default)]
struct Found {
    train: Vec<PathBuf>,
    val: Vec<PathBuf>,
    left_out: LeftOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Val,
}

pub(super) fn of_dir(dir: &Path) -> Result<Option<ShardSplit>, ShardError> {
    let found = Found::in_dir(dir)?;
    match (found.train.is_empty(), found.val.first()) {
        (true, None) => Ok(None),
        (true, Some(example)) => Err(ShardError::NoTrain {
            dir: dir.to_owned(),
            example: name(example),
        }),
        (false, _) => found.open().map(Some),
    }
}

impl Found {
    fn in_dir(dir: &Path) -> Result<Self, ShardError> {
        let mut found = Self::default();
        match files(dir) {
            Ok(paths) => paths.into_iter().for_each(|path| found.add(path)),
            Err(source) => {
                let path = dir.to_owned();
                return Err(ShardError::Unreadable { path, source });
            }
        }
        Ok(found)
    }

    fn open(self) -> Result<ShardSplit, ShardError> {
        let train = TokenShards::open(self.train)?;
        let mut val = None;
        if !self.val.is_empty() {
            let shards = TokenShards::open(self.val)?;
            train.first().check_fits(shards.first())?;
            val = Some(shards);
        }
        let left_out = self.left_out;
        Ok(ShardSplit {
            train,
            val,
            left_out,
        })
    }

    /// Sorts a file by its name and its first bytes.
    fn add(&mut self, path: PathBuf) {
        match why_not_a_shard(&path) {
            Some(why) => self.left_out.add(name(&path), why),
            None => match part(&path) {
                Some(Part::Train) => self.train.push(path),
                Some(Part::Val) => self.val.push(path),
                None => {
                    let why = "a token shard with neither `train` nor `val` in its name";
                    self.left_out.add(name(&path), why);
                }
            },
        }
    }
}

/// Returns the reason why a file is no token shard; `None` for one, even if it is damaged.
fn why_not_a_shard(path: &Path) -> Option<String> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if !matches!(extension, Some("bin" | "npy")) {
        return Some("not a token shard".to_owned());
    }
    match read_head(path) {
        Err(error) => Some(error.to_string()),
        Ok((_, head)) => match Header::parse(path, &head) {
            Err(ShardError::NotAShard { found, .. }) => Some(format!("not a token shard: {found}")),
            _ => None,
        },
    }
}

/// Returns the split that the last `train` or `val` between the underscores of a name says.
fn part(path: &Path) -> Option<Part> {
    let stem = path.file_stem()?.to_str()?;
    stem.rsplit('_').find_map(|part| match part {
        "train" => Some(Part::Train),
        "val" => Some(Part::Val),
        _ => None,
    })
}

/// Returns everything in a directory but hidden files and directories, sorted by name.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.is_dir() && !name(&path).starts_with('.') {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_the_split() {
        let part = |name: &str| part(Path::new(name));
        for train in [
            "train_00000.bin",
            "edufineweb_train_000001.npy",
            "TinyStories_train.bin",
        ] {
            assert_eq!(part(train), Some(Part::Train), "{train}");
        }
        for val in [
            "val_00000.bin",
            "fineweb_val_000000.bin",
            "train_set_val_1.bin",
        ] {
            assert_eq!(part(val), Some(Part::Val), "{val}");
        }
        for neither in ["training_0.bin", "data.bin", "eval_0.bin", ".bin"] {
            assert_eq!(part(neither), None, "{neither}");
        }
    }
}
