//! A small random sweep on the CPU: what the program does when it is given nothing.

use crate::page::{remark, say, with_causes};
use crate::prepare::Text;
use crate::run_dir::{self, RunDir};
use crate::single;
use bdh::{BoxError, Outcome, StopReason};
use bdh_examples::args::{self, Args};
use bdh_examples::scaling::Recipe;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Trials of the sweep: enough for a ranking, few enough for a coffee.
const TRIALS: usize = 8;

/// What every trial has in common. The early steps are those of a run of 2000 steps, scaled.
const COMMON: [&str; 15] = [
    "--device=cpu",
    "--max-seq-len=128",
    "--device-batch-size=8",
    "--total-batch-size=1024",
    "--num-iterations=160",
    "--weight-decay=0.1",
    "--warmup-steps=10",
    "--eval-every=40",
    "--eval-tokens=16384",
    "--early-save=12.5%,25%,50%",
    "--save-every=-1",
    "--seed=42",
    "--tokenizer=bytes",
    "--log-every=1",
    "--quiet",
];

/// The status of a trial that an interrupted sweep did not come to.
const NOT_RUN: &str = "not run";

/// One row of the table.
pub(crate) struct Trial {
    pub(crate) name: String,
    pub(crate) args: Args,
    pub(crate) status: &'static str,
    /// What went wrong, if anything did.
    pub(crate) error: Option<String>,
    pub(crate) bpb: Option<f64>,
    took: Duration,
}

