//! The loop of a sweep: begin trials, wait for them, judge them.

use super::active::{Active, StopReason, TrialOutputs, Verdict};
use super::choice::draw;
use super::{Runner, SweepOutcome, Watcher};
use crate::error::SweepError;
use crate::hyperband::Progress;
use crate::metric::Follower;
use crate::process::{Process, Start};
use crate::schema::Sweep;
use crate::trial::{Status, Trial};
use crate::trial_store::{Claim, TrialStore};
use bdh::files;
use bdh::signal::SignalWatch;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Time between two checks whether a process has ended.
const TICK: Duration = Duration::from_millis(20);

/// Time between two looks at the records of the trials.
const LOOK: Duration = Duration::from_secs(1);

/// Number of failures, before any success, that end the sweep: they probably have a common cause.
const FAILURES: usize = 3;

/// State of a sweep on this machine.
pub(super) struct SweepLoop<'a> {
    runner: &'a Runner,
    sweep: &'a Sweep,
    store: &'a TrialStore,
    watcher: &'a mut dyn Watcher,
    total: u64,
    /// This program, for sweeps whose trials are runs of it.
    program: String,
    active: Vec<Active>,
    /// Records of all trials, for early termination.
    recorded: BTreeMap<u64, Follower>,
    /// Whether another process has the lock of a trial without a file.
    is_late: bool,
    /// Error messages of failed trials; `None` once any trial has succeeded.
    failures: Option<Vec<String>>,
}

impl<'a> SweepLoop<'a> {
    pub(super) fn new(
        runner: &'a Runner,
        sweep: &'a Sweep,
        store: &'a TrialStore,
        watcher: &'a mut dyn Watcher,
    ) -> Result<Self, SweepError> {
        let mut failures = Some(Vec::new());
        for trial in store.trials()? {
            if trial.status.is_over() && trial.status != Status::Failed {
                failures = None;
            }
        }
        // Read once: after a rebuild the system would report the program as deleted.
        let program = std::env::current_exe().unwrap_or_default();
        Ok(Self {
            total: runner.total(sweep)?,
            program: program.display().to_string(),
            runner,
            sweep,
            store,
            watcher,
            active: Vec::new(),
            recorded: BTreeMap::new(),
            is_late: false,
            failures,
        })
    }

    /// Runs the sweep to its end; after an error, asks the remaining trials to end.
    pub(super) fn run(&mut self) -> Result<SweepOutcome, SweepError> {
        let outcome = self.run_trials();
        self.interrupt();
        outcome
    }

    fn run_trials(&mut self) -> Result<SweepOutcome, SweepError> {
        let signals = SignalWatch::start();
        let mut last_look: Option<Instant> = None;
        let mut may_begin = true;
        loop {
            let is_interrupted = signals.as_ref().is_some_and(SignalWatch::asked);
            let failure = self.common_failure();
            if is_interrupted {
                self.interrupt();
            } else if may_begin && failure.is_none() {
                while self.active.len() < self.runner.jobs.max(1) && self.begin_one()? {}
            }
            if self.active.is_empty() {
                if let Some(outcome) = self.outcome(failure, is_interrupted)? {
                    return Ok(outcome);
                }
                thread::sleep(LOOK);
            }
            thread::sleep(TICK);
            may_begin = self.reap()?;
            if last_look.is_none_or(|last| last.elapsed() >= LOOK) {
                last_look = Some(Instant::now());
                may_begin = true; // another process may have left a trial behind
                self.look()?;
            }
        }
    }

    /// Returns the outcome of the sweep once no trial runs here; `None` while other processes run trials of it.
    fn outcome(
        &self,
        failure: Option<String>,
        is_interrupted: bool,
    ) -> Result<Option<SweepOutcome>, SweepError> {
        if let Some(failure) = failure {
            return Ok(Some(SweepOutcome::GaveUp(failure)));
        }
        if is_interrupted {
            return Ok(Some(SweepOutcome::Interrupted));
        }
        if self.waits_for_others()? {
            return Ok(None);
        }
        Ok(Some(SweepOutcome::Complete))
    }

    /// Asks all trials to end.
    fn interrupt(&mut self) {
        for active in &mut self.active {
            active.end(StopReason::Interrupted);
        }
    }

    /// Returns the last error message if the first trials have all failed.
    fn common_failure(&self) -> Option<String> {
        let failures = self.failures.as_ref()?;
        if failures.len() < FAILURES {
            return None;
        }
        failures.last().cloned()
    }

