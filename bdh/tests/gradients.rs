//! Gradients, updates and their statistics have the values of closed forms.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::module::{Module, Param};
use bdh::burn::optim::{AdamWConfig, SgdConfig};
use bdh::burn::tensor::Tensor;
use bdh::cadence::never;
use bdh::data::cycle;
use bdh::schedule::warmup_constant;
use bdh::{BatchSize, ConfigError, Group, LossContext, MemorySink, Stats, Task, Trainer};
use tiny::Seen;

/// A model whose gradient is known in closed form: the loss is `slope · weight`.
#[derive(Module, Debug)]
struct Slope {
    weight: Param<Tensor<1>>,
    one: Param<Tensor<1>>,
}

impl Slope {
    fn at(weight: &[f32]) -> Self {
        let device = tiny::device();
        let one = Param::from_tensor(Tensor::ones([1], &device));
        Self {
            weight: Param::from_tensor(Tensor::from_floats(weight, &device)),
            one,
        }
    }
}

/// A task whose batches are slopes. The gradient of `weight` is the slope, that of `one` is 0.
struct Slopes;

impl Task for Slopes {
    type Model = Slope;
    type Batch = Vec<f32>;

    fn size(&self, _: &Vec<f32>) -> BatchSize {
        BatchSize::samples(1)
    }

    fn loss(&self, model: &Slope, batch: &Vec<f32>, _: &LossContext<'_>) -> Tensor<1> {
        let slope = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device());
        (model.weight.val() * slope).sum() + model.one.val() * 0.0
    }
}

fn run(weight: &[f32], slopes: &[&[f32]]) -> bdh::TrainerBuilder<Slopes> {
    let slopes = slopes.iter().map(|slope| slope.to_vec()).collect();
    Trainer::builder(Slopes, Slope::at(weight))
        .train_data(cycle(slopes))
        .optimizer(SgdConfig::new().build(), 0.5)
        .steps(1)
        .stop_on_signals(false)
}

fn floats(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Concatenates all tensors of a kind of statistics.
fn values(stats: &Stats<'_>) -> Vec<f32> {
    stats
        .iter()
        .flat_map(|param| floats(param.values()))
        .collect()
}

fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{found} instead of {expected}"
        );
    }
}

#[test]
fn the_gradient_of_accumulated_micro_batches_is_their_mean() {
    let seen = Seen::new();
    let note = seen.clone();
    run(&[1.0, 1.0], &[&[3.0, -1.0], &[5.0, 2.0]])
        .grad_accum_steps(2)
        .callback(tiny::after_backward(move |ctx| {
            Ok(note.push(values(ctx.gradients)))
        }))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(seen.all(), [[4.0, 0.5, 0.0]]);
}

#[test]
fn micro_batches_add_up_to_one_big_batch() {
    let gradients_and_loss = |rows: usize, micro_batches: usize| {
        let (seen, memory) = (Seen::new(), MemorySink::default());
        let note = seen.clone();
        tiny::compose(rows, tiny::Tiny::new(0.0), 3)
            .optimizer(SgdConfig::new().build(), 0.1)
            .grad_accum_steps(micro_batches)
            .callback(tiny::after_backward(move |ctx| {
                Ok(note.push(values(ctx.gradients)))
            }))
            .sink(memory.clone())
            .build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes");
        let losses = memory
            .series("train/loss")
            .into_iter()
            .map(|(_, loss)| loss as f32);
        (seen.all().concat(), losses.collect::<Vec<_>>())
    };
    let (whole, loss_of_whole) = gradients_and_loss(6, 1);
    let (parts, loss_of_parts) = gradients_and_loss(2, 3);
    close(&parts, &whole, 1e-6);
    close(&loss_of_parts, &loss_of_whole, 1e-6);
}

#[test]
fn clipping_scales_a_3_4_5_triangle_to_the_given_norm() {
    let seen = Seen::new();
    let (raw, clipped, update) = (seen.clone(), seen.clone(), seen.clone());
    let memory = MemorySink::default();
    run(&[1.0, 1.0], &[&[3.0, 4.0]])
        .clip_grad_norm(1.0)
        .callback(tiny::after_backward(move |ctx| {
            Ok(raw.push(values(ctx.gradients)))
        }))
        .callback(tiny::before_optimizer_step(move |ctx| {
            clipped.push(values(ctx.gradients));
            ctx.log("norm", ctx.grad_norm.expect("clipping is on").clone());
            ctx.log(
                "factor",
                ctx.clip_coefficient.expect("clipping is on").clone(),
            );
            assert_eq!(ctx.lrs, [("default".to_owned(), 0.5)]);
            Ok(())
        }))
        .callback(tiny::after_optimizer_step(move |ctx| {
            update.push(values(ctx.updates));
            update.push(values(ctx.weights));
            Ok(())
        }))
        .sink(memory.clone())
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");

    let seen = seen.all();
    assert_eq!(seen[0], [3.0, 4.0, 0.0]);
    close(&seen[1], &[0.6, 0.8, 0.0], 1e-6);
    close(&seen[2], &[-0.3, -0.4, 0.0], 1e-6); // plain descent at 0.5
    close(&seen[3], &[0.7, 0.6, 1.0], 1e-6);
    let logged = |key| memory.series(key)[0].1;
    assert_eq!(logged("norm"), 5.0);
    assert!((logged("factor") - 1.0 / (5.0 + 1e-6)).abs() < 1e-7);
}

