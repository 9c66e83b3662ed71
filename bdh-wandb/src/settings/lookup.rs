//! Lookup of values by name, with their places, so that errors can name them.

use super::wandb_dir;
use bdh::files;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Invalid value of a W&B setting.
#[derive(Debug, thiserror::Error)]
#[error("{place} is {value}; {expected}")]
#[non_exhaustive]
pub struct SettingsError {
    /// Place of the value: a variable, a key of a file, or a method of the builder.
    pub place: String,
    /// Value, or a description of it if it is a secret.
    pub value: String,
    /// Sentence on the values that would work.
    pub expected: String,
}

/// Shortest time that can be set.
const SHORTEST: Duration = Duration::from_millis(1);

/// Longest time that can be set: added to a machine's clock, a much longer one would overflow.
const LONGEST: Duration = Duration::from_secs(1_000_000);

/// Largest file of settings, keys or certificates that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Value with its place.
#[derive(Clone)] // not `Debug`: the value may be an API key
pub(super) struct Found {
    pub(super) place: String,
    pub(super) text: String,
}

impl Found {
    /// Returns the error for this value; `expected` describes the values that would work.
    pub(super) fn wrong(&self, expected: impl Into<String>) -> SettingsError {
        SettingsError {
            place: self.place.clone(),
            value: format!("`{}`", self.text),
            expected: expected.into(),
        }
    }
}

/// Environment and settings files.
pub(super) struct Lookup<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// Values of the `[default]` sections; a later file overrides an earlier one.
    files: BTreeMap<String, Found>,
}

impl<'a> Lookup<'a> {
    /// Reads the settings files.
    ///
    /// # Errors
    ///
    /// If a file exists and cannot be read.
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut look = Self {
            env,
            files: BTreeMap::new(),
        };
        let root = match look.text("WANDB_DIR") {
            Some(dir) => look.expand(&dir),
            None => PathBuf::from("."),
        };
        for dir in look.config_dir().into_iter().chain([wandb_dir(&root)]) {
            look.files.extend(read(&dir.join("settings"))?);
        }
        Ok(look)
    }

    /// Returns the folder of the user's settings file; `None` without a home folder.
    fn config_dir(&self) -> Option<PathBuf> {
        match self.text("WANDB_CONFIG_DIR") {
            Some(dir) => Some(self.expand(&dir)),
            None => Some(self.home()?.join(".config/wandb")),
        }
    }

    /// Returns a variable of the environment that is set and not empty, with its place.
    pub(super) fn env(&self, name: &str) -> Option<Found> {
        let text = (self.env)(name).filter(|text| !text.is_empty())?;
        Some(Found {
            place: name.to_owned(),
            text,
        })
    }

    /// Returns the text of a variable of the environment that is set and not empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        Some(self.env(name)?.text)
    }

    /// Returns the builder's value, else the text of a variable.
    pub(super) fn text_or(&self, given: Option<&String>, name: &str) -> Option<String> {
        match given {
            Some(text) => Some(text.clone()),
            None => self.text(name),
        }
    }

    /// Returns the builder's value, else that of `WANDB_KEY`, else that of `key` in a settings file.
    pub(super) fn of(&self, given: Option<&String>, key: &str) -> Option<Found> {
        if let Some(text) = given {
            return Some(Found {
                place: format!("the builder's `{key}`"),
                text: text.clone(),
            });
        }
        self.env(&format!("WANDB_{}", key.to_uppercase()))
            .or_else(|| self.files.get(key).cloned())
    }

    /// Whether a variable is set to true.
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

    /// Returns the time in seconds that a variable contains.
    pub(super) fn seconds(&self, name: &str, default: Duration) -> Result<Duration, SettingsError> {
        let Some(found) = self.env(name) else {
            return Ok(default);
        };
        if let Ok(seconds) = found.text.trim().parse::<f64>()
            && let Ok(time) = Duration::try_from_secs_f64(seconds)
            && (SHORTEST..=LONGEST).contains(&time)
        {
            return Ok(time);
        }
        Err(found.wrong("use a number of seconds from 0.001 to 1000000, such as 30"))
    }

    /// Returns the user's home folder.
    pub(super) fn home(&self) -> Option<PathBuf> {
        let home = self.text("HOME").or_else(|| self.text("USERPROFILE"))?;
        Some(home.into())
    }

    /// Returns a path in which a leading `~/` is replaced by the home folder.
    pub(super) fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.home()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => path.into(),
        }
    }
}

/// Reads a file chosen by the user: a regular file of at most 16 MiB, which may be behind a link.
pub(super) fn read_chosen(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.canonicalize()?;
    let (folder, name) = (path.parent(), path.file_name());
    let (Some(folder), Some(name)) = (folder, name) else {
        return Err(ErrorKind::IsADirectory.into());
    };
    files::read(folder, name, MAX_FILE)
}

/// Reads the text of a file chosen by the user, without the byte order mark that some editors write.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let Ok(mut text) = String::from_utf8(read_chosen(path)?) else {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "the file is not UTF-8",
        ));
    };
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// Reads the `[default]` section of a settings file; empty if the file does not exist.
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

/// Splits a line of a settings file; `None` for one without a key or without a value.
fn key_and_text(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once(['=', ':'])?;
    let (key, text) = (key.trim().to_lowercase(), value.trim().to_owned());
    (!text.is_empty()).then_some((key, text))
}

fn section(text: &str, path: &Path) -> BTreeMap<String, Found> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[default]";
        }
        if !inside || line.starts_with(['#', ';', '[']) {
            continue;
        }
        if let Some((key, text)) = key_and_text(line) {
            let place = format!("`{key}` in `{}`", path.display());
            found.insert(key, Found { place, text });
        }
    }
    found
}
