//! Requests to a W&B server, one attempt each, and the meaning of answers.

use super::network;
use super::signal::{Command, Signal};
use crate::settings::{ApiKey, Settings};
use bdh::lines::printable;
use serde_json::Value as Json;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 32 << 20;

/// Slowest upload that does not time out, in bytes per second.
const SLOWEST_UPLOAD: u64 = 100_000;

/// Reason why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A retry may work: a fault of the network, a timeout, a server that is busy or broken.
    Temporary(String),
    /// A retry will not work.
    Refused {
        /// HTTP status; 200 if the answer itself contains errors.
        status: u16,
        /// Reason in the answer.
        text: String,
    },
    /// A file could not be read.
    File(io::Error),
}

/// Client of one server, with the key for it.
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
            // A redirected POST becomes a GET without a body, whose answer would acknowledge nothing.
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

    /// Sends a GraphQL request, and returns the `data` of the answer.
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
        check_errors(&answer)?;
        match answer.get_mut("data") {
            Some(data @ Json::Object(_)) => Ok(data.take()),
            _ => Err(Failure::Temporary(format!(
                "the answer to {operation} has no data"
            ))),
        }
    }

    /// Posts JSON, and returns the object in the answer; anything else is not from W&B and counts as a failure.
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
        parse_object(&accept(request.send(json), &url, &self.base_url)?)
    }

    /// Returns the timeout of a request of `size` bytes.
    fn time_for(&self, size: u64) -> Duration {
        self.timeout
            .saturating_add(Duration::from_secs(size / SLOWEST_UPLOAD))
    }

    /// Sends a file to the address that the server gave for it, with headers as `Name:value`.
    ///
    /// The key is not sent: the address is that of a storage service.
    pub(super) fn put(
        &self,
        url: &str,
        headers: &[String],
        body: Upload<'_>,
        signal: &Signal,
    ) -> Result<(), Failure> {
        let (size, reader) = body.open().map_err(Failure::File)?;
        let mut reader = Stoppable { reader, signal };
        let full_url = self.full_url(url);
        let mut request = self.agent.put(&full_url).header("Content-Length", size);
        for header in headers {
            if let Some((name, value)) = header.split_once(':') {
                request = request.header(name.trim(), value.trim());
            }
        }
        let answer = request
            .config()
            .timeout_global(Some(self.time_for(size)))
            .build()
            .send(SendBody::from_reader(&mut reader));
        accept(answer, &full_url, &self.base_url)?;
        Ok(())
    }

    fn full_url(&self, url: &str) -> String {
        let mut full_url = legal(url);
        if url.starts_with('/') {
            full_url.insert_str(0, &self.base_url); // some servers leave out their own name
        }
        full_url
    }
}

/// Fails if the answer to a GraphQL request contains errors.
fn check_errors(answer: &Json) -> Result<(), Failure> {
    match answer.get("errors") {
        Some(Json::Array(errors)) if !errors.is_empty() => Err(Failure::Refused {
            status: 200,
            text: brief(&messages(errors)),
        }),
        _ => Ok(()),
    }
}

/// Parses the object in an answer.
fn parse_object(answer: &[u8]) -> Result<Json, Failure> {
    match serde_json::from_slice(answer) {
        Ok(object @ Json::Object(_)) => Ok(object),
        _ => Err(Failure::Temporary(format!(
            "the answer is {}, not W&B's",
            described(answer)
        ))),
    }
}

/// Returns the TLS settings, with the authorities of `SSL_CERT_FILE` in place of the built-in public ones.
fn tls(settings: &Settings) -> TlsConfig {
    let Some(pem) = &settings.authorities else {
        return TlsConfig::default();
    };
    let mut authorities: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(pem) {
        if let Ok(PemItem::Certificate(authority)) = item {
            authorities.push(authority);
        }
    }
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&authorities))
        .build()
}

/// Body of a PUT.
#[derive(Debug, Clone, Copy)]
pub(super) enum Upload<'a> {
    /// File, read while it is sent, from its beginning on each attempt.
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
                Ok((size, Box::new(file.take(size)))) // the header has this size, even if the file grows
            }
        }
    }
}

