//! A W&B server on this machine, and a connection to it that can be cut.

#![allow(dead_code, reason = "each test takes what it needs")]

use serde_json::Value as Json;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Process of `fake_wandb.py`, this project's test server.
pub(crate) struct Server {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server; `None` without Python.
    pub(crate) fn start(args: &[&str]) -> Option<Self> {
        let script = "../bdh-wandb/tests/judges/fake_wandb.py"; // also for tests of other crates
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port_file = dir.path().join("port");
        let child = Command::new("python3")
            .arg(script)
            .arg("--port-file")
            .arg(&port_file)
            .arg("--log")
            .arg(dir.path().join("log"))
            .args(["--seconds", "300"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            let _ = writeln!(
                io::stderr(),
                "skipped: there is no python3 for the W&B server"
            );
            return None;
        };
        let mut server = Self {
            child,
            dir,
            port: 0,
        };
        wait_until("the server starts", || port_file.exists());
        let port = fs::read_to_string(port_file).expect("the port");
        server.port = port.trim().parse().expect("a port");
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns everything that the server has received.
    pub(crate) fn dump(&self) -> Json {
        let agent = ureq::Agent::new_with_defaults();
        let mut answer = agent
            .get(format!("{}/dump", self.url()))
            .call()
            .expect("the server's dump");
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string();
        let text = body.expect("the server's dump");
        let text = with_names_quoted(&text);
        serde_json::from_str(&text).expect("JSON")
    }

    /// Returns the only run that the server has received.
    pub(crate) fn run(&self) -> Json {
        let dump = self.dump();
        assert_eq!(dump["problems"], serde_json::json!([]));
        assert_eq!(dump["unknown_operations"], serde_json::json!({}));
        let runs = dump["runs"].as_object().expect("runs");
        assert_eq!(runs.len(), 1, "{:?}", runs.keys());
        runs.values().next().expect("a run").clone()
    }

    /// Returns a JSON object for each request.
    pub(crate) fn requests(&self) -> Vec<Json> {
        let text = fs::read_to_string(self.dir.path().join("log")).expect("the server's log");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Returns the offset and the number of rows of each request with rows.
    pub(crate) fn row_requests(&self) -> Vec<(u64, u64)> {
        let mut chunks = Vec::new();
        for request in self.requests() {
            let chunk = &request["files"]["wandb-history.jsonl"];
            if let (Some(offset), Some(count)) = (chunk[0].as_u64(), chunk[1].as_u64()) {
                chunks.push((offset, count));
            }
        }
        chunks
    }
}

/// Returns Python's JSON with bare NaN and infinities as strings; text in strings is unchanged.
fn with_names_quoted(text: &str) -> String {
    let mut quoted = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find('"') {
        let bytes = &rest.as_bytes()[begin + 1..];
        let mut len = 0;
        while bytes[len] != b'"' {
            len += if bytes[len] == b'\\' { 2 } else { 1 };
        }
        quoted += &names_quoted(&rest[..begin]);
        let end = begin + len + 2;
        quoted += &rest[begin..end];
        rest = &rest[end..];
    }
    quoted + &names_quoted(rest)
}

fn names_quoted(text: &str) -> String {
    let text = text
        .replace("-Infinity", "\"-I\"")
        .replace("Infinity", "\"Infinity\"");
    text.replace("\"-I\"", "\"-Infinity\"")
        .replace("NaN", "\"NaN\"")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connection to a server that can be cut.
pub(crate) struct Line {
    pub(crate) port: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let line = Self {
            port: listener.local_addr().expect("an address").port(),
            is_cut: Arc::default(),
            open: Arc::default(),
        };
        let (is_cut, open) = (Arc::clone(&line.is_cut), Arc::clone(&line.open));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !is_cut.load(Ordering::SeqCst) {
                    connect(client, port, &open);
                }
            }
        });
        line
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn connect(client: TcpStream, port: u16, open: &Mutex<Vec<TcpStream>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    open.lock()
        .expect("no panic")
        .extend([clone(&client), clone(&server)]);
    for (mut from, mut to) in [(clone(&client), clone(&server)), (server, client)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Starts a server with the same answer for every request, or none, and returns its address and the requests.
pub(crate) fn always(answer: Option<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
    answers(move |_| answer.map(str::to_owned))
}

/// Returns an HTTP answer with a status line, more headers and a body.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    )
}

/// Starts a server whose answers `answer` decides, and returns its address and the requests.
pub(crate) fn answers(
    answer: impl Fn(&str) -> Option<String> + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&requests);
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut client in listener.incoming().flatten() {
            let request = request(&mut client);
            match answer(&request) {
                Some(answer) => drop(client.write_all(answer.as_bytes())),
                None => kept.push(client),
            }
            received.lock().expect("no panic").push(request);
        }
    });
    (url, requests)
}

/// Reads a request, whose body may arrive after its head.
fn request(client: &mut TcpStream) -> String {
    let mut bytes = vec![0; 1 << 16];
    let mut len = 0;
    loop {
        let read = client.read(&mut bytes[len..]).unwrap_or(0);
        len += read;
        let text = String::from_utf8_lossy(&bytes[..len]);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let head = head.to_lowercase();
        let size = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let is_tls = !bytes[0].is_ascii_alphabetic(); // encrypted, so its end cannot be found
        if read == 0 || is_tls || (text.contains("\r\n\r\n") && body.len() >= size.unwrap_or(0)) {
            return text.into_owned();
        }
    }
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "{what}: not within a minute"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
