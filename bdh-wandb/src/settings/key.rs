//! The API key, read from the environment or a netrc file.
//!
//! The key is sent in one HTTP header and appears nowhere else.

use super::lookup::{Found, Lookup, SettingsError, read_text};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt;
use std::path::PathBuf;

/// API key for a server; its debug form is `***`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ApiKey {
    /// Returns the value of the header `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        let credentials = BASE64_STANDARD.encode(format!("api:{}", self.0));
        format!("Basic {credentials}")
    }

    /// Checks the form of a key: 40 or more letters, digits, `_` or `-`, maybe after a prefix and a `-`; or a JSON web
    /// token.
    fn new(found: &Found) -> Result<Self, SettingsError> {
        let key = found.text.trim();
        let secret = key.split_once('-').map_or(key, |(_, secret)| secret);
        if is_web_token(key) || (is_plain(secret) && secret.chars().count() >= 40) {
            return Ok(Self(key.to_owned()));
        }
        Err(SettingsError {
            place: found.place.clone(),
            value: without_secret(secret),
            expected: "use a key of 40 or more letters and digits, as the page `/authorize` of the server shows it"
                .to_owned(),
        })
    }
}

/// Describes a wrong key, which an error must not contain.
fn without_secret(secret: &str) -> String {
    if is_plain(secret) {
        format!("a text of {} characters", secret.chars().count())
    } else {
        "a text with other characters than letters, digits, `_` and `-`".to_owned()
    }
}

fn is_web_token(key: &str) -> bool {
    key.split('.').count() == 3 && key.split('.').all(is_plain)
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Returns the key for a server: `WANDB_API_KEY`, else the password for its host in `NETRC`, `~/.netrc` or `~/_netrc`.
pub(super) fn find(look: &Lookup<'_>, base_url: &str) -> Result<Option<ApiKey>, SettingsError> {
    let found = look
        .env("WANDB_API_KEY")
        .or_else(|| in_netrc(look, base_url));
    found.as_ref().map(ApiKey::new).transpose()
}

fn in_netrc(look: &Lookup<'_>, base_url: &str) -> Option<Found> {
    let path = match look.text("NETRC") {
        Some(path) => look.expand(&path),
        None => home_netrc(look)?,
    };
    let netrc = read_text(&path).ok()?;
    let host = base_url.split_once("://")?.1.split('/').next()?;
    let text = names(host).iter().find_map(|host| password(&netrc, host))?;
    Some(Found {
        place: format!("the password of `{host}` in `{}`", path.display()),
        text,
    })
}

/// Returns the netrc file in the home folder; `_netrc` is its name on Windows.
fn home_netrc(look: &Lookup<'_>) -> Option<PathBuf> {
    let home = look.home()?;
    let paths = [home.join(".netrc"), home.join("_netrc")];
    paths.into_iter().find(|path| path.exists())
}

/// Returns the names under which a netrc file may have a host.
///
/// The public server has two names, and `wandb login` writes the one that its version uses.
fn names(host: &str) -> Vec<&str> {
    match host {
        "api.wandb.ai" => vec![host, "api.forge.coreweave.com"],
        "api.forge.coreweave.com" => vec![host, "api.wandb.ai"],
        _ => vec![host],
    }
}

/// Returns the words of a netrc file, without their quotes; comments are skipped.
fn words(netrc: &str) -> impl Iterator<Item = &str> {
    let lines = netrc
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(['"', '\'']))
}

/// Returns the password for a host in the text of a netrc file.
fn password(netrc: &str, host: &str) -> Option<String> {
    let mut words = words(netrc);
    let mut inside = false;
    while let Some(word) = words.next() {
        match word {
            "machine" => inside = words.next() == Some(host),
            "default" | "macdef" => inside = false,
            "password" => {
                let password = words.next()?;
                if inside && !password.is_empty() {
                    return Some(password.to_owned());
                }
            }
            "login" | "account" => drop(words.next()),
            _ => {}
        }
    }
    None
}