/// Trains, evaluates and ranks the trials.
pub(crate) fn main() -> Result<ExitCode, BoxError> {
    let dir = free_dir();
    run_dir::check_runs(&dir)?;
    let mut trials = draw(&dir);
    let text = Text::load(&trials[0].args)?;
    say(format_args!("{TRIALS} small random trials on the CPU (--help for a run of your own)"));
    text.print();
    say("trials   160 steps of 1024 tokens each; Ctrl-C ends the sweep and ranks what is there\n");

    let interrupted = train(&mut trials, &text);
    rank(&mut trials);
    print_table(&trials, &text);
    print_next(&trials, &dir);
    Ok(match trials.iter().any(|trial| trial.bpb.is_some()) {
        _ if interrupted => ExitCode::from(single::INTERRUPTED),
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The first `sweep`, `sweep-2`, … under `runs` that is not there yet.
fn free_dir() -> PathBuf {
    let runs = Path::new("runs");
    let numbered = (2..).map(|number| runs.join(format!("sweep-{number}")));
    let mut dirs = std::iter::once(runs.join("sweep")).chain(numbered);
    dirs.find(|dir| !dir.exists()).expect("there is always a number that is free")
}

/// Draws the trials: the request's three parameters, at a size that a laptop trains in seconds.
fn draw(dir: &Path) -> Vec<Trial> {
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    let mut pick = |from: &[usize]| from[rng.random_range(0..from.len())];
    let shapes: Vec<_> = (0..TRIALS).map(|_| (pick(&[2, 3, 4]), pick(&[64, 128]))).collect();
    let trial = |(index, shape)| {
        let lr = 10_f64.powf(rng.random_range(-4.0..-2.0)); // log-uniform, as in sweep.yaml
        Trial::new(dir, index + 1, shape, lr, &COMMON)
    };
    shapes.into_iter().enumerate().map(trial).collect()
}

impl Trial {
    /// A run below `dir` of a model with this depth and width.
    pub(crate) fn new(
        dir: &Path,
        number: usize,
        (depth, width): (usize, usize),
        lr: f64,
        common: &[&str],
    ) -> Self {
        let name = format!("t{number}-d{depth}-w{width}-lr{lr:.1e}");
        let own = [
            format!("--depth={depth}"),
            format!("--n-embd-override={width}"),
            format!("--lr-override={lr:.3e}"),
            format!("--runs={}", dir.display()),
            format!("--name={name}"),
        ];
        let common = common.iter().map(ToString::to_string);
        let words = std::iter::once("nanochat_sweep".to_owned()).chain(common).chain(own);
        let args = args::try_parse_from(words).expect("the sweep's own arguments are valid");
        Self { name, args, status: NOT_RUN, error: None, bpb: None, took: Duration::ZERO }
    }

    /// Trains, and tells whether the user interrupted it. Whatever else happens is the trial's own affair.
    fn run(&mut self, text: &Text) -> bool {
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| self.fit(text)));
        self.took = began.elapsed();
        match result {
            Ok(Ok((outcome, bpb))) => {
                self.bpb = bpb;
                self.status = match outcome {
                    Outcome::Completed if bpb.is_some_and(f64::is_finite) => "completed",
                    Outcome::Completed => "diverged",
                    _ => "stopped",
                };
                return outcome == Outcome::Stopped(StopReason::Signal);
            }
            Ok(Err(error)) => self.error = Some(with_causes(&*error)),
            Err(_) => self.error = Some("it panicked, as told above".to_owned()),
        }
        self.status = "failed";
        false
    }

    fn fit(&self, text: &Text) -> Result<(Outcome, Option<f64>), BoxError> {
        let recipe = Recipe::derive(&self.args.request(text.tokenizer.vocab_size()))?;
        let dir = RunDir::choose(&self.args.runs, &self.args.run_name(), true, false)?;
        let fitted = single::compose(&self.args, text, &recipe, &dir)?.build()?.fit()?;
        Ok((fitted.outcome, fitted.last.and_then(|record| record.scalar("val_bpb"))))
    }
}

/// Trains the trials in turn, and tells whether the user interrupted them. One that fails stops no other.
pub(crate) fn train(trials: &mut [Trial], text: &Text) -> bool {
    let (began, count) = (Instant::now(), trials.len());
    for (index, trial) in trials.iter_mut().enumerate() {
        let interrupted = trial.run(text);
        let done = index + 1;
        let left = began.elapsed().mul_f64((count - done) as f64 / done as f64);
        say(format_args!(
            "trial {done}/{count}  {:<22} {:<10} val_bpb {:<7} {:>5.1} s  eta {:.0} s",
            trial.name,
            trial.status,
            shown(trial.bpb),
            trial.took.as_secs_f64(),
            left.as_secs_f64(),
        ));
        if interrupted {
            return true;
        }
    }
    false
}

/// Puts the best first; those without a result come last, and stay.
pub(crate) fn rank(trials: &mut [Trial]) {
    let bpb = |trial: &Trial| trial.bpb.filter(|bpb| bpb.is_finite()).unwrap_or(f64::INFINITY);
    trials.sort_by(|a, b| bpb(a).total_cmp(&bpb(b)));
}

fn print_table(trials: &[Trial], text: &Text) {
    say(format_args!(
        "\n{:>4} {:>8} {:>6} {:>6} {:>10} {:>7}  {:<10} run",
        "rank", "val_bpb", "depth", "width", "lr", "s", "status"
    ));
    let begun = trials.iter().filter(|trial| trial.status != NOT_RUN);
    for (index, trial) in begun.enumerate() {
        say(format_args!(
            "{:>4} {:>8} {:>6} {:>6} {:>10.2e} {:>7.1}  {:<10} {}",
            index + 1,
            shown(trial.bpb),
            trial.args.depth,
            trial.args.n_embd_override.unwrap_or_default(),
            trial.args.lr_override.unwrap_or_default(),
            trial.took.as_secs_f64(),
            trial.status,
            trial.name,
        ));
    }
    say(format_args!("levels of the validation text: {}", text.levels));
    for trial in trials {
        if let Some(error) = &trial.error {
            remark("warning", format_args!("{}: {error}", trial.name));
        }
    }
}

fn print_next(trials: &[Trial], dir: &Path) {
    let Some(Args { depth, n_embd_override: Some(width), lr_override: Some(lr), .. }) =
        trials.first().filter(|best| best.bpb.is_some()).map(|best| &best.args)
    else {
        return;
    };
    say(format_args!(
        "\nEach trial's metrics.jsonl, run.json and checkpoints are in {}.\n\
         Next, train the best one for longer:\n  \
         cargo run --example nanochat_sweep -- --device cpu --max-iterations 1000 \\\n    \
         --depth {depth} --n_embd_override {width} --lr_override {lr} --weight-decay 0.1\n\
         or see what twelve layers would be on an H100, without one:\n  \
         cargo run --example nanochat_sweep -- --depth 12 --device cuda --dry-run",
        dir.display()
    ));
}

fn shown(bpb: Option<f64>) -> String {
    bpb.map_or_else(|| "-".to_owned(), |bpb| format!("{bpb:.4}"))
}