#[test]
fn gradients_within_the_norm_are_left_as_they_are() {
    let seen = Seen::new();
    let note = seen.clone();
    run(&[1.0, 1.0], &[&[3.0, 4.0]])
        .clip_grad_norm(5.1)
        .callback(tiny::before_optimizer_step(move |ctx| {
            Ok(note.push(values(ctx.gradients)))
        }))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(seen.all(), [[3.0, 4.0, 0.0]]);
}

#[test]
fn statistics_match_double_precision_on_the_host() {
    let weight: Vec<f32> = (0..40).map(|i| 100.0 + (1.3 * i as f32).sin()).collect();
    let slope: Vec<f32> = (0..40).map(|i| 1e-3 * (0.7 * i as f32).cos()).collect();
    let memory = MemorySink::default();
    run(&weight, &[&slope])
        .callback(tiny::after_backward(|ctx| {
            for (kind, stats) in [("weight", ctx.weights), ("grad", ctx.gradients)] {
                for param in stats.iter() {
                    let key = |what| format!("{kind}/{}/{what}", param.name());
                    ctx.log(key("l2"), param.l2());
                    ctx.log(key("mean"), param.mean());
                    ctx.log(key("std"), param.std());
                    ctx.log(key("abs_max"), param.abs_max());
                    ctx.log(key("non_finite"), param.non_finite());
                }
                ctx.log(format!("{kind}/l2"), stats.l2());
                ctx.log(format!("{kind}/non_finite"), stats.non_finite());
            }
            Ok(())
        }))
        .sink(memory.clone())
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");

    let logged = |key: &str| memory.series(key)[0].1;
    let about = |key: &str, expected: f64| {
        let found = logged(key);
        let error = (found - expected).abs() / expected.abs().max(1e-9);
        assert!(error < 2e-6, "{key} is {found} instead of {expected}");
    };
    for (kind, values) in [("weight", &weight), ("grad", &slope)] {
        let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let spread: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let square: f64 = values.iter().map(|value| value * value).sum();
        about(&format!("{kind}/weight/l2"), square.sqrt());
        about(&format!("{kind}/weight/mean"), mean);
        about(
            &format!("{kind}/weight/abs_max"),
            values.iter().fold(0.0, |a, b| a.max(b.abs())),
        );
        let (std, expected) = (
            logged(&format!("{kind}/weight/std")),
            (spread / (count - 1.0)).sqrt(),
        );
        assert!(
            (std / expected - 1.0).abs() < 1e-4,
            "{std} instead of {expected}"
        ); // f32 mean of 100.3
        assert_eq!(logged(&format!("{kind}/weight/non_finite")), 0.0);
        let one = if kind == "weight" { 1.0 } else { 0.0 };
        about(&format!("{kind}/l2"), (square + one).sqrt());
        assert_eq!(
            logged(&format!("{kind}/one/std")),
            0.0,
            "one element has no spread"
        );
    }
}

#[test]
fn elements_that_are_not_finite_are_counted() {
    let slope = [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
    let memory = MemorySink::default();
    run(&[1.0; 5], &[&slope])
        .callback(tiny::after_backward(|ctx| {
            ctx.log("all", ctx.gradients.non_finite());
            ctx.log("weights", ctx.weights.non_finite());
            for param in ctx.gradients.iter() {
                ctx.log(param.name(), param.non_finite());
            }
            Ok(())
        }))
        .sink(memory.clone())
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let logged = |key| memory.series(key)[0].1;
    assert_eq!(
        ["all", "weight", "one", "weights"].map(logged),
        [3.0, 3.0, 0.0, 0.0]
    );
}

#[test]
fn a_parameter_without_a_gradient_is_skipped() {
    /// Uses `weight` only.
    struct Partly;

    impl Task for Partly {
        type Model = Slope;
        type Batch = ();

        fn size(&self, (): &()) -> BatchSize {
            BatchSize::samples(1)
        }

        fn loss(&self, model: &Slope, (): &(), _: &LossContext<'_>) -> Tensor<1> {
            model.weight.val().sum()
        }
    }

    let seen = Seen::new();
    let note = seen.clone();
    let fitted = Trainer::builder(Partly, Slope::at(&[1.0, 2.0]))
        .train_data(cycle(vec![()]))
        .optimizer(AdamWConfig::new().build(), 0.1)
        .steps(1)
        .clip_grad_norm(0.1)
        .stop_on_signals(false)
        .callback(tiny::after_backward(move |ctx| {
            let names = |stats: &Stats<'_>| {
                stats
                    .iter()
                    .map(|param| param.name().to_owned())
                    .collect::<Vec<_>>()
                    .join(",")
            };
            note.push(names(ctx.gradients));
            note.push(names(ctx.weights));
            ctx.log("norm", ctx.gradients.l2());
            Ok(())
        }))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(seen.text(), "weight weight,one");
    assert_eq!(floats(fitted.model.one.val()), [1.0]);
    assert_eq!(fitted.warnings, []);
}

