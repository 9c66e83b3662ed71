//! Speed of norms, means and standard deviations of parameters, compared with the tensor's operations and a copy.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench statistics
//! ```
//!
//! Each variant uses the weights of a model after one training step. Variants run alternately; GB/s is the size of the
//! weights divided by the median time.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/paired.rs"]
mod paired;

use bdh::burn; // `derive(Module)` writes `burn::…`
use bdh::burn::module::{Module, Param};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::{Tensor, TensorData};
use bdh::data::cycle;
use bdh::hooks::AfterBackward;
use bdh::stats::ParamStats;
use bdh::{BatchSize, Cadence, Deferred, LossContext, Task, Trainer};
use paired::{Variant, measure, time};
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: usize = 25;
const ELEMENTS: usize = 8 << 20;

#[derive(Module, Debug)]
struct Matrices {
    params: Vec<Param<Tensor<2>>>,
}

struct SumUp;

impl Task for SumUp {
    type Model = Matrices;
    type Batch = ();

    fn size(&self, (): &()) -> BatchSize {
        BatchSize::samples(1)
    }

    fn loss(&self, model: &Matrices, (): &(), _: &LossContext<'_>) -> Tensor<1> {
        model
            .params
            .iter()
            .map(|param| param.val().mean())
            .reduce(|sum, mean| sum + mean)
            .unwrap()
    }
}

/// Measured function, which returns numbers that are not read yet.
type Ask = fn(&AfterBackward<'_>) -> Vec<Deferred>;

/// Measures computing and reading numbers after a step of `params` parameters of equal size. Returns time and numbers.
fn timed(params: usize, ask: Ask) -> (Duration, Vec<f64>) {
    let noted = Arc::new(Mutex::new((Duration::ZERO, Vec::new())));
    let note = Arc::clone(&noted);
    let look = bdh::hooks::after_backward(move |ctx| {
        let mut values = Vec::new();
        let took = time(|| {
            let asked = ask(ctx);
            values = asked.iter().map(|value| ctx.read(value).unwrap()).collect();
        });
        *note.lock().unwrap() = (took, values);
        Ok(())
    });
    let device = bdh::device("cpu").unwrap();
    // All parameters are equal: drawing random ones would take longer than the measurement.
    let shape = [ELEMENTS / params / 64, 64];
    let values = (0..ELEMENTS / params)
        .map(|index| (index % 1009) as f32 / 1009.0 - 0.4)
        .collect();
    let values = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
    let params = (0..params)
        .map(|_| Param::from_tensor(values.clone() * 1.0))
        .collect();
    let run = Trainer::builder(SumUp, Matrices { params })
        .train_data(cycle(vec![()]))
        .optimizer(SgdConfig::new().build(), 0.1);
    let run = run
        .steps(1)
        .log(Cadence::Never)
        .stop_on_signals(false)
        .callback(look);
    run.build().unwrap().fit().unwrap();
    let mut noted = noted.lock().unwrap();
    std::mem::take(&mut *noted)
}

fn norm(ctx: &AfterBackward<'_>) -> Vec<Deferred> {
    vec![ctx.weights.l2()]
}

fn all(ctx: &AfterBackward<'_>) -> Vec<Deferred> {
    let of = |param: ParamStats<'_>| [param.l2(), param.mean(), param.std(), param.non_finite()];
    ctx.weights.iter().flat_map(of).collect()
}

/// Returns one statistic of each parameter, to be read together.
fn each(ctx: &AfterBackward<'_>, of: fn(Tensor<1>) -> Tensor<1>) -> Tensor<1> {
    Tensor::cat(
        ctx.weights.iter().map(|param| of(param.values())).collect(),
        0,
    )
}

fn norm_by_operations(ctx: &AfterBackward<'_>) -> Vec<Deferred> {
    vec![
        each(ctx, |values| values.square().sum())
            .sum()
            .sqrt()
            .into(),
    ]
}

fn all_by_operations(ctx: &AfterBackward<'_>) -> Vec<Deferred> {
    let variance = |values: Tensor<1>| {
        let elements = values.shape().num_elements() as f64;
        (values.clone() - values.mean()).square().sum() / (elements - 1.0)
    };
    let statistics = [
        each(ctx, |values| values.square().sum()).sqrt(),
        each(ctx, Tensor::mean),
        each(ctx, variance).sqrt(),
        each(ctx, |values| {
            values.is_finite().bool_not().int().sum().float()
        }),
    ];
    let of = |param: usize| {
        statistics
            .each_ref()
            .map(|values| values.clone().slice(param..=param).into())
    };
    (0..ctx.weights.iter().count()).flat_map(of).collect()
}

fn agree(params: usize, ours: Ask, by_operations: Ask) {
    let (ours, theirs) = (timed(params, ours).1, timed(params, by_operations).1);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(
            (ours - theirs).abs() <= 1e-3 * theirs.abs(),
            "{ours} and {theirs}"
        );
    }
}

fn table(params: usize) {
    agree(params, norm, norm_by_operations);
    agree(params, all, all_by_operations);
    let from = vec![1.0_f32; ELEMENTS];
    let mut to = from.clone();
    let mut variants = vec![
        Variant::new("a copy of the weights", || {
            let took = time(|| to.copy_from_slice(black_box(&from)));
            black_box(&to);
            took
        }),
        Variant::new("the global norm", || timed(params, norm).0),
        Variant::new("the same by operations", || {
            timed(params, norm_by_operations).0
        }),
        Variant::new("norm, mean, std, finite of each", || timed(params, all).0),
        Variant::new("the same by operations", || {
            timed(params, all_by_operations).0
        }),
    ];
    let times = measure(&mut variants, ROUNDS);
    let title = format!("{params} x {} weights", ELEMENTS / params);
    println!(
        "\n{title:<34} {:>8} {:>8} {:>10}",
        "ms", "GB/s", "to a copy"
    );
    for (variant, of_variant) in variants.iter().zip(&times) {
        let (seconds, ratio) = (
            of_variant.median().as_secs_f64(),
            of_variant.ratio(&times[0]),
        );
        let rate = (ELEMENTS * size_of::<f32>()) as f64 / seconds / 1e9;
        println!(
            "{:<34} {:>8.2} {rate:>8.2} {ratio:>10.2}",
            variant.name,
            seconds * 1e3
        );
    }
}

fn main() {
    table(32); // matrices of a model that fit into a core's cache
    table(2); // and embeddings that do not
}
