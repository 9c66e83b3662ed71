//! Answers that are not from W&B, and errors of the network.

use super::super::api::{Api, Failure};
use super::super::sync::{SyncError, sync_with};
use super::run::{Logged, PACE, settings, settings_with};
use super::server::{always, answers, http};
use super::{LONG, is_complete};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Returns why a sync fails with this answer to all requests.
fn refusal(answer: String) -> String {
    let (url, _) = answers(move |_| Some(answer.clone()));
    let mut logged = Logged::new();
    logged.exit(0);
    let timeout = Duration::from_millis(100);
    let error = sync_with(&logged.log(), settings(&url), PACE, timeout)
        .expect_err("an answer that is not from W&B");
    match error {
        SyncError::Refused { why } => format!("refused: {why}"),
        SyncError::Unreachable { why } => why,
        error => panic!("{error:?}"),
    }
}

#[test]
fn redirect_is_reported_and_never_followed() {
    let moved = |status: &str| {
        let headers = "Location: https://new.example/graphql?token=secret\r\n";
        refusal(http(status, headers, "{\"data\":{}}"))
    };
    let to = "the server redirects to `https://new.example`; if W&B is there, set WANDB_BASE_URL to that";
    for status in ["301 Moved Permanently", "308 Permanent Redirect"] {
        assert_eq!(moved(status), format!("refused: {status}: {to}"));
    }
    for status in ["302 Found", "303 See Other", "307 Temporary Redirect"] {
        assert_eq!(moved(status), format!("{status}: {to}"));
    }
}

#[test]
fn only_an_object_from_w_and_b_is_an_acknowledgement() {
    let yes = |status: &str, body: &str| refusal(http(status, "", body));
    assert_eq!(yes("200 OK", "null"), "the answer is `null`, not W&B's");
    assert_eq!(yes("200 OK", "[]"), "the answer is `[]`, not W&B's");
    assert_eq!(yes("200 OK", ""), "the answer is empty, not W&B's");
    assert_eq!(yes("204 No Content", ""), "the answer is empty, not W&B's");
    assert_eq!(
        yes("201 Created", "{}"),
        "the answer to RunResumeStatus has no data"
    );
    assert_eq!(
        yes("200 OK", "{\"data\":null}"),
        "the answer to RunResumeStatus has no data"
    );
    let neither = yes("200 OK", "{\"data\":{}}");
    assert_eq!(neither, "refused: the answer has no run");
    let page = "<html><title>Log in\n\x1b[31m</title>\x1b]0;mine\x07</html>";
    let shown = "a page for a browser (\"Log in \\u{1b}[31m\")";
    assert_eq!(
        yes("200 OK", page),
        format!("the answer is {shown}, not W&B's")
    );
    assert_eq!(
        yes("502 Bad Gateway", page),
        format!("502 Bad Gateway: {shown}")
    );
    let no = refusal(http(
        "403 Forbidden",
        "",
        "{\"error\":\"no\\u001b[2J\\u0007\"}",
    ));
    assert_eq!(no, "refused: 403 Forbidden: no\\u{1b}[2J\\u{7}");
    let long = yes("500 Internal Server Error", &"x".repeat(1 << 20));
    assert!(long.len() < 300, "{} bytes", long.len());
    let endless = yes("200 OK", &" ".repeat((32 << 20) + 1));
    assert!(
        endless.ends_with("is longer than 33554432 bytes"),
        "{endless}"
    );
}

/// Returns the answer to a request before the rows.
fn introduction(request: &str, bucket: &str) -> Option<String> {
    let answer = |data: &str| Some(http("200 OK", "", &format!("{{\"data\":{data}}}")));
    if request.contains("RunResumeStatus") {
        return answer(&format!("{{\"model\":{{\"bucket\":{bucket}}}}}"));
    }
    request
        .contains("UpsertBucket")
        .then(|| answer("{\"upsertBucket\":{\"bucket\":{\"name\":\"abc12345\"}}}"))?
}

