//! Requests to a W&B server: one attempt each, and what an answer means.

use super::network;
use super::signal::{Signal, Wish};
use crate::settings::{ApiKey, Settings};
use bdh::printable;
use serde_json::Value as Json;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

/// The most that is read of an answer.
const MAX_ANSWER: u64 = 32 << 20;

/// What a large request is given time for, in bytes per second, beside the usual time.
const SLOWEST_UPLOAD: u64 = 100_000;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may work later: the network, a timeout, a server that is busy or broken.
    Temporary(String),
    /// It will not work, however often it is tried.
    Refused {
        /// The HTTP status; 200 where the answer itself holds errors.
        status: u16,
        /// What the server said.
        text: String,
    },
    /// A file could not be read.
    File(io::Error),
}

/// One server, and the key for it.
#[derive(Debug, Clone)]
pub(super) struct Api {
    agent: Agent,
    base_url: String,
    key: ApiKey,
    timeout: Duration,
}

impl Api {
    pub(super) fn new(settings: &Settings, key: ApiKey) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A POST that is redirected arrives as a GET without its body: no answer to that acknowledges anything.
            .max_redirects(0)
            .tls_config(tls(settings))
            .timeout_connect(Some(settings.http_timeout))
            .user_agent(concat!("bdh/", env!("CARGO_PKG_VERSION")))
            .build();
        let (base_url, timeout) = (settings.base_url.clone(), settings.http_timeout);
        Self {
            agent: config.new_agent(),
            base_url,
            key,
            timeout,
        }
    }

    /// Asks the GraphQL endpoint; gives back `data`.
    pub(super) fn graphql(
        &self,
        operation: &str,
        query: &str,
        variables: &Json,
    ) -> Result<Json, Failure> {
        let body = serde_json::json!({
            "operationName": operation, "query": query, "variables": variables,
        });
        let mut answer = self.post("/graphql", &body.to_string())?;
        match answer
            .get("errors")
            .and_then(Json::as_array)
            .filter(|errors| !errors.is_empty())
        {
            Some(errors) => Err(Failure::Refused {
                status: 200,
                text: brief(&messages(errors)),
            }),
            None => match answer.get_mut("data").map(Json::take) {
                Some(data @ Json::Object(_)) => Ok(data),
                _ => Err(Failure::Temporary(format!(
                    "the answer to {operation} has no data"
                ))),
            },
        }
    }

    /// Posts JSON, and reads the object that comes back: nothing else is W&B's acknowledgement.
    pub(super) fn post(&self, path: &str, json: &str) -> Result<Json, Failure> {
        let url = format!("{}{path}", self.base_url);
        let request = self
            .agent
            .post(&url)
            .header("Authorization", self.key.authorization())
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(Some(self.time_for(json.len() as u64)))
            .build();
        let answer = accept(request.send(json), &url, &self.base_url)?;
        match serde_json::from_slice(&answer) {
            Ok(object @ Json::Object(_)) => Ok(object),
            _ => Err(Failure::Temporary(format!(
                "the answer is {}, not W&B's",
                described(&answer)
            ))),
        }
    }

    /// How long a request may take that brings so many bytes.
    fn time_for(&self, size: u64) -> Duration {
        self.timeout
            .saturating_add(Duration::from_secs(size / SLOWEST_UPLOAD))
    }

    /// Sends a file to the address that the server gave for it. The key stays here: the address is that of a
    /// storage service. `headers` are `Name:value`.
    pub(super) fn put(
        &self,
        url: &str,
        headers: &[String],
        body: Upload<'_>,
        signal: &Signal,
    ) -> Result<(), Failure> {
        let (size, reader) = body.open().map_err(Failure::File)?;
        let mut reader = Stoppable { reader, signal };
        // Some servers give addresses on themselves, without their own name.
        let base = if url.starts_with('/') {
            &self.base_url
        } else {
            ""
        };
        let url = format!("{base}{}", legal(url));
        let mut request = self.agent.put(&url).header("Content-Length", size);
        for (name, value) in headers.iter().filter_map(|header| header.split_once(':')) {
            request = request.header(name.trim(), value.trim());
        }
        let request = request
            .config()
            .timeout_global(Some(self.time_for(size)))
            .build();
        accept(
            request.send(SendBody::from_reader(&mut reader)),
            &url,
            &self.base_url,
        )
        .map(drop)
    }
}

/// Authorities of the file that `SSL_CERT_FILE` names, in place of the public ones that are built in.
fn tls(settings: &Settings) -> TlsConfig {
    let Some(pem) = &settings.authorities else {
        return TlsConfig::default();
    };
    let authorities: Vec<Certificate<'static>> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(authority)) => Some(authority),
            _ => None,
        })
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&authorities))
        .build()
}

