//! The API key, and where it is kept. It goes into one HTTP header and nowhere else.

use super::lookup::{Found, Lookup, SettingsError, read_text};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt;

/// A key for the server. Printed, it is `***`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ApiKey {
    /// The value of the header `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("api:{}", self.0))
        )
    }

    /// Checks the form: 40 letters, digits, `_` or `-`, maybe after a prefix and a `-`; or a JSON web token.
    fn new(found: &Found) -> Result<Self, SettingsError> {
        let key = found.text.trim();
        let secret = key.split_once('-').map_or(key, |(_, secret)| secret);
        let parts: Vec<_> = key.split('.').collect();
        if parts.len() == 3 && parts.iter().all(|part| is_plain(part)) {
            return Ok(Self(key.to_owned()));
        }
        let problem = match secret.chars().count() {
            _ if !is_plain(secret) => {
                "a text with other characters than letters, digits, `_` and `-`".to_owned()
            }
            length @ 0..40 => format!("a text of {length} characters"),
            _ => return Ok(Self(key.to_owned())),
        };
        // The value itself stays out of the error.
        let expected = "use a key of 40 or more letters and digits, as the page `/authorize` of the server shows it";
        Err(SettingsError {
            place: found.place.clone(),
            value: problem,
            expected: expected.to_owned(),
        })
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The key for a server: `WANDB_API_KEY`, else what `NETRC`, `~/.netrc` or `~/_netrc` has for its host.
pub(super) fn find(look: &Lookup<'_>, base_url: &str) -> Result<Option<ApiKey>, SettingsError> {
    let found = look
        .env("WANDB_API_KEY")
        .or_else(|| in_netrc(look, base_url));
    found.as_ref().map(ApiKey::new).transpose()
}

fn in_netrc(look: &Lookup<'_>, base_url: &str) -> Option<Found> {
    let at_home = || {
        let home = look.home()?;
        [".netrc", "_netrc"]
            .map(|name| home.join(name))
            .into_iter()
            .find(|path| path.exists())
    };
    let path = look
        .env("NETRC")
        .map(|path| look.expand(&path.text))
        .or_else(at_home)?;
    let text = read_text(&path).ok()?;
    let host = base_url.split_once("://")?.1.split('/').next()?;
    let text = names(host).iter().find_map(|host| password(&text, host))?;
    Some(Found {
        place: format!("the password of `{host}` in `{}`", path.display()),
        text,
    })
}

/// The public server has two names, and `wandb login` writes the one that its version calls it by.
fn names(host: &str) -> Vec<&str> {
    let public = ["api.wandb.ai", "api.forge.coreweave.com"];
    if public.contains(&host) {
        let other = public.into_iter().filter(|name| *name != host);
        return [host].into_iter().chain(other).collect();
    }
    vec![host]
}

/// The password that a netrc text has for a machine.
fn password(netrc: &str, host: &str) -> Option<String> {
    let lines = netrc
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(['"', '\'']));
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
