//! The wait for a server at the end of a run: files on disk by then, printed lines, and signals that end the wait.
#![cfg(all(unix, feature = "wandb-online"))]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;
#[path = "../../bdh-wandb/tests/support/wandb_server.rs"]
mod wandb_server;

use bdh_callbacks::wandb::Mode;
use bdh_callbacks::{Console, Wandb};
use serde_json::Value as Json;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use wandb_server::always;

const KEY: &str = "c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ff";

/// Work of a child: trains, then waits for its sinks.
#[test]
fn run_that_waits() {
    let Ok(steps) = std::env::var("BDH_TEST_STEPS") else {
        return;
    };
    let paced = tiny::on_step(|_| {
        thread::sleep(Duration::from_millis(1));
        Ok(())
    });
    let run = tiny::run(steps.parse().expect("a number"))
        .eval(bdh::cadence::never())
        .run_dir("run")
        .stop_on_signals(true)
        .callback(paced)
        .sink(Console::default())
        .sink(Wandb::from_env().finish_timeout(Duration::from_mins(5)));
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that ends well");
}

struct Run {
    child: Child,
    lines: Receiver<String>,
}

impl Run {
    fn start(dir: &Path, url: &str, steps: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "run_that_waits", "--nocapture"])
            .current_dir(dir)
            .env_clear()
            .env("HOME", "/nowhere/at/all")
            .env("BDH_TEST_STEPS", steps.to_string())
            .env("WANDB_BASE_URL", url)
            .env("WANDB_API_KEY", KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line); // fails if the test has ended
            }
        });
        Self { child, lines }
    }

    /// Returns the next line that contains a text.
    fn line(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("no line with `{text}`"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn interrupt(&self) {
        let sent = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(sent.expect("`kill` runs").success());
    }

    /// Interrupts the wait. Checks that the process succeeds within 10 s, and prints the command that sends the rest.
    fn ends_its_wait(mut self, dir: &Path) {
        let folder = fs::read_link(dir.join("run/wandb/latest-run")).expect("the link to the run");
        let began = Instant::now();
        self.interrupt();
        let line = self.line("a signal ended the wait for the server");
        let command = format!("send it with: wandb sync run/wandb/{}", folder.display());
        assert!(line.contains(&command), "{line}");
        assert!(self.child.wait().expect("a child that ends").success());
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_json(dir: &Path) -> Json {
    serde_json::from_slice(&fs::read(dir.join("run/run.json")).expect("run.json")).expect("JSON")
}

#[test]
fn endless_timeout_does_not_panic() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let wandb = Wandb::from_env()
        .mode(Mode::Offline)
        .finish_timeout(Duration::MAX);
    let run = tiny::run(2).run_dir(dir.path().join("run")).sink(wandb);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that ends well");
    assert_eq!(fitted.warnings, []);
}

#[test]
fn wait_comes_after_run_json_and_one_signal_ends_it() {
    let (url, _) = always(None);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = Run::start(dir.path(), &url, 3);
    let line = run.line("waiting for");
    let expected =
        format!("wandb: waiting for {url} to take the rest of the run: 5m00s at most, 30s while");
    assert!(line.starts_with(&expected), "{line}");
    assert_eq!(run_json(dir.path())["status"], "completed");
    run.ends_its_wait(dir.path());
    let end = run_json(dir.path());
    assert_eq!(
        (&end["status"], &end["problems"][0]["during"]),
        (&"completed".into(), &"upload".into())
    );
}

#[test]
fn signal_that_stops_the_run_does_not_end_the_wait() {
    let (url, _) = always(None);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = Run::start(dir.path(), &url, 1_000_000);
    run.line("Step: 1/");
    run.interrupt();
    run.line("waiting for");
    assert_eq!(run_json(dir.path())["status"], "stopped");
    run.ends_its_wait(dir.path());
    assert_eq!(run_json(dir.path())["status"], "stopped");
}
