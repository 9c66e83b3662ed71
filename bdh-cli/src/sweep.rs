//! `sweep`: the trials of a sweep file, without a server.

use crate::live::Live;
use crate::page::{remark, say};
use crate::{INTERRUPTED, Program};
use bdh::BoxError;
use bdh_sweep::runs::{self, Keys, Table};
use bdh_sweep::{Ledger, Method, Runner, Running, Status, Sweep, SweepOutcome, Trial, Watcher};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Runs the trials of a sweep file, each as a process of its own, and ranks them.
///
/// Called again, it goes on where it was; called on several machines with one shared --dir, they share the trials.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Args {
    /// The sweep file, as `wandb sweep` takes it
    file: PathBuf,
    /// Trials in all, on all machines together [default: the file's `run_cap`, or all of a grid]
    #[arg(long, value_name = "TRIALS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Trials at once on this machine [default: one, or one a device]
    #[arg(long, value_name = "TRIALS", value_parser = at_once)]
    jobs: Option<usize>,
    /// How long one trial may run, such as 90s, 30m or 2h [default: as long as it wants]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// GPUs over which the trials are spread, such as cuda:0-7 or cuda:0,cuda:2 [default: none]
    #[arg(long, value_name = "DEVICES", value_parser = devices)]
    devices: Option<Devices>,
    /// The folder of the sweep [default: runs/ and the file's name]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Seed of what is drawn
    #[arg(long, default_value = "42")]
    seed: u64,
    /// Foretells where the running trials will end, from those that are through
    #[arg(long)]
    live: bool,
    /// Ends trials that will not better the best by more than this, with --live [default: none is ended]
    #[arg(long, value_name = "METRIC", requires = "live", value_parser = regret)]
    stop_regret: Option<f64>,
    /// Prints the commands of the first trials, drawn at random for bayes, and stops
    #[arg(long)]
    dry_run: bool,
    /// Words for every trial's command line, after those of the file
    #[arg(last = true, value_name = "WORDS")]
    more: Vec<String>,
}

/// Numbers of CUDA devices.
#[derive(Debug, Clone, PartialEq)]
struct Devices(Vec<u32>);

impl Args {
    /// Runs the trials to the end, each a process of its own, and prints a line for each and a table of all.
    ///
    /// The exit code is [`INTERRUPTED`] after Ctrl-C, and 1 if no trial has a result.
    ///
    /// # Errors
    ///
    /// If the file is no sweep, its folder cannot be used or belongs to another, or the first trials all fail.
    pub fn run(self, program: &Program<'_>) -> Result<ExitCode, BoxError> {
        let yaml = fs::read_to_string(&self.file)
            .map_err(|error| format!("`{}` cannot be read: {error}", self.file.display()))?;
        let stem = self.file.file_stem().unwrap_or_default();
        let dir = self.dir.unwrap_or_else(|| Path::new("runs").join(stem));
        let devices = self
            .devices
            .map(|Devices(devices)| devices)
            .unwrap_or_default();
        let runner = Runner {
            count: self.count,
            jobs: self.jobs.unwrap_or(devices.len().max(1)),
            timeout: self.timeout,
            devices,
            more: self.more,
        };
        let sweep =
            read(&yaml, program).map_err(|error| format!("`{}`: {error}", self.file.display()))?;
        if self.dry_run {
            return dry_run(&sweep, &runner, self.seed);
        }
        let live = self
            .live
            .then(|| Live::new(dir.clone(), keys(&sweep, program), self.stop_regret));
        run_trials(program, &yaml, &runner, &dir, self.seed, live)
    }
}

/// Reads a sweep file; one without `command` is to call its `program`, unless this program trains by itself.
fn read(yaml: &str, program: &Program<'_>) -> Result<Sweep, BoxError> {
    let mut sweep: Sweep = yaml.parse()?;
    if program.trains {
        return Ok(sweep);
    }
    let names_it = |words: &Vec<String>| words.iter().any(|word| word == "${program}");
    if sweep.program.is_none() && sweep.command.as_ref().is_none_or(names_it) {
        return Err(
            "it names no program: add `program: train.py`, or `command: [./train, '${args}']`"
                .into(),
        );
    }
    if let (None, Some(file)) = (&sweep.command, &sweep.program) {
        let words: &[&str] = match Path::new(file).extension() {
            Some(ending) if ending == "py" => {
                &["${env}", "${interpreter}", "${program}", "${args}"]
            }
            _ => &["${program}", "${args}"],
        };
        sweep.command = Some(words.iter().map(ToString::to_string).collect());
        if !file.contains('/') && Path::new(file).is_file() {
            sweep.program = Some(format!("./{file}")); // by its bare name it would be looked for elsewhere
        }
    }
    Ok(sweep)
}

