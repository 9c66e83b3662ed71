//! Downloads are checked before they are written to the cache, and on every use.

use bdh_data::{DataError, Remote};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

const TEXT: &str = "to be or not to be\n";
const SHA256: &str = "4e40bfdae6cdc9353075d9e1473b7854a1b834bb60146d6f16cb640fff79996c";

/// Serves one request with `body`, and returns the address.
fn serve(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let _ = stream.read(&mut [0; 4096]);
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    });
    format!("http://{address}/input.txt")
}

fn remote(url: &str) -> Remote<'_> {
    Remote {
        url,
        file_name: "text.txt",
        bytes: TEXT.len() as u64,
        sha256: SHA256,
    }
}

fn files_in(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn download_is_cached() -> Result<(), DataError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cache = dir.path().join("not/yet/there");
    let url = serve("200 OK", TEXT);
    assert_eq!(remote(&url).cached_in(&cache)?, TEXT);
    assert_eq!(remote(&url).cached_in(&cache)?, TEXT); // the server answered once and is gone
    assert_eq!(files_in(&cache), 1);
    Ok(())
}

#[test]
fn wrong_checksum_is_an_error_and_leaves_no_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = serve("200 OK", "to be or not to bee");
    let error = remote(&url).cached_in(dir.path()).expect_err("other text");
    assert!(matches!(error, DataError::Checksum { .. }), "{error}");
    assert_eq!(files_in(dir.path()), 0);
}

#[test]
fn too_long_response_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = serve("200 OK", "to be or not to be, that is the question\n");
    let error = remote(&url)
        .cached_in(dir.path())
        .expect_err("more than announced");
    assert!(matches!(error, DataError::Download { .. }), "{error}");
    assert_eq!(files_in(dir.path()), 0);
}

#[test]
fn error_of_a_missing_page_suggests_a_local_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = serve("404 Not Found", "no such page");
    let error = remote(&url)
        .cached_in(dir.path())
        .expect_err("no such page");
    assert!(
        error
            .to_string()
            .ends_with("give the copy with `--data FILE`"),
        "{error}"
    );
    assert_eq!(files_in(dir.path()), 0);
}

#[test]
fn damaged_copy_in_the_cache_is_replaced() -> Result<(), DataError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("text.txt"), "to be or n").expect("half a file");
    let url = serve("200 OK", TEXT);
    assert_eq!(remote(&url).cached_in(dir.path())?, TEXT);
    assert_eq!(remote(&url).cached_in(dir.path())?, TEXT);
    Ok(())
}