    /// Whether another process on this machine runs a trial that this one would resume if it died.
    ///
    /// A sweep that was killed leaves such processes behind, as does deleting the file of a running trial.
    fn waits_for_others(&self) -> Result<bool, SweepError> {
        if self.is_late {
            return Ok(true);
        }
        let host = host();
        let trials = self.store.trials()?;
        Ok(trials
            .iter()
            .any(|trial| trial.status == Status::Running && trial.host == host))
    }

    /// Begins or resumes a trial; returns whether there was one.
    fn begin_one(&mut self) -> Result<bool, SweepError> {
        let Some(mut claim) = self.claim()? else {
            return Ok(false);
        };
        let run_dir = self.store.run_dir(claim.trial.number);
        let key = self.sweep.metric.as_ref().map_or("", |metric| &metric.name);
        let mut follower = Follower::new(&run_dir, key);
        if let Some(verdict) = self.outputs(&run_dir).verdict(&mut follower) {
            // The trial ended by itself; how long it ran without a sweep is unknown.
            let seconds = claim.trial.seconds;
            self.end(claim, &follower, seconds, verdict)?;
            return Ok(true);
        }
        let slot = self.free_slot();
        let process = self.start(&claim, slot)?;
        claim.trial.pid = Some(process.id());
        claim.save()?;
        self.active
            .push(Active::new(claim, slot, process, follower));
        Ok(true)
    }