/// Reader that fails after [`Command::Stop`], so that the request fails too.
struct Stoppable<'a> {
    reader: Box<dyn Read + 'a>,
    signal: &'a Signal,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.signal.command() == Command::Stop {
            return Err(io::Error::other("stopped"));
        }
        self.reader.read(into)
    }
}

/// Escapes characters that addresses cannot have, such as spaces in the name of a file.
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

/// Returns the body of a successful answer.
///
/// Errors never contain the key: it is in a header, and they show addresses only.
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
    let body = body.unwrap_or_default();
    Err(refusal(&answer, &body, url, base_url))
}

/// Returns the failure of an answer whose status is not a success.
fn refusal(answer: &Response<Body>, body: &[u8], url: &str, base_url: &str) -> Failure {
    let status = answer.status();
    let mut reason = refusal_reason(body);
    if status.is_redirection()
        && let Some(to) = answer.headers().get("Location")
        && let Ok(to) = to.to_str()
    {
        reason = redirected(url, base_url, to);
    }
    let text = match reason.as_str() {
        "" => status.to_string(),
        reason => format!("{status}: {reason}"),
    };
    let status = status.as_u16();
    if is_permanent(status) {
        Failure::Refused { status, text }
    } else {
        Failure::Temporary(text)
    }
}

/// Whether a retry after this status is useless.
///
/// 301 and 308 are permanent. Other redirects, such as to a login page, may be gone on the next attempt.
fn is_permanent(status: u16) -> bool {
    matches!(
        status,
        301 | 308 | 400 | 401 | 403 | 404 | 409 | 410 | 413 | 422 | 501
    )
}

/// Returns the target of a redirect, with advice.
///
/// A query and a user are left out, as they may be secret.
fn redirected(url: &str, base_url: &str, to: &str) -> String {
    let to = without_user(to.split(['?', '#']).next().unwrap_or_default());
    if let Some(path) = url.strip_prefix(base_url)
        && path.starts_with('/')
    {
        let base = brief(to.strip_suffix(path).unwrap_or(&to));
        return format!(
            "the server redirects to `{base}`; if W&B is there, set WANDB_BASE_URL to that"
        );
    }
    let to = brief(&to);
    format!("the server redirects to `{to}`, which is not followed")
}

/// Returns an address without its user and password.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("//") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}//{host}{path}")
}

/// Returns the reason in the body of a refusing answer.
fn refusal_reason(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<Json>(body) {
        if let Some(Json::Array(errors)) = json.get("errors") {
            return brief(&messages(errors));
        }
        if let Some(Json::String(error)) = json.get("error") {
            return brief(error);
        }
    }
    if is_html(body) {
        return described(body);
    }
    brief(&String::from_utf8_lossy(body))
}

/// Describes an unexpected body in a few words.
fn described(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim().is_empty() {
        return "empty".to_owned();
    }
    if !is_html(body) {
        return format!("`{}`", brief(text.trim()));
    }
    if let Some((_, rest)) = text.split_once("<title>")
        && let Some((title, _)) = rest.split_once("</title>")
    {
        return format!("a page for a browser (\"{}\")", brief(title));
    }
    "a page for a browser".to_owned()
}

fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// Returns a text from the server on one line, at most 200 characters long, with control characters escaped.
fn brief(text: &str) -> String {
    let start: String = text.chars().take(2_000).collect();
    let line = start.split_whitespace().collect::<Vec<_>>().join(" ");
    printable(&line).chars().take(200).collect()
}

fn messages(errors: &[Json]) -> String {
    let mut messages = Vec::new();
    for error in errors {
        messages.push(match error.get("message").unwrap_or(error) {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        });
    }
    messages.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_is_shown_without_secrets() {
        let base = "https://wandb.example/api";
        let of = |url: &str, to: &str| redirected(url, base, to);
        let to = "https://me:secret@new.example/api/graphql?token=secret";
        let expected = "the server redirects to `https://new.example/api`; if W&B is there, set WANDB_BASE_URL to that";
        assert_eq!(of("https://wandb.example/api/graphql", to), expected);
        let expected = "the server redirects to `https://new.example/file`, which is not followed";
        let to = "https://me:secret@new.example/file#secret";
        assert_eq!(of("https://storage.example/file", to), expected);
        assert_eq!(of("https://wandb.example/apix/file", to), expected);
    }
}
