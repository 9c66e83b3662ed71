//! Files from the network, downloaded once and checked on every use.

use crate::corpus::text_of;
use crate::error::DataError;
use bdh::files::hex;
use sha2::{Digest, Sha256};
use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;
use ureq::Agent;

/// Time limit of a download: enough for a megabyte on a slow connection.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Shakespeare's plays from the char-rnn repository: 1,115,394 bytes with 65 different symbols.
pub const SHAKESPEARE: Remote<'static> = Remote {
    url: "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    file_name: "tinyshakespeare.txt",
    bytes: 1_115_394,
    sha256: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
};

/// Text on the network with a known checksum.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// Address, `https://…`.
    pub url: &'a str,
    /// File name in the cache.
    pub file_name: &'a str,
    /// Size in bytes; a longer response is an error.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
}

impl Remote<'_> {
    /// Reads the text from the cache, `$XDG_CACHE_HOME/bdh` or `~/.cache/bdh`, or downloads it there.
    ///
    /// # Errors
    ///
    /// [`DataError::NoCache`] without a home directory, or any error of [`cached_in`](Self::cached_in).
    pub fn cached(&self) -> Result<String, DataError> {
        let dir = cache_dir(env::var_os("XDG_CACHE_HOME"), env::home_dir());
        self.cached_in(&dir.ok_or(DataError::NoCache)?)
    }

    /// Reads the text from a directory, or downloads it there. A copy with another checksum is replaced.
    ///
    /// # Errors
    ///
    /// [`DataError::Download`] if the download fails or takes more than a minute, [`DataError::Checksum`] if it is
    /// another file, [`DataError::Unwritable`] if it cannot be written. A failed download leaves no file.
    pub fn cached_in(&self, dir: &Path) -> Result<String, DataError> {
        let path = dir.join(self.file_name);
        if let Ok(bytes) = fs::read(&path)
            && let Ok(text) = self.check(bytes, path.display())
        {
            return Ok(text);
        }
        let text = self.check(self.download()?, self.url)?;
        keep(&path, &text).map_err(|source| DataError::Unwritable { path, source })?;
        Ok(text)
    }

    /// Checks the bytes of a file and converts them to text; errors name the file with `from`.
    ///
    /// # Errors
    ///
    /// [`DataError::Checksum`] for another file; [`DataError::Binary`] if the file is not text.
    pub fn check(&self, bytes: Vec<u8>, from: impl Display) -> Result<String, DataError> {
        let found = hex(Sha256::digest(&bytes));
        if found != self.sha256 {
            return Err(DataError::Checksum {
                from: from.to_string(),
                found,
                expected: self.sha256.to_owned(),
            });
        }
        text_of(bytes, self.file_name.as_ref())
    }

    fn download(&self) -> Result<Vec<u8>, DataError> {
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .build()
            .new_agent();
        // One more byte than expected: ureq reports an error only above its limit.
        let body = agent.get(self.url).call().and_then(|mut answer| {
            answer
                .body_mut()
                .with_config()
                .limit(self.bytes + 1)
                .read_to_vec()
        });
        body.map_err(|error| DataError::Download {
            url: self.url.to_owned(),
            source: Box::new(error),
        })
    }
}

/// Writes another file and renames it, so that no process reads a part of the text.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let half = path.with_extension(format!("{}.part", process::id()));
    let kept = fs::write(&half, text).and_then(|()| fs::rename(&half, path));
    if kept.is_err() {
        let _ = fs::remove_file(&half); // the first error is the one to report
    }
    kept
}

fn cache_dir(xdg: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let xdg = xdg.map(PathBuf::from).filter(|dir| dir.is_absolute()); // the XDG specification ignores relative paths
    Some(xdg.or_else(|| Some(home?.join(".cache")))?.join("bdh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_directory_follows_the_xdg_specification() {
        let home = || Some(PathBuf::from("/home/ada"));
        let in_home = Some(PathBuf::from("/home/ada/.cache/bdh"));
        assert_eq!(
            cache_dir(Some("/var/c".into()), home()),
            Some("/var/c/bdh".into())
        );
        assert_eq!(cache_dir(None, home()), in_home);
        assert_eq!(cache_dir(Some("relative".into()), home()), in_home);
        assert_eq!(cache_dir(None, None), None);
    }
}
