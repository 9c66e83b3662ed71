//! A disk that fills while a shard is written.

use super::support::{Home, header};
use bdh::BoxError;
use bdh_data::RowWriter;
use std::path::Path;
use std::process::Command;

/// Variable by which the test below runs itself with a limit on the size of its files.
const FULL_DISK: &str = "BDH_TEST_FULL_DISK";

#[test]
fn a_disk_that_fills_leaves_nothing_under_the_name() {
    if let Some(dir) = std::env::var_os(FULL_DISK) {
        return write_until_full(Path::new(&dir));
    }
    // The signal is ignored, so that a write beyond the limit is an error, as on a full disk.
    let script = r#"trap '' XFSZ; ulimit -f "$1"; exec "$0" --exact "$2""#;
    let test = "shards::full_disk::a_disk_that_fills_leaves_nothing_under_the_name";
    let program = std::env::current_exe().expect("this program");
    // The shard has 160,256 bytes and is written in pieces of 8 KiB: the limit is met at every stage.
    for blocks in [0, 1, 8, 40, 150, 170, 200, 310] {
        let home = Home::new();
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&program);
        command.arg(blocks.to_string()).arg(test);
        let output = command.env(FULL_DISK, home.path()).output().expect("sh");
        assert!(output.status.success(), "{blocks} blocks: {output:?}");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains("1 passed"), "{blocks} blocks: {printed}");
        assert_eq!(home.names(), [""; 0], "{blocks} blocks");
    }
}

fn write_until_full(dir: &Path) {
    let path = dir.join("train_0.bin");
    let error = write_all(&path).expect_err("the disk is full").to_string();
    assert!(error.contains("cannot write `"), "{error}");
}

fn write_all(path: &Path) -> Result<(), BoxError> {
    let mut writer = RowWriter::create(path, header(40))?;
    for _ in 0..1000 {
        writer.push(&[7; 41])?;
    }
    writer.finish()?;
    Ok(())
}
