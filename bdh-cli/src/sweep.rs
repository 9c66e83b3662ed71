//! `sweep`: the trials of a sweep file, without a server.

mod terminal;
mod values;

use crate::live::LivePredictor;
use crate::page::say;
use crate::{INTERRUPTED, Program};
use bdh::BoxError;
use bdh_sweep::runs::{self, Keys, Table};
use bdh_sweep::{Method, Runner, Status, Sweep, SweepOutcome, Trial, TrialStore};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use terminal::Terminal;
use values::Devices;

/// Number of command lines that `--dry-run` prints.
const DRY_RUN_TRIALS: u64 = 5;

/// Runs the trials of a sweep file, each in its own process, and ranks them.
///
/// Run the same command again to resume. Run it on several machines with one shared --dir to share the trials.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Args {
    /// Sweep file, in the format of `wandb sweep`
    file: PathBuf,
    /// Runs this many trials in total, over all machines [default: the file's `run_cap`, or the whole grid]
    #[arg(long, value_name = "TRIALS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Runs this many trials at a time on this machine [default: one per device of --devices, else 1]
    #[arg(long, value_name = "TRIALS", value_parser = values::jobs)]
    jobs: Option<usize>,
    /// Fails a trial that takes longer than this, such as 90s, 30m or 2h [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = values::timeout)]
    timeout: Option<Duration>,
    /// Spreads the trials over these GPUs, such as cuda:0-7 or cuda:0,cuda:2 [default: none]
    #[arg(long, value_name = "DEVICES", value_parser = values::devices)]
    devices: Option<Devices>,
    /// Writes the sweep to this folder [default: runs/ and the name of the file]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Seeds the random choice of values
    #[arg(long, default_value = "42")]
    seed: u64,
    /// Predicts how the running trials will end, from the finished ones
    #[arg(long)]
    live: bool,
    /// With --live, stops trials predicted not to beat the best by more than this [default: stops none]
    #[arg(long, value_name = "METRIC", requires = "live", value_parser = values::regret)]
    stop_regret: Option<f64>,
    /// Prints the commands of the first trials and runs none (for bayes, values are drawn at random)
    #[arg(long)]
    dry_run: bool,
    /// Appends these arguments to every trial's command line
    #[arg(last = true, value_name = "ARGS")]
    extra: Vec<String>,
}

impl Args {
    /// Runs all trials, each in its own process, and prints a line for each and a table of all.
    ///
    /// The exit code is [`INTERRUPTED`] after Ctrl-C, and 1 if no trial has a result.
    ///
    /// # Errors
    ///
    /// If the file is not a sweep, its folder cannot be used or belongs to another sweep, or the first trials all fail.
    pub fn run(self, program: &Program<'_>) -> Result<ExitCode, BoxError> {
        let (yaml, sweep) = self.read(program)?;
        let runner = self.runner();
        if self.dry_run {
            return dry_run(&sweep, &runner, self.seed);
        }
        let dir = self.dir();
        let live = self.live_predictor(&dir, keys(&sweep, program));
        let job = Job {
            program,
            yaml: &yaml,
            runner: &runner,
            dir: &dir,
            seed: self.seed,
        };
        job.run(&sweep, live)
    }

    /// Reads the sweep file, and returns its text and the sweep.
    fn read(&self, program: &Program<'_>) -> Result<(String, Sweep), BoxError> {
        let file = self.file.display();
        let yaml = fs::read_to_string(&self.file)
            .map_err(|error| format!("`{file}` cannot be read: {error}"))?;
        let sweep = parse(&yaml, program).map_err(|error| format!("`{file}`: {error}"))?;
        Ok((yaml, sweep))
    }

    /// Returns the folder of the sweep.
    fn dir(&self) -> PathBuf {
        if let Some(dir) = &self.dir {
            return dir.clone();
        }
        let stem = self.file.file_stem().unwrap_or_default();
        Path::new("runs").join(stem)
    }

    fn live_predictor(&self, dir: &Path, keys: Keys) -> Option<LivePredictor> {
        if !self.live {
            return None;
        }
        Some(LivePredictor::new(dir.to_owned(), keys, self.stop_regret))
    }

    fn runner(&self) -> Runner {
        let Devices(devices) = self.devices.clone().unwrap_or_default();
        Runner {
            count: self.count,
            jobs: self.jobs.unwrap_or(devices.len().max(1)),
            timeout: self.timeout,
            devices,
            extra_args: self.extra.clone(),
        }
    }
}

/// Runs a sweep whose file contains the text `yaml`, as [`Args::run`] does.
///
/// # Errors
///
/// Fails like [`Args::run`].
pub fn run(
    program: &Program<'_>,
    yaml: &str,
    runner: &Runner,
    dir: &Path,
    seed: u64,
) -> Result<ExitCode, BoxError> {
    let sweep = parse(yaml, program)?;
    let job = Job {
        program,
        yaml,
        runner,
        dir,
        seed,
    };
    job.run(&sweep, None)
}

/// Reads a sweep file.
///
/// A file without `command` gets one that calls its `program`, unless `program` trains runs itself.
fn parse(yaml: &str, program: &Program<'_>) -> Result<Sweep, BoxError> {
    let mut sweep: Sweep = yaml.parse()?;
    if program.trains {
        return Ok(sweep);
    }
    let Some(file) = sweep.program.clone() else {
        check_command(&sweep)?;
        return Ok(sweep);
    };
    if sweep.command.is_none() {
        sweep.command = Some(default_command(&file));
        if !file.contains('/') && Path::new(&file).is_file() {
            sweep.program = Some(format!("./{file}")); // a bare name would be searched for on PATH
        }
    }
    Ok(sweep)
}

