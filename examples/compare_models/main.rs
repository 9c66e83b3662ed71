//! The three models side by side: the same text, the same batches, nearly as many parameters.
//!
//! ```text
//! cargo run --example compare_models -- --data shakespeare --out models.svg     # minutes on two cores
//! ```
//!
//! Prints a table and draws the validation losses. Each model trains as its original does; no learning rate was tuned.

mod chart;
mod models;

use bdh::lm::{RandomCrops, TokenBatch};
use bdh::{
    BoxError, CausalLm, Group, MemorySink, NextToken, Trainer, TrainerBuilder, every, last, start,
};
use bdh_callbacks::{Activations, Norms, Throughput};
use bdh_data::{DataSpec, PlainBytes, fixed_crops, stream};
use bdh_examples::page::{self, say};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// A step's tensors take the memory that the last step's have freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains BDH, GPT-2 and nanochat on the same batches, and compares them.
#[derive(Parser)]
struct Args {
    /// A file, a directory, `shakespeare` or `synthetic`; by default burn's Rust sources.
    #[arg(long, default_value = "")]
    data: String,
    /// Steps of each run, of 8 windows of 64 bytes.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Seed of weights and batches.
    #[arg(long, default_value_t = 1337)]
    seed: u64,
    /// Where the picture goes.
    #[arg(long, default_value = "models.svg")]
    out: PathBuf,
}

const ROWS: usize = 8;
const SEQ_LEN: usize = 64;
const EVAL_BATCHES: usize = 24;

/// What every model gets.
struct Bench {
    train: Arc<[i32]>,
    val: Vec<TokenBatch>,
    steps: u64,
    seed: u64,
}

/// How a model did.
struct Trained {
    name: &'static str,
    parameters: usize,
    /// Steps and validation losses in nats per byte.
    losses: Vec<(u64, f64)>,
    tokens_per_second: f64,
    weight_norms: [f64; 2],
    /// Shares of zeros in the hidden units, of each layer.
    zeros: Vec<f64>,
}

fn main() -> ExitCode {
    run(&Args::parse()).map_or_else(
        |error| {
            page::error(&*error);
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
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
        "\nvalidation losses are drawn in {}",
        args.out.display()
    ));
    Ok(())
}

impl Bench {
    /// Trains one model; `hidden` ends the names of the activations whose zeros are counted.
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
        let builder = Trainer::builder(NextToken::new(crops, self.val.clone()), model)
            .steps(self.steps)
            .seed(self.seed)
            .eval(start() | every((self.steps / 12).max(10)) | last())
            .callback(Norms::default())
            .callback(Throughput::builder().every(last()).build()?)
            .callback(Activations::builder().cadence(last()).build()?)
            .sink(memory.clone());
        groups
            .into_iter()
            .fold(builder, TrainerBuilder::group)
            .build()?
            .fit()?;

        let norms = memory.series("train/weight_norm");
        let ends = [norms.first(), norms.last()].map(|end| end.map_or(f64::NAN, |(_, norm)| *norm));
        let last = memory
            .series("train/tok_per_sec")
            .last()
            .map_or(f64::NAN, |(_, rate)| *rate);
        let records = memory.records();
        let scalars = records.last().into_iter().flat_map(bdh::Record::scalars);
        let suffix = format!("{hidden}/zeros");
        let zeros = scalars
            .filter(|(key, _)| key.ends_with(&suffix))
            .map(|(_, zeros)| zeros);
        Ok(Trained {
            name,
            parameters,
            losses: memory.series("val/loss"),
            tokens_per_second: last,
            weight_norms: ends,
            zeros: zeros.collect(),
        })
    }
}

fn print(results: &[Trained]) {
    say("\n| model | parameters | val nats/byte | bytes/s | weight norm | zeros by layer |");
    say("|---|---|---|---|---|---|");
    for result in results {
        let loss = result.losses.last().map_or(f64::NAN, |(_, loss)| *loss);
        let zeros: Vec<_> = result
            .zeros
            .iter()
            .map(|share| format!("{share:.2}"))
            .collect();
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
