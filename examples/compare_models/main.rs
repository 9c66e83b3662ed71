//! Comparison of the three models on the same text and batches, with about the same number of parameters.
//!
//! ```text
//! cargo run --example compare_models -- --data shakespeare --out models.svg     # minutes on two cores
//! ```
//!
//! Prints a table, and draws the validation losses. Each model has the optimizer of its original; no learning rate was
//! tuned.

mod chart;
mod models;

use bdh::cadence::{every, last, start};
use bdh::lm::{RandomCrops, TokenBatch};
use bdh::{BoxError, CausalLm, Group, MemorySink, NextToken, Trainer};
use bdh_callbacks::{Activations, Norms, Throughput};
use bdh_data::{DataSpec, PlainBytes, fixed_crops, stream};
use bdh_examples::page::{self, say};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Allocator that reuses the memory of the previous step's tensors, while the system's returns large blocks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains BDH, GPT-2 and nanochat on the same batches, and compares them.
#[derive(Parser)]
struct Args {
    /// Text to train on: a file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, default_value = "", hide_default_value = true)]
    data: String,
    /// Number of steps of each run, with 8 windows of 64 bytes
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Seed of weights and batches
    #[arg(long, default_value_t = 1337)]
    seed: u64,
    /// File of the chart
    #[arg(long, default_value = "models.svg")]
    out: PathBuf,
}

const ROWS: usize = 8;
const SEQ_LEN: usize = 64;
const EVAL_BATCHES: usize = 24;

/// Data and duration, the same for every model.
struct Bench {
    train: Arc<[i32]>,
    val: Vec<TokenBatch>,
    steps: u64,
    seed: u64,
}

/// Results of a model.
struct Trained {
    name: &'static str,
    parameters: usize,
    /// Steps and validation losses in nats per byte.
    losses: Vec<(u64, f64)>,
    tokens_per_second: f64,
    weight_norms: [f64; 2],
    /// Shares of zeros in the hidden units by layer.
    zeros: Vec<f64>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            page::error(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), BoxError> {
    let corpus = args.data.parse::<DataSpec>()?.load()?;
    say(format_args!(
        "{corpus}; {} steps of {} bytes\n",
        args.steps,
        ROWS * SEQ_LEN
    ));
    let bench = Bench {
        train: stream(&PlainBytes, &corpus.train).into(),
        val: fixed_crops(
            stream(&PlainBytes, &corpus.val),
            ROWS,
            SEQ_LEN,
            EVAL_BATCHES,
        )?,
        steps: args.steps,
        seed: args.seed,
    };
    let results = models::all(&bench)?;
    print(&results);
    std::fs::write(&args.out, chart::draw(&results))?;
    say(format_args!(
        "\nthe chart of validation losses is in {}",
        args.out.display()
    ));
    Ok(())
}

impl Bench {
    /// Trains one model; `hidden` is the end of the names of activations whose zeros are counted.
    fn train<M: CausalLm>(
        &self,
        name: &'static str,
        model: M,
        groups: impl IntoIterator<Item = Group>,
        hidden: &str,
    ) -> Result<Trained, BoxError> {
        say(format_args!("training {name}"));
        let memory = MemorySink::default();
        let parameters = model.num_params();
        let crops = RandomCrops::new(self.train.clone(), ROWS, SEQ_LEN, self.seed)?;
        let mut builder = Trainer::builder(NextToken::new(), model)
            .train_data(crops)
            .eval_data("val", self.val.clone())
            .steps(self.steps)
            .seed(self.seed)
            .eval(start() | every((self.steps / 12).max(10)) | last())
            .callback(Norms::default())
            .callback(Throughput::default().on(last()))
            .callback(Activations::default().on(last()))
            .sink(memory.clone());
        for group in groups {
            builder = builder.group(group);
        }
        builder.build()?.fit()?;

        let norms = memory.series("train/weight_norm");
        Ok(Trained {
            name,
            parameters,
            losses: memory.series("val/loss"),
            tokens_per_second: value_of(memory.series("train/tok_per_sec").last()),
            weight_norms: [value_of(norms.first()), value_of(norms.last())],
            zeros: last_zeros(&memory, hidden),
        })
    }
}

/// Returns the value of a point, or NaN without a point.
fn value_of(point: Option<&(u64, f64)>) -> f64 {
    point.map_or(f64::NAN, |(_, value)| *value)
}

/// Returns the last recorded shares of zeros, for activations whose name ends with `hidden`.
fn last_zeros(memory: &MemorySink, hidden: &str) -> Vec<f64> {
    let suffix = format!("{hidden}/zeros");
    let mut zeros = Vec::new();
    if let Some(record) = memory.records().last() {
        for (key, share) in record.scalars() {
            if key.ends_with(&suffix) {
                zeros.push(share);
            }
        }
    }
    zeros
}

fn print(results: &[Trained]) {
    say("\n| model | parameters | val nats/byte | bytes/s | weight norm | zeros by layer |");
    say("|---|---|---|---|---|---|");
    for result in results {
        let loss = value_of(result.losses.last());
        let mut zeros = Vec::new();
        for share in &result.zeros {
            zeros.push(format!("{share:.2}"));
        }
        let [first, last] = result.weight_norms;
        say(format_args!(
            "| {} | {} | {loss:.3} | {:.0} | {first:.1} to {last:.1} | {} |",
            result.name,
            result.parameters,
            result.tokens_per_second,
            zeros.join(", ")
        ));
    }
}
