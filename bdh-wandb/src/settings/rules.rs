//! Rules for values that the server accepts, checked before anything is written.

use super::lookup::{Found, SettingsError};
use super::{Mode, Resume};
use std::fmt::Write;

/// Address of the public server.
pub(super) const BASE_URL: &str = "https://api.wandb.ai";

/// Default project.
pub(super) const PROJECT: &str = "uncategorized";

/// Longest tag that the server accepts, in characters.
const MAX_TAG: usize = 64;

pub(super) fn mode(found: &Found) -> Result<Mode, SettingsError> {
    match found.text.as_str() {
        "online" | "run" => Ok(Mode::Online),
        "offline" | "dryrun" => Ok(Mode::Offline),
        "disabled" => Ok(Mode::Disabled),
        _ => Err(found.wrong("use online, offline or disabled (or run, dryrun, their old names)")),
    }
}

pub(super) fn resume(found: &Found) -> Result<Resume, SettingsError> {
    match found.text.as_str() {
        "allow" => Ok(Resume::Allow),
        "must" => Ok(Resume::Must),
        "never" => Ok(Resume::Never),
        "auto" => Ok(Resume::Auto),
        _ => Err(found.wrong("use allow, must, never or auto")),
    }
}

/// Whether the program's output is logged; all of the Python client's ways to capture it mean the same here.
pub(super) fn console(found: &Found) -> Result<bool, SettingsError> {
    match found.text.as_str() {
        "off" => Ok(false),
        "auto" | "wrap" | "redirect" | "wrap_raw" | "wrap_emu" => Ok(true),
        _ => Err(found.wrong("use auto or off")),
    }
}

/// Checks a run's id, which is part of addresses and of file names.
pub(super) fn run_id(found: &Found) -> Result<String, SettingsError> {
    let text = &found.text;
    let is_wrong = |c: char| ":;,#?/'\\".contains(c) || c.is_control();
    if text.is_empty() || text.trim() != text || text.chars().any(is_wrong) {
        let expected = r"use a text without any of `:;,#?/'\`, and without spaces at its ends";
        return Err(found.wrong(expected));
    }
    Ok(text.clone())
}

pub(super) fn project(found: &Found) -> Result<String, SettingsError> {
    let text = &found.text;
    if text.is_empty()
        || text.chars().count() > 128
        || text.contains(['/', '\\', '#', '?', '%', ':'])
    {
        return Err(found.wrong(r"use 1 to 128 characters, none of them one of `/\#?%:`"));
    }
    Ok(text.clone())
}

/// Checks the name of a user or a team, which is part of addresses.
pub(super) fn entity(found: &Found) -> Result<String, SettingsError> {
    let text = &found.text;
    if text.trim().is_empty() || text.contains(['/', '\\', '#', '?', '%', ':']) {
        return Err(found.wrong("use the name of a user or of a team"));
    }
    Ok(text.clone())
}

pub(super) fn sweep_id(found: &Found) -> Result<String, SettingsError> {
    let text = &found.text;
    if text.trim() != text {
        return Err(found.wrong("use the sweep's name, without spaces at its ends"));
    }
    Ok(text.clone())
}

/// Returns each tag once, without the spaces around it; empty ones are left out.
pub(super) fn tags<'a>(
    place: &str,
    all: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>, SettingsError> {
    let mut tags = Vec::new();
    for tag in all.map(str::trim) {
        if tag.chars().count() > MAX_TAG {
            return Err(long_tag(place, tag));
        }
        if !tag.is_empty() && !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    Ok(tags)
}

fn long_tag(place: &str, tag: &str) -> SettingsError {
    let start: String = tag.chars().take(20).collect();
    let found = Found {
        place: place.to_owned(),
        text: format!("{start}…"),
    };
    let length = tag.chars().count();
    found.wrong(format!(
        "use tags of at most {MAX_TAG} characters, this one has {length}"
    ))
}

/// Returns the address of a server, without slashes at its end.
///
/// A query or a password is refused, because errors and logs show the address.
pub(super) fn base_url(found: &Found) -> Result<String, SettingsError> {
    let url = found.text.trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(with_password(found, scheme));
    }
    if !matches!(scheme, "http" | "https") || host.is_empty() || rest.contains(is_forbidden) {
        return Err(found.wrong(format!("use an address such as {BASE_URL}")));
    }
    let is_cloud = host.ends_with("wandb.ai");
    if is_cloud && (scheme == "http" || !host.contains("api.")) {
        return Err(found.wrong(format!("use {BASE_URL}")));
    }
    Ok(url.to_owned())
}

/// Whether an address cannot contain a character.
fn is_forbidden(char: char) -> bool {
    char.is_whitespace() || char.is_control() || "?#\\\"<>".contains(char)
}

/// Returns the error for an address with a password, which it does not contain.
fn with_password(found: &Found, scheme: &str) -> SettingsError {
    let hidden = Found {
        text: format!("{scheme}://…@…"),
        place: found.place.clone(),
    };
    hidden.wrong("leave user and password out; the key goes into WANDB_API_KEY")
}

/// Returns the address of a server's web pages.
pub(super) fn app_url(base_url: &str) -> String {
    if let Some(host) = base_url.strip_prefix("https://api.")
        && host.contains("forge.coreweave.com")
    {
        return format!("https://{host}/wandb");
    }
    let to = if base_url.contains("://api.wandb.") {
        "://"
    } else {
        "://app."
    };
    base_url.replace("://api.", to)
}

/// Escapes one part of a path: every byte that is not allowed there becomes `%XX`.
pub(crate) fn escape(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into());
            }
            _ => write!(escaped, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    escaped
}
