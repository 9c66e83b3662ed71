//! Errors of the network as sentences, each with advice.

use super::api::Failure;
use bdh::lines::printable;
use std::io::ErrorKind;
use ureq::Error;

/// Returns the cause of a failed request to the server at `url`.
pub(super) fn failure(error: &Error, url: &str) -> Failure {
    match error {
        Error::BadUri(_) | Error::Http(_) => Failure::Refused {
            status: 0,
            text: printable(&error.to_string()).into_owned(),
        },
        error => Failure::Temporary(sentence(error, host(url))),
    }
}

/// Returns the host and port of an address; the rest of it may be secret.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn sentence(error: &Error, host: &str) -> String {
    let text = error.to_string();
    match error {
        Error::HostNotFound => unknown(host),
        // The standard library has no kind for a name that is not found: its text is all there is.
        _ if text.contains("failed to lookup address") => unknown(host),
        Error::Timeout(_) => timed_out(host),
        Error::Io(error) => match io_sentence(error.kind(), host) {
            Some(sentence) => sentence,
            None => other(&text, host),
        },
        Error::BodyExceedsLimit(bytes) => {
            format!("the answer of `{host}` is longer than {bytes} bytes")
        }
        Error::Protocol(_) | Error::LargeResponseHeader(..) => format!(
            "the answer of `{host}` is not HTTP; if the server accepts only https, use https in WANDB_BASE_URL ({text})"
        ),
        _ => other(&text, host),
    }
}

fn unknown(host: &str) -> String {
    format!("no address is found for `{host}`; check WANDB_BASE_URL, and the network (DNS)")
}

fn timed_out(host: &str) -> String {
    format!("`{host}` does not answer in time; increase WANDB_HTTP_TIMEOUT (seconds)")
}

fn io_sentence(kind: ErrorKind, host: &str) -> Option<String> {
    Some(match kind {
        ErrorKind::TimedOut => timed_out(host),
        ErrorKind::ConnectionRefused => {
            format!(
                "`{host}` refuses the connection: no server listens there; check WANDB_BASE_URL"
            )
        }
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            format!("`{host}` is unreachable; check this machine's network")
        }
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            format!("`{host}` closed the connection")
        }
        _ => return None,
    })
}

/// Returns a sentence on an error of the TLS library, or of an unknown kind.
fn other(text: &str, host: &str) -> String {
    if text.contains("certificate") {
        return certificate(text, host);
    }
    if text.contains("InvalidMessage") || text.contains("corrupt message") {
        return format!(
            "`{host}` does not speak TLS; if the server accepts only http, use http in WANDB_BASE_URL"
        );
    }
    format!("the request to `{host}` failed ({})", printable(text))
}

/// Problems of a certificate, each with a part of the TLS library's error, whose kinds are not public.
const CERTIFICATE_PROBLEMS: [(&str, &str); 5] = [
    (
        "CaUsedAsEndEntity",
        "is self-signed as an authority's (CA:TRUE), which no server may use; give the server one with CA:FALSE, and \
         name the file of the authority that signed it in SSL_CERT_FILE",
    ),
    (
        "UnknownIssuer",
        "is self-signed, or of an authority that is not known here; name a PEM file of the authority in SSL_CERT_FILE",
    ),
    ("xpired", "has expired, or this machine's clock is wrong"),
    (
        "NotValidForName",
        "is for another name; use that name in WANDB_BASE_URL",
    ),
    (
        "not valid for name",
        "is for another name; use that name in WANDB_BASE_URL",
    ),
];

/// Returns why the certificate of a server is not accepted.
fn certificate(text: &str, host: &str) -> String {
    for (part, problem) in CERTIFICATE_PROBLEMS {
        if text.contains(part) {
            return format!("the certificate of `{host}` {problem}");
        }
    }
    let text = printable(text);
    format!("the certificate of `{host}` is not accepted ({text})")
}
