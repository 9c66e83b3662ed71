//! Values by name, with the place where each was found, so that errors can name it.

use super::wandb_dir;
use bdh::files;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A setting of W&B has a value that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{place} is {value}; {expected}")]
#[non_exhaustive]
pub struct SettingsError {
    /// Where it stands: a variable, a key of a file, a method of the builder.
    pub place: String,
    /// The value, or a description of it where it is a secret.
    pub value: String,
    /// What would work.
    pub expected: String,
}

/// Times that may be waited. A machine's clock does not count so far that any sum with a longer one would be right.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(1_000_000);

/// Bytes of the longest file of settings, keys or certificates that is read.
const MAX_FILE: u64 = 16 << 20;

/// A value and its place.
#[derive(Clone)] // not `Debug`: it may hold a key
pub(super) struct Found {
    pub(super) place: String,
    pub(super) text: String,
}

impl Found {
    /// The error for this value; `expected` says what would work.
    pub(super) fn wrong(&self, expected: impl Into<String>) -> SettingsError {
        SettingsError {
            place: self.place.clone(),
            value: format!("`{}`", self.text),
            expected: expected.into(),
        }
    }
}

/// The environment and the settings files.
pub(super) struct Lookup<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// From the `[default]` sections, the later file over the earlier.
    files: BTreeMap<String, Found>,
}

impl<'a> Lookup<'a> {
    /// Reads the settings files.
    ///
    /// # Errors
    ///
    /// If one is there and cannot be read.
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut look = Self {
            env,
            files: BTreeMap::new(),
        };
        let root = look
            .env("WANDB_DIR")
            .map_or(PathBuf::from("."), |dir| look.expand(&dir.text));
        let config = look
            .env("WANDB_CONFIG_DIR")
            .map(|dir| look.expand(&dir.text));
        let config = config.or_else(|| Some(look.home()?.join(".config/wandb")));
        for dir in config.into_iter().chain([wandb_dir(&root)]) {
            look.files.extend(read(&dir.join("settings"))?);
        }
        Ok(look)
    }

    /// A variable of the environment that is set and not empty.
    pub(super) fn env(&self, name: &str) -> Option<Found> {
        let text = (self.env)(name).filter(|text| !text.is_empty())?;
        Some(Found {
            place: name.to_owned(),
            text,
        })
    }

    /// What the builder was given, else `WANDB_KEY`, else `key` of a settings file.
    pub(super) fn of(&self, given: Option<&String>, key: &str) -> Option<Found> {
        let place = || format!("the builder's `{key}`");
        given
            .map(|text| Found {
                place: place(),
                text: text.clone(),
            })
            .or_else(|| self.env(&format!("WANDB_{}", key.to_uppercase())))
            .or_else(|| self.files.get(key).cloned())
    }

    /// Whether a variable says yes.
    pub(super) fn flag(&self, name: &str) -> Result<bool, SettingsError> {
        let Some(found) = self.env(name) else {
            return Ok(false);
        };
        match found.text.to_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err(found.wrong("use true or false")),
        }
    }

    /// A variable that holds a time in seconds.
    pub(super) fn seconds(&self, name: &str, default: Duration) -> Result<Duration, SettingsError> {
        let Some(found) = self.env(name) else {
            return Ok(default);
        };
        let seconds: Option<f64> = found.text.trim().parse().ok();
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|time| (SHORTEST..=LONGEST).contains(time))
            .ok_or_else(|| found.wrong("use a number of seconds from 0.001 to 1000000, such as 30"))
    }

    /// The user's own folder.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.env("HOME")
            .or_else(|| self.env("USERPROFILE"))
            .map(|home| home.text.into())
    }

    /// A path, with `~/` as the user's folder.
    pub(super) fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.home()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => path.into(),
        }
    }
}

/// Reads a file that the user has chosen, which may be a link: a regular one, and no more of it than a file of settings
/// can have.
pub(super) fn read_chosen(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.canonicalize()?;
    let (folder, name) = (path.parent(), path.file_name());
    let (Some(folder), Some(name)) = (folder, name) else {
        return Err(ErrorKind::IsADirectory.into());
    };
    files::read(folder, name, MAX_FILE)
}

/// The text of such a file, without the mark that some editors begin it with.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let text = String::from_utf8(read_chosen(path)?);
    let text = text.map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

/// The `[default]` section of a settings file; nothing if there is no such file.
fn read(path: &Path) -> Result<BTreeMap<String, Found>, SettingsError> {
    match read_text(path) {
        Ok(text) => Ok(section(&text, path)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(BTreeMap::new())
        }
        Err(error) => Err(SettingsError {
            place: format!("`{}`", path.display()),
            value: format!("not readable ({error})"),
            expected: "make it a readable text file, or remove it".to_owned(),
        }),
    }
}

fn section(text: &str, path: &Path) -> BTreeMap<String, Found> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[default]";
        }
        let pair = line
            .split_once(['=', ':'])
            .filter(|_| inside && !line.starts_with(['#', ';', '[']));
        let Some((key, value)) = pair else { continue };
        let (key, text) = (key.trim().to_lowercase(), value.trim().to_owned());
        if !text.is_empty() {
            let place = format!("`{key}` in `{}`", path.display());
            found.insert(key, Found { place, text });
        }
    }
    found
}
