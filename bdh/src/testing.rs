//! Checks for callbacks and sinks of your own.
//!
//! They need nothing but a temporary directory, and panic with what was violated, as an `assert!` does.

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

use crate::outcome::{Outcome, Problem, StopReason};
use crate::record::Value;
use crate::sink::Sink;
use life::Life;
use records::{OddRecord, odd_records, plain};
use scratch::Scratch;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// Checks that a sink keeps what [`Sink`] promises to a run, in a few made-up runs of its own.
///
/// It is opened on one thread and written to on another, as in a run; gets values of every kind, with numbers
/// that are not finite, and files and pictures that are none; keys that are paths, empty, or 300 characters long;
/// steps with gaps; flushes at any time; problems and remarks; and each of the three ends. It is killed, which
/// here means dropped without [`close`](Sink::close), and resumed, up to four times in one run directory, where it must
/// keep what it has of the steps before.
///
/// In all of this it must neither fail nor panic, keep its own [`patience`](Sink::patience), write nothing outside
/// of the run directory, touch no file in it that is not its own, and name what it writes in
/// [`files`](Sink::files). Whether what it wrote is right is for a test that can read it.
///
/// `make` gets the run directory, which is also in [`RunInfo::dir`](crate::RunInfo::dir), and is called for each
/// life of a run.
///
/// # Panics
///
/// With the sink's name, what it was doing, and what it violated.
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
    let failed = Outcome::Failed("step 3:\nthe loss is NaN".to_owned());
    let ends = [
        Outcome::Completed,
        Outcome::Stopped(asked),
        Outcome::Stopped(StopReason::Signal),
        failed,
    ];
    for end in &ends {
        takes_anything(&make, end);
        may_stay_empty(&make, end);
    }
    survives_being_killed(&make);
    goes_on_in_a_new_directory(&make);
}

/// A run that logs everything there is.
fn takes_anything<S: Sink>(make: &impl Fn(&Path) -> S, end: &Outcome) {
    let scratch = Scratch::new();
    let mut life = Life::begin(make, &scratch, None);
    elsewhere(|| {
        for (index, OddRecord { with, record }) in odd_records(&scratch).iter().enumerate() {
            life.write(record, with);
            match index % 4 {
                0 => life.flush(),
                1 => life.hear(&problem()),
                2 => life.remark("see `https://example.org/%7E?a=b`\n\tor do not"),
                _ => {}
            }
        }
        life.flush();
        life.flush();
        life.close(end);
    });
}

/// A run that logs nothing.
fn may_stay_empty<S: Sink>(make: &impl Fn(&Path) -> S, end: &Outcome) {
    for flushes in 0..2 {
        let scratch = Scratch::new();
        let mut life = Life::begin(make, &scratch, None);
        elsewhere(|| {
            (0..flushes).for_each(|_| life.flush());
            life.close(end);
        });
    }
    Life::new(make, &Scratch::new(), None).end("without ever being opened");
}

/// A run that is killed again and again, and at last ends well.
fn survives_being_killed<S: Sink>(make: &impl Fn(&Path) -> S) {
    for first in [0, 20] {
        let scratch = Scratch::new();
        let mut life = Life::begin(make, &scratch, None);
        elsewhere(|| {
            (0..first).for_each(|step| life.write(&plain(step), "scalars"));
            life.end("without being closed");
        });

        // From a checkpoint with later records behind it; then from one whose own record it never got, and from
        // one that had none.
        for (at, record) in [(12, Some(plain(12))), (40, Some(plain(40))), (50, None)] {
            let mut life = Life::begin(make, &scratch, Some((at, record)));
            elsewhere(|| {
                for step in at + 1..at + 6 {
                    life.write(&plain(step), "scalars");
                }
                life.flush();
                if at < 50 {
                    life.end("without being closed");
                } else {
                    life.close(&Outcome::Completed);
                }
            });
        }
    }
}

/// A run that is resumed where nothing of its past is.
fn goes_on_in_a_new_directory<S: Sink>(make: &impl Fn(&Path) -> S) {
    let scratch = Scratch::new();
    let mut life = Life::begin(make, &scratch, Some((1_000, Some(plain(1_000)))));
    elsewhere(|| {
        life.write(&plain(1_001), "scalars");
        life.close(&Outcome::Completed);
    });
}

fn problem() -> Problem {
    Problem {
        who: "a callback".to_owned(),
        during: "on_step".to_owned(),
        step: 7,
        error: "out of \"ink\"\nand paper".to_owned(),
        consequence: "the run goes on without it".to_owned(),
    }
}

/// Does it on a thread of its own; a panic there is one here.
fn elsewhere(work: impl FnOnce() + Send) {
    if let Err(panic) = thread::scope(|scope| scope.spawn(work).join()) {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests;
