//! Conformance checks for callbacks, sinks and runs.
//!
//! The checks need only a temporary directory. Like `assert!` they panic, with the rule that was violated.

mod callback;
mod hook_log;
mod life;
mod queue;
mod records;
mod resume;
mod scratch;
mod tiny;

pub use callback::{CallbackCheck, callback_conforms};
pub use hook_log::HookLog;
pub use queue::Queue;
pub use resume::resume_exact;
pub use tiny::tiny_run;

use crate::message::Message;
use crate::outcome::{Outcome, StopReason, Warning};
use crate::record::Value;
use crate::sink::Sink;
use life::Life;
use records::{OddRecord, odd_records, plain};
use scratch::Scratch;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// Checks that a sink obeys the rules of [`Sink`], in a few made-up runs.
///
/// The sink is opened on one thread and written to on another, as in a run. It receives values of every kind, with
/// numbers that are not finite, and files and pictures that are not valid; keys that are paths, empty, or 300
/// characters long; steps with gaps; flushes at any time; warnings and notices; and each way for a run to end. It is
/// killed (dropped without [`close`](Sink::close)) and resumed, up to four times in one run directory, where it must
/// keep its output of the steps before.
///
/// In all of this the sink must not fail or panic, must stay within its [`flush_timeout`](Sink::flush_timeout), must
/// not write outside the run directory or change files there that are not its own, and must list its files in
/// [`files`](Sink::files). The check does not read the output: test its content yourself.
///
/// `make` receives the run directory, which is also in [`RunInfo::dir`](crate::RunInfo::dir). It is called each time
/// that a run starts or resumes.
///
/// # Panics
///
/// If the sink breaks a rule. The text names the sink, the operation and the rule.
///
/// # Examples
///
/// ```
/// bdh::testing::sink_conforms(|_| bdh::Jsonl::default());
/// ```
pub fn sink_conforms<S: Sink>(make: impl Fn(&Path) -> S) {
    let asked = StopReason::Asked {
        by: "a person".to_owned(),
        why: "it is late".to_owned(),
    };
    let ends = [
        Outcome::Completed,
        Outcome::Stopped(asked),
        Outcome::Stopped(StopReason::Signal),
        Outcome::Failed("step 3:\nthe loss is NaN".to_owned()),
    ];
    for end in &ends {
        check_odd_records(&make, end);
        check_empty_run(&make, end);
    }
    check_killed_run(&make);
    check_new_directory(&make);
}

/// Checks a run that records values of every kind.
fn check_odd_records<S: Sink>(make: &impl Fn(&Path) -> S, end: &Outcome) {
    let scratch = Scratch::new();
    let mut life = Life::begin(make, &scratch, None);
    on_another_thread(|| {
        for (index, OddRecord { with, record }) in odd_records(&scratch).iter().enumerate() {
            life.write(record, with);
            match index % 4 {
                0 => life.flush(),
                1 => life.message(&warning()),
                2 => life.message(&notice()),
                _ => {}
            }
        }
        life.flush();
        life.flush();
        life.close(end);
    });
}

/// Checks a run without records.
fn check_empty_run<S: Sink>(make: &impl Fn(&Path) -> S, end: &Outcome) {
    for flushes in 0..2 {
        let scratch = Scratch::new();
        let mut life = Life::begin(make, &scratch, None);
        on_another_thread(|| {
            for _ in 0..flushes {
                life.flush();
            }
            life.close(end);
        });
    }
    Life::new(make, &Scratch::new(), None).end("without ever being opened");
}

/// Checks a run that is killed several times and then completes.
fn check_killed_run<S: Sink>(make: &impl Fn(&Path) -> S) {
    for first in [0, 20] {
        let scratch = Scratch::new();
        let mut life = Life::begin(make, &scratch, None);
        on_another_thread(|| {
            for step in 0..first {
                life.write(&plain(step), "scalars");
            }
            life.end("without being closed");
        });

        // Resumes from a checkpoint with later records after it, then from one whose record the sink never received,
        // then from one without a record.
        for (step, record) in [(12, Some(plain(12))), (40, Some(plain(40))), (50, None)] {
            let life = Life::begin(make, &scratch, Some((step, record)));
            on_another_thread(|| continue_run(life, step));
        }
    }
}

/// Writes five records after a step; ends the run after step 50, and kills it after an earlier one.
fn continue_run<S: Sink>(mut life: Life<'_, S>, step: u64) {
    for later in step + 1..step + 6 {
        life.write(&plain(later), "scalars");
    }
    life.flush();
    if step < 50 {
        life.end("without being closed");
    } else {
        life.close(&Outcome::Completed);
    }
}

/// Checks a run that is resumed in a directory without the sink's files.
fn check_new_directory<S: Sink>(make: &impl Fn(&Path) -> S) {
    let scratch = Scratch::new();
    let mut life = Life::begin(make, &scratch, Some((1_000, Some(plain(1_000)))));
    on_another_thread(|| {
        life.write(&plain(1_001), "scalars");
        life.close(&Outcome::Completed);
    });
}

fn warning() -> Message {
    Message::Warning(Warning {
        source: "a callback".to_owned(),
        phase: "on_step".to_owned(),
        step: 7,
        cause: "out of \"ink\"\nand paper".to_owned(),
        consequence: "the run continues without it".to_owned(),
    })
}

fn notice() -> Message {
    Message::Notice("see `https://example.org/%7E?a=b`\n\tor do not".to_owned())
}

/// Runs work on another thread and waits for it, because a run writes to sinks on their own threads. Panics are
/// passed on.
fn on_another_thread(work: impl FnOnce() + Send) {
    if let Err(panic) = thread::scope(|scope| scope.spawn(work).join()) {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests;
