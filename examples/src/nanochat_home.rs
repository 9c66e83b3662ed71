//! Home directory of nanochat, with its data, tokenizer and checkpoints.

use std::env;
use std::path::{Path, PathBuf};

/// Home directory of nanochat: `NANOCHAT_BASE_DIR`, or `~/.cache/nanochat`.
///
/// | in it | method |
/// |---|---|
/// | `base_data_climbmix/`, or `datasets/<name>/` with `NANOCHAT_DATASET` | [`data_dir`](Self::data_dir) |
/// | `tokenizer/` | [`tokenizer_dir`](Self::tokenizer_dir) |
/// | `base_checkpoints/<tag>/` | [`checkpoints`](Self::checkpoints) |
/// | `eval_bundle/` | [`eval_bundle`](Self::eval_bundle) |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NanochatHome {
    /// The directory.
    pub dir: PathBuf,
}

impl NanochatHome {
    /// Returns the home of `NANOCHAT_BASE_DIR`, or the usual one if it exists.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        Self::given().or_else(|| Self::usual(&env::home_dir()?))
    }

    /// Returns the home of `NANOCHAT_BASE_DIR`. An empty variable counts as unset.
    #[must_use]
    pub fn given() -> Option<Self> {
        let dir = env::var_os("NANOCHAT_BASE_DIR").filter(|dir| !dir.is_empty())?;
        Some(Self { dir: dir.into() })
    }

    /// Returns nanochat's default home below a user's home, if it exists.
    fn usual(user: &Path) -> Option<Self> {
        let dir = user.join(".cache").join("nanochat");
        dir.is_dir().then_some(Self { dir })
    }

    /// Returns the directory of the data, which may not exist.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_of(env::var("NANOCHAT_DATASET").ok().as_deref())
    }

    /// Returns the directory of a data set by name; without a name, that of ClimbMix as master or the next version
    /// downloads it.
    fn data_of(&self, name: Option<&str>) -> PathBuf {
        let datasets = self.dir.join("datasets");
        let climbmix = self.dir.join("base_data_climbmix");
        match name {
            Some(name) if !name.is_empty() => datasets.join(name),
            _ if datasets.join("climbmix").is_dir() && !climbmix.is_dir() => {
                datasets.join("climbmix")
            }
            _ => climbmix,
        }
    }

    /// Returns the directory of the tokenizer, which may not exist.
    #[must_use]
    pub fn tokenizer_dir(&self) -> PathBuf {
        self.dir.join("tokenizer")
    }

    /// Returns the directory of a model's checkpoints, which may not exist.
    #[must_use]
    pub fn checkpoints(&self, tag: &str) -> PathBuf {
        self.dir.join("base_checkpoints").join(tag)
    }

    /// Returns the directory with CORE's tasks, which may not exist.
    #[must_use]
    pub fn eval_bundle(&self) -> PathBuf {
        self.dir.join("eval_bundle")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn data_is_climbmix_or_the_named_data_set() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = NanochatHome {
            dir: dir.path().to_owned(),
        };
        let data = |name| {
            let path = home.data_of(name);
            let inside = path.strip_prefix(dir.path()).expect("inside");
            inside.to_string_lossy().into_owned()
        };
        assert_eq!(data(None), "base_data_climbmix");
        fs::create_dir_all(dir.path().join("datasets/climbmix")).expect("a directory");
        assert_eq!(data(None), "datasets/climbmix");
        fs::create_dir(dir.path().join("base_data_climbmix")).expect("a directory");
        assert_eq!(data(None), "base_data_climbmix");
        assert_eq!(data(Some("")), "base_data_climbmix");
        assert_eq!(data(Some("fineweb")), "datasets/fineweb");
    }

    #[test]
    fn usual_home_counts_only_where_it_exists() {
        let user = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(NanochatHome::usual(user.path()), None);
        let dir = user.path().join(".cache/nanochat");
        fs::create_dir_all(&dir).expect("a directory");
        let home = NanochatHome::usual(user.path()).expect("a home");
        assert_eq!(home.checkpoints("d12"), dir.join("base_checkpoints/d12"));
        assert_eq!(home, NanochatHome { dir });
    }
}