/// Checks that the command of a sweep file without `program` does not need one.
fn check_command(sweep: &Sweep) -> Result<(), BoxError> {
    match &sweep.command {
        Some(words) if !words.iter().any(|word| word == "${program}") => Ok(()),
        _ => Err(
            "no program is named: add `program: train.py`, or `command: [./train, '${args}']`"
                .into(),
        ),
    }
}

/// Returns the command line of a sweep file that names its program only, as W&B's agent has it.
fn default_command(program: &str) -> Vec<String> {
    let is_python = Path::new(program)
        .extension()
        .is_some_and(|ending| ending == "py");
    let words: &[&str] = if is_python {
        &["${env}", "${interpreter}", "${program}", "${args}"]
    } else {
        &["${program}", "${args}"]
    };
    words.iter().map(ToString::to_string).collect()
}

/// Returns the keys under which the trials of a sweep record.
fn keys(sweep: &Sweep, program: &Program<'_>) -> Keys {
    let Some(metric) = &sweep.metric else {
        return Keys::new(program.metric);
    };
    let mut keys = Keys::new(&metric.name);
    keys.goal = metric.goal;
    keys
}

/// Checks, without making one, that directories can be made below `dir`, the value of `flag`.
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

/// Prints the command lines of the first trials.
fn dry_run(sweep: &Sweep, runner: &Runner, seed: u64) -> Result<ExitCode, BoxError> {
    let total = runner.total(sweep)?;
    let jobs = runner.jobs;
    say(format_args!(
        "{total} trials, {jobs} at once; the first commands:"
    ));
    let program = std::env::current_exe()?.display().to_string();
    for index in 0..total.min(DRY_RUN_TRIALS) {
        let values = first_values(sweep, seed, index);
        print_command(sweep, runner, &values, &program)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the command line of a trial with these values.
fn print_command(
    sweep: &Sweep,
    runner: &Runner,
    values: &Map<String, Value>,
    program: &str,
) -> Result<(), BoxError> {
    let mut words = sweep.command_line(values, program, Path::new("args.json"))?;
    words.extend(runner.extra_args.iter().cloned());
    say(words.join(" "));
    Ok(())
}

/// Returns the values of the trial at `index` of a new sweep.
fn first_values(sweep: &Sweep, seed: u64, index: u64) -> Map<String, Value> {
    let space = sweep.space();
    if sweep.method == Method::Grid
        && let Ok(mut grid) = space.grid()
        && let Some(values) = grid.nth(index as usize)
    {
        return values;
    }
    space.random(seed, index)
}

/// Call of the command for one sweep.
struct Job<'a> {
    program: &'a Program<'a>,
    /// Text of the sweep file; the folder keeps a copy.
    yaml: &'a str,
    runner: &'a Runner,
    dir: &'a Path,
    seed: u64,
}

impl Job<'_> {
    fn run(&self, sweep: &Sweep, live: Option<LivePredictor>) -> Result<ExitCode, BoxError> {
        let keys = keys(sweep, self.program);
        let total = self.runner.total(sweep)?;
        check_dir("--dir", self.dir)?;
        let store = TrialStore::open(self.dir, self.yaml, self.seed)?;
        let over = num_over(&store)?;
        self.print_start(total, over);
        let mut terminal = Terminal::new(&keys.metric, total, over, self.runner.jobs, live);
        let outcome = self.runner.run(sweep, &store, &mut terminal)?;
        terminal.clear(); // the bar would otherwise be drawn over the table
        self.print_table(&keys);
        if let Some(saving) = terminal.saving() {
            say(saving);
        }
        exit_code(outcome, &store)
    }

    /// Prints the number of trials, `total`, and of those that are `over`.
    fn print_start(&self, total: u64, over: u64) {
        let (jobs, dir) = (self.runner.jobs, self.dir.display());
        say(format_args!(
            "sweep    {total} trials, {jobs} at once, in {dir}"
        ));
        if over > 0 {
            say(format_args!("resumes  {over} of them are finished already"));
        }
    }

    fn print_table(&self, keys: &Keys) {
        let found = runs::read_all([self.dir], keys);
        if found.runs.is_empty() {
            return;
        }
        say(format_args!("\n{}", Table::of(&found.runs, keys)));
        say(format_args!(
            "Each trial's run is in {0}, and its output in {0}/trials.\n\
             Compare them:  {1} compare {0} --csv runs.csv --html runs.html",
            self.dir.display(),
            self.program.command
        ));
    }
}

fn num_over(store: &TrialStore) -> Result<u64, BoxError> {
    let trials = store.trials()?;
    let over = trials.iter().filter(|trial| trial.status.is_over());
    Ok(over.count() as u64)
}

fn exit_code(outcome: SweepOutcome, store: &TrialStore) -> Result<ExitCode, BoxError> {
    match outcome {
        SweepOutcome::Interrupted => {
            say("interrupted: run the same command again to resume");
            Ok(ExitCode::from(INTERRUPTED))
        }
        SweepOutcome::GaveUp(why) => {
            Err(format!("the first trials all failed, so the sweep stops: {why}").into())
        }
        _ if store.trials()?.iter().any(has_result) => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

fn has_result(trial: &Trial) -> bool {
    matches!(trial.status, Status::Completed | Status::EndedEarly)
}
