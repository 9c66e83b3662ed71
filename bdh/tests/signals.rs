//! The first SIGINT or SIGTERM ends a run cleanly, the second one ends the process at once.
//!
//! Signals go to a process, so each run here is a child process: this test binary again, in which an environment
//! variable asks for training.

#![cfg(unix)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::at;
use bdh::{Outcome, StopReason};
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

const RUN_DIR: &str = "BDH_TEST_RUN_DIR";
/// Variable that makes a step of the child take forever, so that it cannot act on the first signal.
const STUCK: &str = "BDH_TEST_STUCK";

/// The child process; without the variable this test does nothing.
#[test]
fn child_process_that_trains() {
    let Ok(dir) = std::env::var(RUN_DIR) else {
        return;
    };
    let is_stuck = std::env::var(STUCK).is_ok();
    let wait = tiny::on_step(move |ctx| {
        let is_last = is_stuck && ctx.step() == 3;
        if is_last {
            std::fs::write(ctx.run_dir().expect("a run directory").join("stuck"), "")?;
        }
        std::thread::sleep(if is_last {
            Duration::from_mins(5)
        } else {
            Duration::from_millis(2)
        });
        Ok(())
    });
    let fitted = tiny::run(1_000_000)
        .eval(bdh::cadence::never())
        .run_dir(dir)
        .stop_on_signals(true)
        .callback(wait)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that ends cleanly");
    assert_eq!(fitted.outcome, Outcome::Stopped(StopReason::Signal));
}

fn child(dir: &Path, is_stuck: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args(["child_process_that_trains", "--exact", "--nocapture"])
        .env(RUN_DIR, dir);
    command.stdout(std::process::Stdio::null());
    if is_stuck {
        command.env(STUCK, "");
    }
    command.spawn().expect("a child")
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.expect("`kill` runs").success());
}

/// Waits until `ready`. Ends the child if that takes too long.
fn wait_until(child: &mut Child, mut ready: impl FnMut(&mut Child) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready(child) {
        if Instant::now() > deadline {
            child.kill().expect("a child to kill");
            panic!("the child did nothing for half a minute");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end(child: &mut Child) -> ExitStatus {
    wait_until(child, |child| child.try_wait().expect("a child").is_some());
    child.wait().expect("a child that has ended")
}

fn lines(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn run_json(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("run.json")).expect("run.json")).expect("JSON")
}

fn check_clean_end(name: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let mut child = child(&dir, false);
    wait_until(&mut child, |_| lines(&dir).len() >= 3);
    signal(&child, name);
    assert!(end(&mut child).success());

    let file = run_json(&dir);
    assert_eq!(
        (&file["status"], &file["outcome"]["stopped"]),
        (&"stopped".into(), &"signal".into())
    );
    let last = lines(&dir).pop().expect("records")["step"]
        .as_u64()
        .expect("a step");
    let newest = bdh::checkpoint::latest(&dir.join("checkpoints")).expect("a checkpoint");
    let clock = bdh::checkpoint::Checkpoint::read(&newest)
        .expect("a whole checkpoint")
        .state
        .clock;
    assert_eq!(
        clock.step, last,
        "the checkpoint is of the last step that was recorded"
    );

    // The run resumes from that checkpoint.
    let stop = tiny::on_step(move |ctx| {
        ctx.stop("seen enough");
        Ok(())
    });
    let resumed = tiny::run(1_000_000)
        .eval(bdh::cadence::never())
        .run_dir(&dir)
        .resume(newest)
        .callback(bdh::CallbackExt::on(stop, at([last + 2])))
        .build()
        .expect("a run to resume");
    resumed.fit().expect("a run that stops");
    let steps: Vec<_> = lines(&dir)
        .iter()
        .map(|line| line["step"].as_u64())
        .collect();
    assert_eq!(steps, (1..=last + 2).map(Some).collect::<Vec<_>>());
}

#[test]
fn sigint_ends_the_run_with_a_checkpoint_to_resume_from() {
    check_clean_end("INT");
}

#[test]
fn sigterm_ends_the_run_with_a_checkpoint_to_resume_from() {
    check_clean_end("TERM");
}

#[test]
fn a_second_sigint_ends_the_process_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let mut child = child(&dir, true);
    wait_until(&mut child, |_| dir.join("stuck").exists());
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(100)); // two at once would be one
    assert!(
        child.try_wait().expect("a child").is_none(),
        "the first one waits for the step"
    );
    signal(&child, "INT");
    assert_eq!(end(&mut child).signal(), Some(2));
    assert_eq!(run_json(&dir)["status"], "running");
    assert_eq!(lines(&dir).len(), 2, "the records are on disk");
}