    fn outputs<'d>(&self, run_dir: &'d Path) -> TrialOutputs<'d>
    where
        'a: 'd,
    {
        TrialOutputs {
            run_dir,
            metric: self.sweep.metric.as_ref(),
        }
    }

    /// Returns the lowest slot that no running trial has.
    fn free_slot(&self) -> usize {
        let mut slot = 0;
        while self.active.iter().any(|active| active.slot == slot) {
            slot += 1;
        }
        slot
    }

    /// Claims a trial that was left behind, or else a new one.
    fn claim(&mut self) -> Result<Option<Claim>, SweepError> {
        let trials = self.store.trials()?;
        if let Some(claim) = self.claim_left_behind(&trials)? {
            return Ok(Some(claim));
        }
        let taken: HashSet<u64> = trials.iter().map(|trial| trial.number).collect();
        self.is_late = false;
        for number in 1..=self.total {
            if taken.contains(&number) {
                continue;
            }
            if let Some(claim) = self.claim_new(number, &trials)? {
                return Ok(Some(claim));
            }
            // Another process has the trial's lock: it will write the trial's file, or die.
            self.is_late = true;
        }
        Ok(None)
    }

    /// Claims a trial that was interrupted, or whose process died.
    fn claim_left_behind(&self, trials: &[Trial]) -> Result<Option<Claim>, SweepError> {
        for trial in trials {
            if trial.status.is_over() || self.is_active(trial.number) {
                continue;
            }
            if let Some(mut claim) = self.store.resume(trial.number)? {
                claim.trial.status = Status::Running;
                (claim.trial.host, claim.trial.pid) = (host(), None);
                claim.save()?;
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    fn is_active(&self, number: u64) -> bool {
        self.active.iter().any(|active| active.number() == number)
    }

    /// Claims a new trial; `None` if another process was faster.
    fn claim_new(&self, number: u64, trials: &[Trial]) -> Result<Option<Claim>, SweepError> {
        let (point, values) = draw(self.sweep, self.store.seed(), number, trials);
        self.store.begin(Trial {
            number,
            values,
            point,
            status: Status::Running,
            value: None,
            why: None,
            host: host(),
            pid: None,
            began_at: bdh::clock::now(),
            seconds: 0.0,
        })
    }

    /// Handles trials that have ended or run for too long; returns whether there is room for another.
    fn reap(&mut self) -> Result<bool, SweepError> {
        let before = std::mem::take(&mut self.active);
        let (count, mut failed) = (before.len(), None);
        for active in before {
            match self.check(active) {
                Ok(running) => self.active.extend(running),
                // The other trials continue until they are asked to end.
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(self.active.len() < count),
        }
    }

    /// Returns the trial if it is still running; otherwise writes how it ended.
    fn check(&mut self, mut active: Active) -> Result<Option<Active>, SweepError> {
        let run_dir = self.store.run_dir(active.number());
        let exit = active
            .process
            .ended()
            .map_err(|source| SweepError::Folder {
                path: run_dir.clone(),
                source,
            })?;
        let Some(exit) = exit else {
            if let Some(timeout) = self.runner.timeout
                && active.elapsed() > timeout
            {
                active.end(StopReason::Timeout(timeout));
            }
            return Ok(Some(active));
        };
        let verdict = active.judge(exit, &self.outputs(&run_dir));
        let seconds = active.elapsed().as_secs_f64();
        self.end(active.claim, &active.follower, seconds, verdict)?;
        Ok(None)
    }

    /// Starts the process of a trial.
    fn start(&self, claim: &Claim, slot: usize) -> Result<Process, SweepError> {
        let argv = self.argv(claim)?;
        let devices = &self.runner.devices;
        let start = Start {
            argv: &argv,
            device: devices.get(slot % devices.len().max(1)).copied(),
            threads: self.threads(),
            lock: claim.lock(),
        };
        Process::start(self.store, claim.trial.number, start)
    }

    /// Returns the command line of a trial; writes its values to a file if the command line has the file's name.
    fn argv(&self, claim: &Claim) -> Result<Vec<String>, SweepError> {
        let json_file = self.store.path(claim.trial.number, "args.json");
        let values = &claim.trial.values;
        let mut argv = self.sweep.command_line(values, &self.program, &json_file)?;
        if argv.contains(&json_file.display().to_string()) {
            let json = Value::Object(values.clone()).to_string();
            if let Err(source) = files::write_atomically(&json_file, json.as_bytes()) {
                return Err(SweepError::Folder {
                    path: json_file,
                    source,
                });
            }
        }
        argv.extend_from_slice(&self.runner.extra_args);
        Ok(argv)
    }

    /// Returns each trial's share of the cores; `None` for a single trial, or if the user has set it.
    fn threads(&self) -> Option<usize> {
        if self.runner.jobs <= 1 || std::env::var_os("RAYON_NUM_THREADS").is_some() {
            return None;
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Some((cores / self.runner.jobs).max(1))
    }

    /// Writes how a trial ended.
    fn end(
        &mut self,
        mut claim: Claim,
        follower: &Follower,
        seconds: f64,
        verdict: Verdict,
    ) -> Result<(), SweepError> {
        let Verdict { status, why } = verdict;
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

    /// Reports the progress of the trials, and ends those whose next steps are not worth their cost.
    fn look(&mut self) -> Result<(), SweepError> {
        let mut running = Vec::with_capacity(self.active.len());
        for active in &mut self.active {
            // A file that cannot be read now has no news; the next look tries again.
            let _ = active.follower.look();
            running.push(active.running(&self.store.run_dir(active.number())));
        }
        let mut ends = self.watcher.looked(&running);
        ends.extend(self.behind()?);
        for (number, why) in ends {
            for active in &mut self.active {
                if active.number() == number {
                    active.end(StopReason::Behind(why.clone()));
                }
            }
        }
        Ok(())
    }

    /// Returns the trials that hyperband ends, judged against those of all machines.
    fn behind(&mut self) -> Result<Vec<(u64, String)>, SweepError> {
        let (Some(hyperband), Some(metric)) = (&self.sweep.early_terminate, &self.sweep.metric)
        else {
            return Ok(Vec::new());
        };
        self.read_records(&metric.name)?;
        let ends = hyperband.ends(&self.progress(), metric.goal);
        let mut behind = Vec::new();
        for (number, ends) in self.recorded.keys().zip(ends) {
            if ends {
                let why =
                    "hyperband: other trials were better after the same number of evaluations";
                behind.push((*number, why.to_owned()));
            }
        }
        Ok(behind)
    }

    /// Returns the progress of all trials, on every machine.
    fn progress(&self) -> Vec<Progress> {
        let mut progress = Vec::with_capacity(self.recorded.len());
        for (number, follower) in &self.recorded {
            progress.push(Progress {
                history: follower.history.iter().map(|(_, value)| *value).collect(),
                is_running: self.is_active(*number),
            });
        }
        progress
    }

    /// Reads new records of all trials.
    fn read_records(&mut self, key: &str) -> Result<(), SweepError> {
        let trials = self.store.trials()?;
        let numbers: HashSet<u64> = trials.iter().map(|trial| trial.number).collect();
        self.recorded.retain(|number, _| numbers.contains(number));
        for number in numbers {
            let run_dir = self.store.run_dir(number);
            let follower = self
                .recorded
                .entry(number)
                .or_insert_with(|| Follower::new(&run_dir, key));
            // A file that cannot be read now has no news; the next look tries again.
            let _ = follower.look();
        }
        Ok(())
    }
}

/// Returns the name of this machine, or `unknown`.
fn host() -> String {
    if let Ok(name) = fs::read_to_string("/proc/sys/kernel/hostname") {
        return name.trim().to_owned();
    }
    for variable in ["HOSTNAME", "COMPUTERNAME"] {
        if let Ok(name) = std::env::var(variable) {
            return name.trim().to_owned();
        }
    }
    "unknown".to_owned()
}
