//! Errors of the network in plain words, each with what would help.

use super::api::Failure;
use std::io::ErrorKind;
use ureq::Error;

/// Cause of a failed request to the server at `url`.
pub(super) fn failure(error: &Error, url: &str) -> Failure {
    match error {
        Error::BadUri(_) | Error::Http(_) => Failure::Refused {
            status: 0,
            text: bdh::printable(&error.to_string()).into_owned(),
        },
        error => Failure::Temporary(in_words(error, host(url))),
    }
}

/// Host and port of an address: the rest of it may be a secret.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn in_words(error: &Error, host: &str) -> String {
    let kind = if let Error::Io(error) = error {
        Some(error.kind())
    } else {
        None
    };
    let text = error.to_string();
    let says = |word: &str| text.contains(word);
    match (error, kind) {
        (Error::HostNotFound, _) => unknown(host),
        _ if says("failed to lookup address") => unknown(host),
        (Error::Timeout(_), _) | (_, Some(ErrorKind::TimedOut)) => {
            format!("`{host}` does not answer in time; WANDB_HTTP_TIMEOUT gives it more seconds")
        }
        (_, Some(ErrorKind::ConnectionRefused)) => {
            format!(
                "`{host}` refuses the connection: no server listens there; check WANDB_BASE_URL"
            )
        }
        (_, Some(ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable)) => {
            format!("there is no way to `{host}`; check this machine's network")
        }
        (
            _,
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof),
        ) => {
            format!("`{host}` closed the connection")
        }
        (Error::BodyExceedsLimit(bytes), _) => {
            format!("the answer of `{host}` is longer than {bytes} bytes")
        }
        (Error::Protocol(_) | Error::LargeResponseHeader(..), _) => {
            format!(
                "the answer of `{host}` is no HTTP; if it takes https only, say so in WANDB_BASE_URL ({text})"
            )
        }
        _ if says("certificate") => certificate(&text, host),
        _ if says("InvalidMessage") || says("corrupt message") => {
            format!("`{host}` does not speak TLS; if it takes http only, say so in WANDB_BASE_URL")
        }
        _ => format!("`{host}` cannot be asked ({})", bdh::printable(&text)),
    }
}

fn unknown(host: &str) -> String {
    format!("no address is found for `{host}`; check WANDB_BASE_URL, and the network (DNS)")
}

/// Why the certificate of a server is not accepted, from the text of the TLS library's error.
fn certificate(text: &str, host: &str) -> String {
    let says = |word: &str| text.contains(word);
    if says("CaUsedAsEndEntity") {
        return format!(
            "the certificate of `{host}` is self-signed as an authority's (CA:TRUE), which no server may use; give the \
             server one with CA:FALSE, and name the file of the authority that signed it in SSL_CERT_FILE"
        );
    }
    if says("UnknownIssuer") {
        return format!(
            "the certificate of `{host}` is of an authority that is not known here, or self-signed; name a PEM file of \
             the authority in SSL_CERT_FILE"
        );
    }
    if says("xpired") {
        return format!(
            "the certificate of `{host}` has expired, or this machine's clock is wrong"
        );
    }
    if says("NotValidForName") || says("not valid for name") {
        return format!(
            "the certificate of `{host}` is for another name; ask the server by that name in WANDB_BASE_URL"
        );
    }
    format!(
        "the certificate of `{host}` is not accepted ({})",
        bdh::printable(text)
    )
}