#[test]
fn each_group_has_its_own_optimizer_and_learning_rate() {
    let before = tiny::weights(&tiny::Tiny::new(0.0));
    let memory = MemorySink::default();
    let seen = Seen::new();
    let note = seen.clone();
    let fitted = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 4)
        .group(Group::new(
            "frozen",
            |param| param.name == "head.bias",
            AdamWConfig::new().build(),
            0.0,
        ))
        .group(Group::new(
            "descent",
            |param| param.rank() == 2 && param.name.starts_with("head"),
            SgdConfig::new().build(),
            warmup_constant(0.25, 2),
        ))
        .optimizer(
            AdamWConfig::new()
                .with_weight_decay(0.0)
                .with_epsilon(1e-12)
                .build(),
            0.01,
        )
        .eval(never())
        .callback(tiny::before_optimizer_step({
            let note = note.clone();
            move |ctx| Ok(note.push(values(ctx.gradients)))
        }))
        .callback(tiny::after_optimizer_step(move |ctx| {
            Ok(note.push(values(ctx.updates)))
        }))
        .sink(memory.clone())
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let after = tiny::weights(&fitted.model);
    assert_ne!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
    assert_eq!(after[2], before[2], "a learning rate of 0 moves nothing");

    let (gradients, updates) = (&seen.all()[0], &seen.all()[1]);
    let embed = tiny::VOCAB * 8;
    for (gradient, update) in gradients[embed..2 * embed]
        .iter()
        .zip(&updates[embed..2 * embed])
    {
        assert!(
            (update + 0.125 * gradient).abs() < 1e-6,
            "descent at half the peak"
        );
    }
    for (gradient, update) in gradients[..embed].iter().zip(&updates[..embed]) {
        let expected = if *gradient == 0.0 {
            0.0
        } else {
            -0.01 * gradient.signum()
        };
        assert!(
            (update - expected).abs() < 1e-5,
            "Adam's first step is the sign of the gradient"
        );
    }
    let lrs = |key| {
        memory
            .series(key)
            .into_iter()
            .map(|(_, lr)| lr)
            .collect::<Vec<_>>()
    };
    assert_eq!(lrs("lr/descent"), [0.125, 0.25, 0.25, 0.25]);
    assert_eq!(lrs("lr/default"), [0.01; 4]);
    assert_eq!(lrs("lr/frozen"), [0.0; 4]);
}

#[test]
fn a_parameter_that_no_group_claims_is_named() {
    let sgd = || SgdConfig::new().build();
    let groups = tiny::compose(1, tiny::Tiny::new(0.0), 1).group(Group::new(
        "embed",
        |param| param.name.starts_with("embed"),
        sgd(),
        0.1,
    ));
    let error = groups.build().expect_err("the head has no group");
    assert!(matches!(error, ConfigError::Groups(_)));
    assert!(error.to_string().contains("`head.weight`"), "{error}");
}

#[test]
fn a_group_without_parameters_is_named() {
    let sgd = || SgdConfig::new().build();
    let late = tiny::run(1).group(Group::new("late", |_| true, sgd(), 0.1));
    let error = late
        .build()
        .expect_err("the default group has taken all")
        .to_string();
    assert!(
        error.contains("`late`") && error.contains("was added earlier and takes all"),
        "{error}"
    );
}

#[test]
fn a_model_without_autodiff_is_refused_with_advice() {
    let device = tiny::device().inner();
    let ones = || Param::from_tensor(Tensor::ones([1], &device));
    let model = Slope {
        weight: ones(),
        one: ones(),
    };
    let run = Trainer::builder(Slopes, model)
        .train_data(cycle(vec![vec![1.0]]))
        .optimizer(SgdConfig::new().build(), 0.1)
        .steps(1);
    let error = run.build().expect_err("nothing to train").to_string();
    assert!(
        error.contains("`model`") && error.contains("`bdh::device`"),
        "{error}"
    );
}
