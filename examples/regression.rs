//! Regression on a table: data from an iterator, two optimizers, schedules, averaged weights, R².
//!
//! ```text
//! cargo run --example regression
//! cargo run --example regression -- --duration 30s --run-dir runs/longer
//! ```

use bdh::burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use bdh::burn::optim::{AdamConfig, SgdConfig, momentum::MomentumConfig};
use bdh::burn::tensor::{Device, Int, Tensor, activation::relu};
use bdh::burn::{self, module::Module, nn};
use bdh::cadence::{self, Span, every, last};
use bdh::data::{Prefetch, epochs};
use bdh::metrics::Metrics;
use bdh::{BatchSize, Group, LossContext, Schedule, Task, Trainer, TrainerBuilder, schedule};
use bdh_callbacks::{Checkpoints, Console, EarlyStop, Ema, ReduceOnPlateau};
use clap::Parser;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::PI;
use std::path::PathBuf;

/// Rows of a micro-batch.
const BATCH: usize = 64;

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    features: [f32; 5],
    region: i32, // 0 to 7
    price: f32,
}

/// Makes rows by a formula and noise.
///
/// Source of the formula: Friedman, 1991, *Multivariate adaptive regression splines*, divided by 10; the regions are ours.
fn table(rows: usize, seed: u64) -> Vec<Row> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut table = Vec::with_capacity(rows);
    for _ in 0..rows {
        let features: [f32; 5] = random.random();
        let [x1, x2, x3, x4, x5] = features;
        let region = random.random_range(0..8);
        let formula = (PI * x1 * x2).sin() + 2.0 * (x3 - 0.5).powi(2) + x4 + 0.5 * x5;
        let noise: f32 = random.random_range(-0.1..0.1);
        let price = formula + 0.3 * (region as f32).sin() + noise;
        table.push(Row {
            features,
            region,
            price,
        });
    }
    table
}

/// Returns micro-batches in the order of the table.
fn batches(rows: &[Row]) -> Vec<Vec<Row>> {
    rows.chunks(BATCH).map(<[Row]>::to_vec).collect()
}

/// Returns the micro-batches of an epoch, in an order that depends on nothing but its number.
fn shuffled(mut rows: Vec<Row>, epoch: u64) -> Vec<Vec<Row>> {
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(epoch));
    batches(&rows)
}

#[derive(Module, Debug)]
pub(crate) struct Mlp {
    region: nn::Embedding,
    hidden: nn::Linear,
    dropout: nn::Dropout,
    output: nn::Linear,
}

impl Mlp {
    fn new(device: &Device) -> Self {
        Self {
            region: nn::EmbeddingConfig::new(8, 4).init(device),
            hidden: nn::LinearConfig::new(5 + 4, 64).init(device),
            dropout: nn::DropoutConfig::new(0.05).init(),
            output: nn::LinearConfig::new(64, 1).init(device),
        }
    }

    /// Returns predicted and true prices, `[batch]`.
    fn forward(&self, rows: &[Row]) -> [Tensor<1>; 2] {
        let device = self.output.weight.device();
        let features: Vec<f32> = rows.iter().flat_map(|row| row.features).collect();
        let regions: Vec<i32> = rows.iter().map(|row| row.region).collect();
        let prices: Vec<f32> = rows.iter().map(|row| row.price).collect();

        let features = Tensor::<1>::from_floats(features.as_slice(), &device);
        let regions = Tensor::<1, Int>::from_ints(regions.as_slice(), &device);
        let regions = self.region.forward(regions.reshape([rows.len(), 1])); // [batch, 1, 4]
        let x = Tensor::cat(
            vec![
                features.reshape([rows.len(), 5]),
                regions.reshape([rows.len(), 4]),
            ],
            1,
        );
        let x = self.dropout.forward(relu(self.hidden.forward(x)));
        let predictions = self.output.forward(x).reshape([rows.len()]);
        let prices = Tensor::from_floats(prices.as_slice(), &device);
        [predictions, prices]
    }
}

pub(crate) struct Predict;

impl Task for Predict {
    type Model = Mlp;
    type Batch = Vec<Row>;

    fn size(&self, rows: &Vec<Row>) -> BatchSize {
        BatchSize::samples(rows.len())
    }

    fn loss(&self, model: &Mlp, rows: &Vec<Row>, _: &LossContext<'_>) -> Tensor<1> {
        let [predictions, prices] = model.forward(rows);
        (predictions - prices).square().mean()
    }

    fn eval(&self, model: &Mlp, rows: &Vec<Row>, metrics: &mut Metrics) {
        let [predictions, prices] = model.forward(rows);
        metrics.errors(predictions, prices); // mae, rmse, r2
    }
}

#[derive(Parser)]
pub(crate) struct Args {
    /// Length of the run, such as `30 epochs`, `500 steps` or `30s`
    #[arg(long, default_value = "30 epochs")]
    pub(crate) duration: Span,
    /// Number of rows to train on; each of the two eval sets has a quarter of it
    #[arg(long, default_value_t = 4_000)]
    pub(crate) rows: usize,
    /// Directory of the run
    #[arg(long, default_value = "runs/regression")]
    pub(crate) run_dir: PathBuf,
}

/// Composes a run of [`Predict`].
pub(crate) fn compose(args: &Args) -> bdh::Result<TrainerBuilder<Predict>> {
    let rows = table(args.rows, 0);
    let num_batches = rows.len().div_ceil(BATCH) as u64;
    let train = epochs(move |epoch| shuffled(rows.clone(), epoch)).batches_per_epoch(num_batches);

    let adam = Group::new(
        "vectors",
        |param| param.rank() < 2 || param.name.starts_with("region."),
        AdamConfig::new().build(),
        schedule::burn(ExponentialLrSchedulerConfig::new(3e-3, 0.999)),
    );
    let momentum = Some(MomentumConfig::new());
    let sgd = SgdConfig::new().with_momentum(momentum).build();
    let inverse_root = Schedule::new("inverse_root", |progress| {
        0.05 / (1.0 + progress.epoch.unwrap_or_default()).sqrt()
    });

    let run = Trainer::builder_with(Predict, &bdh::device("cpu")?, Mlp::new)
        .train_data(Prefetch::new(train))
        .eval_data("val", batches(&table(args.rows / 4, 1)))
        .eval_data_on("test", batches(&table(args.rows / 4, 2)), last())
        .group(adam)
        .optimizer(sgd, inverse_root) // the matrices that are left
        .duration(args.duration)
        .eval(every(cadence::epochs(1)) | last())
        .intervention(
            ReduceOnPlateau::default()
                .metric("val/rmse")
                .factor(0.5)
                .patience(2),
        )
        .callback(Ema::default().decay(0.99))
        .callback(Checkpoints::default().metric("val/ema_rmse"))
        .callback(EarlyStop::default().metric("val/ema_rmse").patience(10));
    Ok(run)
}

fn main() -> bdh::Result {
    let args = Args::parse();
    let run = compose(&args)?.checkpoint(every(50) | last());
    let run = run.run_dir(args.run_dir).resume("auto");
    let trainer = run.sink(Console::default().line_every(250)).build()?;
    eprintln!("{}", trainer.plan()); // with the curve of each schedule
    let result = trainer.fit()?;
    if let Some(r2) = result.last.and_then(|record| record.scalar("test/r2")) {
        eprintln!("R² of the test set: {r2:.4}");
    }
    if let Some(best) = result.best_checkpoint {
        eprintln!("best checkpoint: {}", best.display());
    }
    Ok(())
}