/// The names under which the trials of a sweep record.
fn keys(sweep: &Sweep, program: &Program<'_>) -> Keys {
    let mut keys = Keys::new(
        sweep
            .metric
            .as_ref()
            .map_or(program.metric, |metric| &metric.name),
    );
    keys.goal = sweep
        .metric
        .as_ref()
        .map(|metric| metric.goal)
        .unwrap_or_default();
    keys
}

/// Runs a sweep whose file is the text `yaml` to its end, as [`Args::run`] does.
///
/// # Errors
///
/// The same errors as those of [`Args::run`].
pub fn run(
    program: &Program<'_>,
    yaml: &str,
    runner: &Runner,
    dir: &Path,
    seed: u64,
) -> Result<ExitCode, BoxError> {
    run_trials(program, yaml, runner, dir, seed, None)
}

fn run_trials(
    program: &Program<'_>,
    yaml: &str,
    runner: &Runner,
    dir: &Path,
    seed: u64,
    live: Option<Live>,
) -> Result<ExitCode, BoxError> {
    let sweep = read(yaml, program)?;
    let keys = keys(&sweep, program);
    let total = runner.total(&sweep)?;
    check_dir("--dir", dir)?;
    let ledger = Ledger::open(dir, yaml, seed)?;
    let over = ledger
        .trials()?
        .iter()
        .filter(|trial| trial.status.is_over())
        .count() as u64;
    say(format_args!(
        "sweep    {total} trials, {} at once, in {}",
        runner.jobs,
        dir.display()
    ));
    if over > 0 {
        say(format_args!("goes on  {over} of them are there already"));
    }
    let mut terminal = Terminal::new(&keys.metric, total, over, runner.jobs, live);
    let outcome = runner.run(&sweep, &ledger, &mut terminal)?;
    terminal.bar.finish_and_clear();
    print_table(program, dir, &keys);
    if let Some(saving) = terminal.live.as_ref().and_then(Live::saving) {
        say(saving);
    }
    Ok(match outcome {
        SweepOutcome::Interrupted => {
            say("interrupted: the same command goes on with it");
            ExitCode::from(INTERRUPTED)
        }
        SweepOutcome::GaveUp(why) => {
            return Err(
                format!("the first trials have all failed, so the sweep ends: {why}").into(),
            );
        }
        _ if ledger.trials()?.iter().any(has_result) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Checks that directories can be made below `dir`, which `flag` has given, as far as can be told without making one.
///
/// # Errors
///
/// With the flag and the file that is in the way.
pub fn check_dir(flag: &str, dir: &Path) -> Result<(), BoxError> {
    match dir.ancestors().find(|path| path.exists()) {
        Some(path) if !path.is_dir() => Err(format!(
            "{flag} {} cannot be written: `{}` is a file; give a directory",
            dir.display(),
            path.display()
        )
        .into()),
        _ => Ok(()),
    }
}

fn has_result(trial: &Trial) -> bool {
    matches!(trial.status, Status::Completed | Status::EndedEarly)
}

fn print_table(program: &Program<'_>, dir: &Path, keys: &Keys) {
    let found = runs::read_all([dir], keys);
    if found.runs.is_empty() {
        return;
    }
    say(format_args!("\n{}", Table::of(&found.runs, keys)));
    say(format_args!(
        "Each trial's run is in {0}; what it printed is in {0}/trials.\n\
         More of it:  {1} compare {0} --csv runs.csv --html runs.html",
        dir.display(),
        program.command
    ));
}

/// The command lines of the first trials.
fn dry_run(sweep: &Sweep, runner: &Runner, seed: u64) -> Result<ExitCode, BoxError> {
    const SHOWN: u64 = 5;
    let total = runner.total(sweep)?;
    say(format_args!(
        "{total} trials, {} at once; the first of them:",
        runner.jobs
    ));
    let space = sweep.space();
    let program = std::env::current_exe()?.display().to_string();
    for index in 0..total.min(SHOWN) {
        let from_grid = space.grid().ok().filter(|_| sweep.method == Method::Grid);
        let values = from_grid.and_then(|mut grid| grid.nth(index as usize));
        let values = values.unwrap_or_else(|| space.random(seed, index));
        let mut words = sweep.command_line(&values, &program, Path::new("args.json"))?;
        words.extend(runner.more.iter().cloned());
        say(words.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each trial that is over, and how far the others are.
struct Terminal {
    metric: String,
    bar: ProgressBar,
    total: u64,
    /// Trials that are over, before this call too.
    over: u64,
    /// How long those of this call took.
    took: Vec<f64>,
    jobs: usize,
    live: Option<Live>,
    /// How many steps the running trials take.
    steps: BTreeMap<u64, u64>,
    /// The running trials whose forecast was told.
    told: BTreeSet<u64>,
}

impl Terminal {
    fn new(metric: &str, total: u64, over: u64, jobs: usize, live: Option<Live>) -> Self {
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(over);
        Self {
            metric: metric.to_owned(),
            bar,
            total,
            over,
            took: Vec::new(),
            jobs,
            live,
            steps: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Tells each forecast once, when a quarter of the trial is through: a log has no bar.
    fn tell(&mut self, running: &[Running]) {
        let Some(live) = &self.live else { return };
        for trial in running {
            let (number, steps) = (trial.trial.number, trial.steps.unwrap_or(u64::MAX));
            let foretold = live.shown(number);
            if trial.step >= steps / 4 && !foretold.is_empty() && self.told.insert(number) {
                let last = trial.history.last().map_or(f64::NAN, |(_, value)| *value);
                let total = self.total;
                let told = format!(
                    "trial {number:>3}/{total}  {}/{steps} {last:.3}{foretold}",
                    trial.step
                );
                self.bar.suspend(|| say(told));
            }
        }
    }

    /// Seconds until the end, if the trials to come take as long as those that are over.
    fn eta(&self) -> f64 {
        let mean = self.took.iter().sum::<f64>() / self.took.len().max(1) as f64;
        mean * self.total.saturating_sub(self.over) as f64 / self.jobs.max(1) as f64
    }
}

impl Watcher for Terminal {
    fn ended(&mut self, trial: &Trial) {
        if trial.status.is_over() {
            self.over += 1;
            self.took.push(trial.seconds);
        }
        let value = trial
            .value
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let line = format!(
            "trial {:>3}/{}  {:<11} {} {value:<8} {:>6.1} s  eta {:.0} s  {}",
            trial.number,
            self.total,
            trial.status,
            self.metric,
            trial.seconds,
            self.eta(),
            settings(trial),
        );
        self.bar.set_position(self.over);
        self.bar.suspend(|| {
            say(line.trim_end());
            match (trial.status, &trial.why) {
                (Status::Failed, Some(why)) => {
                    remark("warning", format_args!("trial {}: {why}", trial.number));
                }
                (_, Some(why)) => remark("note", format_args!("trial {}: {why}", trial.number)),
                (_, None) => {}
            }
        });
        let steps = self.steps.remove(&trial.number);
        if let (Some(live), true) = (&mut self.live, trial.status.is_over()) {
            live.ended(trial.number, steps.unwrap_or_default());
        }
    }

    fn looked(&mut self, running: &[Running]) -> Vec<(u64, String)> {
        let ends = self
            .live
            .as_mut()
            .map(|live| live.look(running))
            .unwrap_or_default();
        self.tell(running);
        let state = |running: &Running| {
            let number = running.trial.number;
            let steps = running
                .steps
                .map_or_else(String::new, |steps| format!("/{steps}"));
            let last = running.history.last();
            let value = last.map_or_else(String::new, |(_, value)| format!(" {value:.3}"));
            let foretold = self
                .live
                .as_ref()
                .map(|live| live.shown(number))
                .unwrap_or_default();
            format!("#{number} {}{steps}{value}{foretold}", running.step)
        };
        self.bar
            .set_message(running.iter().map(state).collect::<Vec<_>>().join("  "));
        self.steps.extend(
            running
                .iter()
                .filter_map(|of| Some((of.trial.number, of.steps?))),
        );
        ends
    }
}

/// What was tried, in few words.
fn settings(trial: &Trial) -> String {
    let short = |value: &Value| match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => format!("{number:.3e}"),
        None => value.to_string().replace('"', ""),
    };
    let settings = trial
        .values
        .iter()
        .map(|(key, value)| format!("{key}={}", short(value)));
    settings.collect::<Vec<_>>().join(" ")
}

fn at_once(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|jobs| *jobs > 0)
        .ok_or_else(|| "use a number from 1".to_owned())
}

fn regret(text: &str) -> Result<f64, String> {
    let regret = text
        .parse()
        .ok()
        .filter(|regret: &f64| regret.is_finite() && *regret >= 0.0);
    regret.ok_or_else(|| "use a number from 0, in units of the metric".to_owned())
}

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let time = text
        .parse::<SignedDuration>()
        .ok()
        .filter(SignedDuration::is_positive);
    let time = time.and_then(|time| Duration::try_from(time).ok());
    time.ok_or_else(|| "use a number with s, m or h, such as 90s, 30m or 1.5h".to_owned())
}

/// `cuda:0-7`, or several of them with commas.
fn devices(text: &str) -> Result<Devices, String> {
    const MOST: u32 = 64;
    let wrong = || {
        format!(
            "`{text}` is no list of CUDA devices: use cuda:0-7 or cuda:0,cuda:2 (others cannot be given to one process each)"
        )
    };
    let mut devices = Vec::new();
    for part in text.split(',') {
        let numbers = part.trim().strip_prefix("cuda:").ok_or_else(wrong)?;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last): (u32, u32) = first
            .parse()
            .ok()
            .zip(last.parse().ok())
            .ok_or_else(wrong)?;
        if first > last || last >= MOST {
            return Err(wrong());
        }
        devices.extend(first..=last);
    }
    Ok(Devices(devices))
}
