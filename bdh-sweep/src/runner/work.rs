//! The loop of a sweep: begin, wait, judge.

use super::active::{Active, Traces, Why};
use super::choice::draw;
use super::{Runner, Running, SweepOutcome, Watcher};
use crate::error::SweepError;
use crate::hyperband::Progress;
use crate::ledger::{Claim, Ledger};
use crate::metric::Follower;
use crate::process::{Process, Start};
use crate::schema::Sweep;
use crate::trial::{Status, Trial};
use bdh::{SignalWatch, files};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at whether a process has ended.
const TICK: Duration = Duration::from_millis(20);

/// Between two looks at what the trials have recorded.
const LOOK: Duration = Duration::from_secs(1);

/// Trials that fail before any succeeds, and end the sweep: whatever is wrong is wrong with all of them.
const FAILURES: usize = 3;

pub(super) struct Work<'a> {
    runner: &'a Runner,
    sweep: &'a Sweep,
    ledger: &'a Ledger,
    watcher: &'a mut dyn Watcher,
    total: u64,
    /// This program, for sweeps whose trials are runs of it.
    program: String,
    active: Vec<Active>,
    /// What all trials have recorded, for early termination.
    recorded: BTreeMap<u64, Follower>,
    /// Whether another process has the lock of a trial that has no file.
    is_late: bool,
    /// What was said by the trials that failed; `None` once one has not.
    failures: Option<Vec<String>>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        runner: &'a Runner,
        sweep: &'a Sweep,
        ledger: &'a Ledger,
        watcher: &'a mut dyn Watcher,
    ) -> Result<Self, SweepError> {
        let has_worked = |trial: &Trial| trial.status.is_over() && trial.status != Status::Failed;
        let failures = (!ledger.trials()?.iter().any(has_worked)).then(Vec::new);
        Ok(Self {
            total: runner.total(sweep)?,
            // Once: after a rebuild the system would call it deleted.
            program: std::env::current_exe()
                .unwrap_or_default()
                .display()
                .to_string(),
            runner,
            sweep,
            ledger,
            watcher,
            active: Vec::new(),
            recorded: BTreeMap::new(),
            is_late: false,
            failures,
        })
    }

    pub(super) fn run(&mut self) -> Result<SweepOutcome, SweepError> {
        let outcome = self.until_the_end();
        // After an error of ours; else there is nobody left.
        self.active
            .iter_mut()
            .for_each(|active| active.end(Why::Interrupted));
        outcome
    }

    fn until_the_end(&mut self) -> Result<SweepOutcome, SweepError> {
        let signals = SignalWatch::start();
        let mut last_look: Option<Instant> = None;
        let mut may_begin = true;
        loop {
            let is_interrupted = signals.as_ref().is_some_and(SignalWatch::asked);
            let gave_up = self
                .failures
                .as_ref()
                .filter(|failures| failures.len() >= FAILURES);
            let gave_up = gave_up.and_then(|failures| failures.last()).cloned();
            if is_interrupted {
                self.active
                    .iter_mut()
                    .for_each(|active| active.end(Why::Interrupted));
            } else if gave_up.is_none() && may_begin {
                while self.active.len() < self.runner.jobs.max(1) && self.begin_one()? {}
            }
            if self.active.is_empty() {
                match gave_up {
                    Some(failure) => return Ok(SweepOutcome::GaveUp(failure)),
                    None if is_interrupted => return Ok(SweepOutcome::Interrupted),
                    None if !self.waits_for_others()? => return Ok(SweepOutcome::Complete),
                    None => thread::sleep(LOOK),
                }
            }
            thread::sleep(TICK);
            may_begin = self.reap()?;
            if last_look.is_none_or(|last| last.elapsed() >= LOOK) {
                last_look = Some(Instant::now());
                may_begin = true; // a trial may have been left behind elsewhere
                self.look()?;
            }
        }
    }

    /// Whether a process on this machine runs a trial that we would take up if it died: one that a sweep which was killed
    /// has left behind, say, or one whose file was deleted.
    fn waits_for_others(&self) -> Result<bool, SweepError> {
        let is_here = |trial: &Trial| trial.status == Status::Running && trial.host == host();
        Ok(self.is_late || self.ledger.trials()?.iter().any(is_here))
    }

    /// Begins or takes up a trial, if there is one for us.
    fn begin_one(&mut self) -> Result<bool, SweepError> {
        let Some(mut claim) = self.claim()? else {
            return Ok(false);
        };
        let number = claim.trial.number;
        let key = self.sweep.metric.as_ref().map_or("", |metric| &metric.name);
        let run_dir = self.ledger.run_dir(number);
        let mut follower = Follower::new(&run_dir, key);
        let traces = Traces {
            run_dir: &run_dir,
            metric: self.sweep.metric.as_ref(),
        };
        if let Some((status, why)) = traces.outcome(&mut follower) {
            let seconds = claim.trial.seconds; // how long it went on by itself nobody knows
            self.end(claim, &follower, seconds, status, why)?;
            return Ok(true);
        }
        let taken: Vec<_> = self.active.iter().map(|active| active.slot).collect();
        let slot = (0..=taken.len())
            .find(|slot| !taken.contains(slot))
            .unwrap_or_default();
        let process = self.start(&claim, slot)?;
        claim.trial.pid = Some(process.id());
        claim.save()?;
        self.active
            .push(Active::new(claim, slot, process, follower));
        Ok(true)
    }

    /// A trial that is ours to run: one that was left behind, or else a new one.
    fn claim(&mut self) -> Result<Option<Claim>, SweepError> {
        let trials = self.ledger.trials()?;
        if let Some(claim) = self.left_behind(&trials)? {
            return Ok(Some(claim));
        }
        let taken: HashSet<u64> = trials.iter().map(|trial| trial.number).collect();
        self.is_late = false;
        for number in (1..=self.total).filter(|number| !taken.contains(number)) {
            if let Some(claim) = self.begin(number, &trials)? {
                return Ok(Some(claim));
            }
            self.is_late = true; // another process has its lock: it will write the trial's file, or die
        }
        Ok(None)
    }

    /// A trial whose process died, or that was interrupted.
    fn left_behind(&self, trials: &[Trial]) -> Result<Option<Claim>, SweepError> {
        let is_ours = |number| self.active.iter().any(|active| active.number() == number);
        let open = trials
            .iter()
            .filter(|trial| !trial.status.is_over() && !is_ours(trial.number));
        for trial in open {
            if let Some(mut claim) = self.ledger.take_up(trial.number)? {
                claim.trial.status = Status::Running;
                (claim.trial.host, claim.trial.pid) = (host(), None);
                claim.save()?;
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// A new trial; `None` if somebody was faster.
    fn begin(&self, number: u64, trials: &[Trial]) -> Result<Option<Claim>, SweepError> {
        let (point, values) = draw(self.sweep, self.ledger.seed(), number, trials);
        self.ledger.begin(Trial {
            number,
            values,
            point,
            status: Status::Running,
            value: None,
            why: None,
            host: host(),
            pid: None,
            began_at: bdh::now(),
            seconds: 0.0,
        })
    }

    /// Sees who has ended and who has run for too long; tells whether there is room for another.
    fn reap(&mut self) -> Result<bool, SweepError> {
        let before = std::mem::take(&mut self.active);
        let (count, mut failed) = (before.len(), None);
        for active in before {
            match self.after(active) {
                Ok(goes_on) => self.active.extend(goes_on),
                Err(error) => failed = Some(error), // the others go on until they are asked to end
            }
        }
        failed.map_or(Ok(self.active.len() < count), Err)
    }

    /// The trial, if it goes on.
    fn after(&mut self, mut active: Active) -> Result<Option<Active>, SweepError> {
        let number = active.number();
        let run_dir = self.ledger.run_dir(number);
        let failed = |source| SweepError::Folder {
            path: run_dir.clone(),
            source,
        };
        let Some(exit) = active.process.ended().map_err(failed)? else {
            if let Some(timeout) = self.runner.timeout.filter(|most| active.elapsed() > *most) {
                active.end(Why::Timeout(timeout));
            }
            return Ok(Some(active));
        };
        let traces = Traces {
            run_dir: &run_dir,
            metric: self.sweep.metric.as_ref(),
        };
        let (status, why) = active.judge(exit, &traces);
        let seconds = active.elapsed().as_secs_f64();
        self.end(active.claim, &active.follower, seconds, status, why)?;
        Ok(None)
    }

    fn start(&self, claim: &Claim, slot: usize) -> Result<Process, SweepError> {
        let number = claim.trial.number;
        let file = self.ledger.path(number, "args.json");
        let mut words = self
            .sweep
            .command_line(&claim.trial.values, &self.program, &file)?;
        if words.iter().any(|word| *word == file.display().to_string()) {
            let json = Value::Object(claim.trial.values.clone()).to_string();
            files::write_atomically(&file, json.as_bytes()).map_err(|source| {
                SweepError::Folder {
                    path: file.clone(),
                    source,
                }
            })?;
        }
        words.extend(self.runner.more.iter().cloned());
        let devices = &self.runner.devices;
        let start = Start {
            words: &words,
            device: devices.get(slot % devices.len().max(1)).copied(),
            threads: self.threads(),
            lock: claim.lock(),
        };
        Process::start(self.ledger, number, start)
    }

    /// Each trial's share of the cores; `None` if there is nothing to share, or the user has said it.
    fn threads(&self) -> Option<usize> {
        let is_said = std::env::var_os("RAYON_NUM_THREADS").is_some();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        (self.runner.jobs > 1 && !is_said).then(|| (cores / self.runner.jobs).max(1))
    }

    /// Writes how a trial ended.
    fn end(
        &mut self,
        mut claim: Claim,
        follower: &Follower,
        seconds: f64,
        status: Status,
        why: Option<String>,
    ) -> Result<(), SweepError> {
        match (status, &why, &mut self.failures) {
            (Status::Failed, Some(why), Some(failures)) => failures.push(why.clone()),
            (Status::Interrupted, ..) => {}
            _ => self.failures = None,
        }
        claim.trial.value = follower.last().filter(|value| value.is_finite());
        (claim.trial.seconds, claim.trial.pid) = (seconds, None);
        claim.end(status, why)?;
        self.watcher.ended(&claim.trial);
        Ok(())
    }

    /// Tells how far the trials are, and ends those that are not worth their next steps.
    fn look(&mut self) -> Result<(), SweepError> {
        for active in &mut self.active {
            let _ = active.follower.look(); // one that cannot be read now has nothing new
        }
        let steps = |number| {
            Traces {
                run_dir: &self.ledger.run_dir(number),
                metric: None,
            }
            .steps()
        };
        let running = |active: &Active| Running {
            trial: active.claim.trial.clone(),
            step: active.follower.step,
            steps: steps(active.number()),
            history: active.follower.history.clone(),
            elapsed: active.elapsed(),
        };
        let running: Vec<_> = self.active.iter().map(running).collect();
        let mut ends = self.watcher.looked(&running);
        ends.extend(self.behind()?);
        for (number, why) in ends {
            let active = self
                .active
                .iter_mut()
                .find(|active| active.number() == number);
            if let Some(active) = active {
                active.end(Why::Behind(why));
            }
        }
        Ok(())
    }

    /// The trials that hyperband ends, judged against all, on every machine.
    fn behind(&mut self) -> Result<Vec<(u64, String)>, SweepError> {
        let (Some(hyperband), Some(metric)) = (&self.sweep.early_terminate, &self.sweep.metric)
        else {
            return Ok(Vec::new());
        };
        let trials = self.ledger.trials()?;
        self.recorded
            .retain(|number, _| trials.iter().any(|trial| trial.number == *number));
        for trial in trials {
            let run_dir = self.ledger.run_dir(trial.number);
            let follower = self.recorded.entry(trial.number);
            let _ = follower
                .or_insert_with(|| Follower::new(&run_dir, &metric.name))
                .look();
        }
        let is_ours = |number: u64| self.active.iter().any(|active| active.number() == number);
        let progress = |(number, follower): (&u64, &Follower)| Progress {
            history: follower.history.iter().map(|(_, value)| *value).collect(),
            is_running: is_ours(*number),
        };
        let progress: Vec<_> = self.recorded.iter().map(progress).collect();
        let ends = hyperband.ends(&progress, metric.goal);
        let behind = self.recorded.keys().zip(ends).filter(|(_, ends)| *ends);
        let why = "hyperband: others were better after as many evaluations";
        Ok(behind
            .map(|(number, _)| (*number, why.to_owned()))
            .collect())
    }
}

/// The name of this machine, where it has one that is easily found.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}