#[test]
fn redirected_or_null_answers_do_not_count_as_sent() {
    let to_a_page = http("302 Found", "Location: /page\r\n", "");
    for answer in [to_a_page, http("200 OK", "", "null")] {
        let (url, asked) = answers(move |request| {
            // The target of the redirect would accept every request.
            let page = request.starts_with("GET").then(|| http("200 OK", "", "{}"));
            introduction(request, "null")
                .or(page)
                .or_else(|| Some(answer.clone()))
        });
        let mut logged = Logged::new();
        logged.rows(2);
        logged.exit(0);
        let timeout = Duration::from_millis(200);
        let error = sync_with(&logged.log(), settings(&url), PACE, timeout);
        assert!(
            matches!(error, Err(SyncError::Unreachable { .. })),
            "{error:?}"
        );
        assert!(!logged.dir.path().join("run-abc12345.wandb.synced").exists());
        let asked = asked.lock().expect("no panic");
        assert!(
            asked
                .iter()
                .any(|request| request.contains("wandb-history.jsonl"))
        );
        assert!(asked.iter().all(|request| request.starts_with("POST")));
    }
}

#[test]
fn impossible_counts_are_refused() {
    let sync = |bucket: &'static str| {
        let yes = || Some(http("200 OK", "", "{}"));
        let (url, _) = answers(move |request| introduction(request, bucket).or_else(yes));
        let mut logged = Logged::new();
        logged.rows(2);
        logged.exit(0);
        sync_with(&logged.log(), settings(&url), PACE, LONG)
    };
    for (bucket, what) in [
        (
            r#"{"historyLineCount":18446744073709551615}"#,
            "`historyLineCount` of 18446744073709551615",
        ),
        (
            r#"{"historyLineCount":1e300}"#,
            "`historyLineCount` of 1e+300",
        ),
        (r#"{"historyLineCount":-1}"#, "`historyLineCount` of -1"),
        (r#"{"logLineCount":"5"}"#, "`logLineCount` of \"5\""),
        (
            r#"{"summaryMetrics":"{\"_step\":18446744073709551615}"}"#,
            "`_step` of 18446744073709551615",
        ),
        (
            r#"{"historyTail":"[\"{\\\"_step\\\":18446744073709551614}\"]"}"#,
            "`_step` of 18446744073709551615",
        ),
    ] {
        let error = sync(bucket).expect_err("an impossible count").to_string();
        assert_eq!(
            error,
            format!("the upload was refused: the server has a {what}, which no run can have")
        );
    }
    let most = sync(r#"{"historyLineCount":9007199254740992,"logLineCount":9007199254740992}"#);
    assert_eq!(most.expect("a sync").rows, 9_007_199_254_740_994);
}

#[test]
fn largest_possible_steps_are_sent_without_a_panic() {
    let yes = || Some(http("200 OK", "", "{}"));
    let bucket = r#"{"historyLineCount":7}"#;
    let (url, _) = answers(move |request| introduction(request, bucket).or_else(yes));
    let mut logged = Logged::new();
    logged.row(&[
        ("_step", "18446744073709551615"),
        ("step", "18446744073709551615"),
    ]);
    logged.exit(0);
    let note = logged.dir.path().join("run-abc12345.wandb.uploaded");
    let text = format!(
        "{{\"server\":\"{url}\",\"offset\":18446744073709551615,\
         \"before\":{{\"rows\":1,\"lines\":18446744073709551615}},\"shift\":18446744073709551615}}"
    );
    std::fs::write(note, text).expect("a note");
    sync_with(&logged.log(), settings(&url), PACE, LONG).expect("a sync");
}

#[test]
fn few_warnings_of_one_kind_are_shown() {
    let yes = || Some(http("200 OK", "", "{}"));
    let (url, _) = answers(move |request| introduction(request, "null").or_else(yes));
    let mut logged = Logged::new();
    for number in 0..40 {
        logged.file(&format!("{number}.txt"), "", 0);
        std::fs::remove_file(logged.files().join(format!("{number}.txt"))).expect("a file");
    }
    logged.exit(0);
    let (uploader, inbox) = logged.upload(&url);
    is_complete(&uploader.finish_in(LONG));
    let notices = inbox.notices();
    assert_eq!(notices.len(), 5, "{notices:?}");
    assert!(
        notices[4].ends_with("(more of this kind are not shown)"),
        "{notices:?}"
    );
}

/// Returns why one request to an address fails.
fn failure(url: &str, more: &[(&str, &str)]) -> String {
    let settings = settings_with(url, more);
    assert_eq!(settings.warnings, [""; 0]);
    let key = settings.api_key.clone().expect("a key");
    match Api::new(&settings, key).post("/graphql", "{}") {
        Err(Failure::Temporary(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_of_the_network_are_sentences() {
    let text = failure("http://127.0.0.1:1", &[]);
    assert_eq!(
        text,
        "`127.0.0.1:1` refuses the connection: no server listens there; check WANDB_BASE_URL"
    );
    let text = failure("http://no-such-host.invalid", &[]);
    let expected = "no address is found for `no-such-host.invalid`; check WANDB_BASE_URL, and the network (DNS)";
    assert_eq!(text, expected);
    let (silent, _) = always(None);
    let text = failure(&silent, &[("WANDB_HTTP_TIMEOUT", "0.1")]);
    assert!(
        text.ends_with("does not answer in time; increase WANDB_HTTP_TIMEOUT (seconds)"),
        "{text}"
    );
    let (garbage, _) = always(Some("220 mail.example ESMTP\r\n\r\n"));
    assert!(
        failure(&garbage, &[]).contains("is not HTTP; if the server accepts only https"),
        "{}",
        failure(&garbage, &[])
    );
    let text = failure(&garbage.replace("http:", "https:"), &[]);
    assert!(
        text.ends_with(
            "does not speak TLS; if the server accepts only http, use http in WANDB_BASE_URL"
        ),
        "{text}"
    );
    let (closing, _) = always(Some(""));
    let text = failure(&closing, &[]);
    assert!(text.ends_with("closed the connection"), "{text}");
}

/// HTTPS server in Python, with a certificate made by openssl.
struct Https {
    child: Child,
    dir: tempfile::TempDir,
    url: String,
}

impl Https {
    /// Starts the server; `None` without Python or openssl.
    fn start(ca: &str, name: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
            ])
            .args(["-addext", &format!("basicConstraints=critical,CA:{ca}")])
            .args(["-addext", &format!("subjectAltName={name}")])
            .arg("-keyout")
            .arg(path("key.pem"))
            .arg("-out")
            .arg(path("certificate.pem"))
            .stderr(Stdio::null())
            .status();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judges/https.py");
        let child = Command::new("python3").arg(script).arg(dir.path()).spawn();
        let (true, Ok(child)) = (made.is_ok_and(|made| made.success()), child) else {
            eprintln!("skipped: there is no python3 or no openssl for an https server");
            return None;
        };
        super::wait_until("the server starts", || path("port").exists());
        let port = std::fs::read_to_string(path("port")).expect("the port");
        Some(Self {
            child,
            dir,
            url: format!("https://127.0.0.1:{port}"),
        })
    }

    fn certificate(&self) -> String {
        self.dir
            .path()
            .join("certificate.pem")
            .display()
            .to_string()
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn advice_on_a_refused_certificate_works() {
    let here = "IP:127.0.0.1";
    let Some(server) = Https::start("TRUE", here) else {
        return;
    };
    let text = failure(&server.url, &[]);
    assert!(
        text.contains("is self-signed as an authority's (CA:TRUE)")
            && text.contains("SSL_CERT_FILE"),
        "{text}"
    );

    let Some(server) = Https::start("FALSE", here) else {
        return;
    };
    let text = failure(&server.url, &[]);
    assert!(
        text.contains("is self-signed, or of an authority that is not known here; name a PEM file"),
        "{text}"
    );
    let certificate = server.certificate();
    let trusting = [("SSL_CERT_FILE", certificate.as_str())];
    assert_eq!(
        failure(&server.url, &trusting),
        "the answer is `null`, not W&B's"
    );

    let Some(server) = Https::start("FALSE", "DNS:elsewhere.example") else {
        return;
    };
    let certificate = server.certificate();
    let text = failure(&server.url, &[("SSL_CERT_FILE", &certificate)]);
    assert!(
        text.contains("is for another name; use that name"),
        "{text}"
    );
}