/// What a PUT sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Upload<'a> {
    /// A file, read while it is sent, each time from its beginning.
    File(&'a File),
    Bytes(&'a [u8]),
}

impl<'a> Upload<'a> {
    fn open(self) -> io::Result<(u64, Box<dyn Read + 'a>)> {
        match self {
            Self::Bytes(bytes) => Ok((bytes.len() as u64, Box::new(bytes))),
            Self::File(mut file) => {
                file.rewind()?;
                let size = file.metadata()?.len();
                Ok((size, Box::new(file.take(size)))) // what it grows by meanwhile is left out
            }
        }
    }
}

/// Fails as soon as the uploader is to stop, and with it the request that reads from it.
struct Stoppable<'a> {
    reader: Box<dyn Read + 'a>,
    signal: &'a Signal,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.signal.wish() == Wish::Stop {
            return Err(io::Error::other("stopped"));
        }
        self.reader.read(into)
    }
}

/// An address without characters that addresses do not have, such as spaces in the name of a file.
fn legal(url: &str) -> String {
    let mut legal = String::with_capacity(url.len());
    for byte in url.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            legal.push(byte.into());
        } else {
            legal.push_str(&format!("%{byte:02X}"));
        }
    }
    legal
}

/// The body of an answer that says yes. Nothing of an error of the network names the key: it is in a header, and
/// errors show addresses only.
fn accept(
    answer: Result<Response<Body>, ureq::Error>,
    url: &str,
    base_url: &str,
) -> Result<Vec<u8>, Failure> {
    let mut answer = answer.map_err(|error| network::failure(&error, url))?;
    let status = answer.status();
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_vec();
    if status.is_success() {
        return body.map_err(|error| network::failure(&error, url));
    }
    let to = answer
        .headers()
        .get("Location")
        .and_then(|to| to.to_str().ok());
    let text = match (to, said(&body.unwrap_or_default())) {
        (Some(to), _) if status.is_redirection() => {
            format!("{status}: {}", redirected(url, base_url, to))
        }
        (_, said) if said.is_empty() => status.to_string(),
        (_, said) => format!("{status}: {said}"),
    };
    match status.as_u16() {
        // Moved for good; another redirect, as to the page of a login, may be gone the next time.
        status @ (301 | 308 | 400 | 401 | 403 | 404 | 409 | 410 | 413 | 422 | 501) => {
            Err(Failure::Refused { status, text })
        }
        _ => Err(Failure::Temporary(text)),
    }
}

/// Where a redirect leads, and what to do about it. What stands behind a `?` or before an `@` may be a secret.
fn redirected(url: &str, base_url: &str, to: &str) -> String {
    let to = without_user(to.split(['?', '#']).next().unwrap_or_default());
    match url
        .strip_prefix(base_url)
        .filter(|path| path.starts_with('/'))
    {
        Some(path) => {
            let base = brief(to.strip_suffix(path).unwrap_or(&to));
            format!("it redirects to `{base}`; if W&B is there, set WANDB_BASE_URL to that")
        }
        None => format!("it redirects to `{}`, which is not followed", brief(&to)),
    }
}

/// An address without the name and the password in it.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("//") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}//{host}{path}")
}

/// Reason that a refusing answer gives in its body.
fn said(body: &[u8]) -> String {
    let parsed: Option<Json> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|json| {
        let errors = json
            .get("errors")
            .and_then(Json::as_array)
            .map(|errors| messages(errors));
        errors.or_else(|| json.get("error")?.as_str().map(str::to_owned))
    });
    match message {
        Some(message) => brief(&message),
        None if is_html(body) => described(body),
        None => brief(&String::from_utf8_lossy(body)),
    }
}

/// A body that is not what was expected, in a few words.
fn described(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match text.trim() {
        "" => "empty".to_owned(),
        _ if is_html(body) => {
            let title = text
                .split_once("<title>")
                .and_then(|(_, rest)| rest.split_once("</title>"));
            let title = title.map(|(title, _)| format!(" (\"{}\")", brief(title)));
            format!("a page for a browser{}", title.unwrap_or_default())
        }
        text => format!("`{}`", brief(text)),
    }
}

fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// A text from the server: in one line, shortened, and with nothing in it that a terminal would obey.
fn brief(text: &str) -> String {
    let start: String = text.chars().take(2_000).collect();
    let line = start.split_whitespace().collect::<Vec<_>>().join(" ");
    printable(&line).chars().take(200).collect()
}

fn messages(errors: &[Json]) -> String {
    let message = |error: &Json| match error.get("message").unwrap_or(error) {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    errors.iter().map(message).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_shown_without_secrets_and_with_advice_only_for_the_server_itself() {
        let base = "https://wandb.example/api";
        let of = |url: &str, to: &str| redirected(url, base, to);
        let to = "https://me:secret@new.example/api/graphql?token=secret";
        let expected = "it redirects to `https://new.example/api`; if W&B is there, set WANDB_BASE_URL to that";
        assert_eq!(of("https://wandb.example/api/graphql", to), expected);
        let expected = "it redirects to `https://new.example/file`, which is not followed";
        let to = "https://me:secret@new.example/file#secret";
        assert_eq!(of("https://storage.example/file", to), expected);
        assert_eq!(of("https://wandb.example/apix/file", to), expected);
    }
}
