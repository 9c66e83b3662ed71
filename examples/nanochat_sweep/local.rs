//! A small random sweep on the CPU: what the program does when it is given nothing.

use crate::prepare::Text;
use crate::single;
use bdh::{BoxError, Outcome, StopReason};
use bdh_examples::args::{self, Args};
use bdh_examples::scaling::Recipe;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Trials of the sweep: enough for a ranking, few enough for a coffee.
const TRIALS: usize = 8;

/// What every trial has in common. The early steps are those of a run of 2000 steps, scaled.
const COMMON: [&str; 15] = [
    "--device=cpu",
    "--max-seq-len=128",
    "--device-batch-size=8",
    "--total-batch-size=1024",
    "--num-iterations=200",
    "--weight-decay=0.1",
    "--warmup-steps=10",
    "--eval-every=50",
    "--eval-tokens=16384",
    "--early-save=12.5%,25%,50%",
    "--save-every=-1",
    "--seed=42",
    "--tokenizer=bytes",
    "--log-every=1",
    "--quiet",
];

/// One row of the table.
struct Trial {
    name: String,
    args: Args,
    status: String,
    bpb: Option<f64>,
    took: Duration,
}

/// Trains, evaluates and ranks the trials. One that fails is a row of the table.
pub(crate) fn sweep() {
    let dir = free_dir();
    let trials = draw(&dir);
    let text = match Text::load(&trials[0].args) {
        Ok(text) => text,
        Err(error) => args::reject(&*error),
    };
    println!("No arguments: {TRIALS} small random trials on the CPU, in {}.", dir.display());
    text.print();
    println!("each of 200 steps of 1024 tokens; Ctrl-C ends the sweep and ranks what is there\n");

    let began = Instant::now();
    let mut done = Vec::new();
    for mut trial in trials {
        let interrupted = run(&mut trial, &text);
        done.push(trial);
        print_progress(&done, began.elapsed());
        if interrupted {
            break;
        }
    }
    print_table(&mut done, &text);
    print_next(&done, &dir);
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
    let trial = |(index, (depth, width)): (usize, (usize, usize))| {
        let lr = 10_f64.powf(rng.random_range(-4.0..-2.0)); // log-uniform, as in sweep.yaml
        let name = format!("t{}-d{depth}-w{width}-lr{lr:.1e}", index + 1);
        let own = [
            format!("--depth={depth}"),
            format!("--n-embd-override={width}"),
            format!("--lr-override={lr:.3e}"),
            format!("--runs={}", dir.display()),
            format!("--name={name}"),
        ];
        let argv = std::iter::once("nanochat_sweep".to_owned())
            .chain(COMMON.map(str::to_owned))
            .chain(own);
        let args = args::try_parse_from(argv).expect("the sweep's own arguments are valid");
        Trial { name, args, status: "not run".to_owned(), bpb: None, took: Duration::ZERO }
    };
    shapes.into_iter().enumerate().map(trial).collect()
}

/// Runs one trial, and tells whether the user interrupted it.
fn run(trial: &mut Trial, text: &Text) -> bool {
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| train(&trial.args, text)));
    trial.took = began.elapsed();
    let mut interrupted = false;
    match result {
        Ok(Ok((outcome, bpb))) => {
            interrupted = outcome == Outcome::Stopped(StopReason::Signal);
            let diverged = bpb.is_some_and(|bpb| !bpb.is_finite());
            trial.status = if diverged { "diverged".to_owned() } else { outcome.to_string() };
            trial.bpb = bpb;
        }
        Ok(Err(error)) => trial.status = format!("failed: {error}"),
        Err(_) => trial.status = "failed: it panicked, see above".to_owned(),
    }
    interrupted
}

fn train(args: &Args, text: &Text) -> Result<(Outcome, Option<f64>), BoxError> {
    let recipe = Recipe::derive(&args.request(text.tokenizer.vocab_size()))?;
    let (builder, _) = single::compose(args, text, &recipe)?;
    let fitted = builder.build()?.fit()?;
    Ok((fitted.outcome, fitted.last.and_then(|record| record.scalar("val_bpb"))))
}

fn print_progress(done: &[Trial], elapsed: Duration) {
    let Some(trial) = done.last() else { return };
    let left = elapsed.as_secs_f64() / done.len() as f64 * (TRIALS - done.len()) as f64;
    println!(
        "trial {}/{TRIALS}  {:<22} {:<10} val_bpb {}  {:>5.1} s  eta {left:.0} s",
        done.len(),
        trial.name,
        trial.status,
        shown(trial.bpb),
        trial.took.as_secs_f64(),
    );
}

fn print_table(trials: &mut [Trial], text: &Text) {
    // Diverged and failed trials come last, and stay in the table.
    let rank = |trial: &Trial| trial.bpb.filter(|bpb| bpb.is_finite()).unwrap_or(f64::INFINITY);
    trials.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    println!(
        "\n{:>4} {:>8} {:>6} {:>6} {:>10} {:>7}  {:<10} run",
        "rank", "val_bpb", "depth", "width", "lr", "s", "status"
    );
    for (index, trial) in trials.iter().enumerate() {
        println!(
            "{:>4} {:>8} {:>6} {:>6} {:>10.2e} {:>7.1}  {:<10} {}",
            index + 1,
            shown(trial.bpb),
            trial.args.depth,
            trial.args.n_embd_override.unwrap_or_default(),
            trial.args.lr_override.unwrap_or_default(),
            trial.took.as_secs_f64(),
            trial.status,
            trial.name,
        );
    }
    println!("levels of the validation text: {}", text.levels);
}

fn print_next(trials: &[Trial], dir: &Path) {
    let Some(best) = trials.first() else { return };
    let lr = best.args.lr_override.unwrap_or_default();
    let shape = format!(
        "--depth {} --n_embd_override {} --lr_override {lr}",
        best.args.depth,
        best.args.n_embd_override.unwrap_or_default()
    );
    println!("\nEach trial's metrics.jsonl, run.json and checkpoints are in {}.", dir.display());
    println!("Next, train the best one for longer:");
    println!(
        "  cargo run --example nanochat_sweep -- {shape} --device cpu --max-iterations 1000 --weight-decay 0.1"
    );
    println!("or see what the request's grid would be on an H100:");
    println!(
        "  cargo run --example nanochat_sweep -- --depth 12 --device cuda --data rust --dry-run"
    );
}

fn shown(bpb: Option<f64>) -> String {
    bpb.map_or_else(|| "-".to_owned(), |bpb| format!("{bpb:.4}"))
}
