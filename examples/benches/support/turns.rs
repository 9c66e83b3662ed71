//! Concurrent runs that take turns of a few steps, so that a noisy machine disturbs all of them equally.

use super::interrupted::BeforeBatch;
use bdh::BoxError;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Lock that gives one run the turn.
#[derive(Clone)]
pub(crate) struct Turns {
    now: Arc<(Mutex<usize>, Condvar)>,
    players: usize,
}

impl Turns {
    pub(crate) fn of(players: usize) -> Self {
        Self {
            now: Arc::default(),
            players,
        }
    }

    /// Returns the run that has a turn. The order is reversed in every second round, so that no run always follows the
    /// slowest one.
    fn player(&self, turn: usize) -> usize {
        let (round, place) = (turn / self.players, turn % self.players);
        if round.is_multiple_of(2) {
            place
        } else {
            self.players - 1 - place
        }
    }

    fn pass_on(&self) {
        *self.now.0.lock().unwrap() += 1;
        self.now.1.notify_all();
    }

    fn wait_for(&self, player: usize) {
        let turn = self.now.0.lock().unwrap();
        drop(
            self.now
                .1
                .wait_while(turn, |turn| self.player(*turn) != player)
                .unwrap(),
        );
    }
}

/// Measurements of a turn.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    /// Processor time of all threads of the program; 0 if the system does not report it. It does not include other
    /// programs.
    pub(crate) cpu: Duration,
}

/// Measurements of a run's turns.
#[derive(Clone, Default)]
pub(crate) struct Times(Arc<Mutex<Vec<Took>>>);

impl Times {
    pub(crate) fn take(&self) -> Vec<Took> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Work before each batch, which makes a run wait for its turn.
///
/// The time between the first batches of two turns is the time of the steps, including records and device reads.
pub(crate) struct Paced {
    turns: Turns,
    player: usize,
    stretch: u64,
    given: u64,
    /// Processor time of the program at the beginning of the turn.
    began: Option<(Instant, Duration)>,
    times: Times,
}

impl Paced {
    /// Creates the work of a run that takes `stretch` steps per turn.
    pub(crate) fn new(turns: Turns, player: usize, stretch: u64) -> Self {
        Self {
            turns,
            player,
            stretch,
            given: 0,
            began: None,
            times: Times::default(),
        }
    }

    pub(crate) fn times(&self) -> Times {
        self.times.clone()
    }
}

impl BeforeBatch for Paced {
    fn before_batch(&mut self) -> Result<(), BoxError> {
        if self.given.is_multiple_of(self.stretch) {
            if let Some((began, before)) = self.began {
                let took = Took {
                    time: began.elapsed(),
                    cpu: cpu().saturating_sub(before),
                };
                self.times.0.lock().unwrap().push(took);
                self.turns.pass_on();
            }
            self.turns.wait_for(self.player);
            self.began = Some((Instant::now(), cpu()));
        }
        self.given += 1;
        Ok(())
    }
}

impl Drop for Paced {
    /// Ends the last turn, which does not count because it includes the end of the run.
    fn drop(&mut self) {
        self.turns.pass_on();
    }
}

/// Returns the processor time of the program. Source: proc_pid_stat(5), fields 14 and 15, in hundredths of a second.
fn cpu() -> Duration {
    let Ok(text) = std::fs::read_to_string("/proc/self/stat") else {
        return Duration::ZERO;
    };
    let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(10 * ticks)
}
