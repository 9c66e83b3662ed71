//! Tied parameters, one tensor in two fields of a model, train like one field that is used twice.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn; // `derive(Module)` generates paths that begin with `burn`
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::Embedding;
use bdh::burn::optim::{AdamWConfig, SgdConfig};
use bdh::burn::tensor::{Int, Tensor, TensorData};
use bdh::cadence::{at, every, start};
use bdh::checkpoint::Checkpoint;
use bdh::hooks::{EvalEnd, StepEnd};
use bdh::{
    BoxError, Callback, CallbackExt, CausalLm, Group, HookResult, MemorySink, NextToken, Probe,
    TrainResult, Trainer, TrainerBuilder, callback,
};
use std::path::Path;
use tiny::{ROWS, Rows, VOCAB};

const WIDTH: usize = 8;

/// Linear layer from activations to logits, whose matrix has the shape of an embedding, `[vocab, width]`.
#[derive(Module, Debug)]
struct Head {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// A language model with two fields of that shape, tied or not.
#[derive(Module, Debug)]
struct Two {
    embed: Embedding,
    head: Head,
}

/// A model with one such field, used twice.
#[derive(Module, Debug)]
struct One {
    embed: Embedding,
    bias: Param<Tensor<1>>,
}

/// Makes a parameter of irregular values that are equal in every run.
fn wave<const D: usize>(shape: [usize; D], phase: f32) -> Param<Tensor<D>> {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| 0.5 * (phase + 1.7 * i as f32).sin());
    let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
    Param::from_tensor(Tensor::from_data(data, &tiny::device()))
}

fn matrix() -> Param<Tensor<2>> {
    wave([VOCAB, WIDTH], 1.0)
}

fn two(embed: Param<Tensor<2>>, head: Param<Tensor<2>>) -> Two {
    Two {
        embed: Embedding { weight: embed },
        head: Head {
            weight: head,
            bias: wave([VOCAB], 3.0),
        },
    }
}

fn tied() -> Two {
    let matrix = matrix();
    two(matrix.clone(), matrix)
}

fn one() -> One {
    One {
        embed: Embedding { weight: matrix() },
        bias: wave([VOCAB], 3.0),
    }
}

fn logits(hidden: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    hidden.matmul(weight.transpose().unsqueeze()) + bias.unsqueeze()
}

impl CausalLm for Two {
    fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
        let hidden = self.embed.forward(tokens);
        logits(hidden, self.head.weight.val(), self.head.bias.val())
    }
}

impl CausalLm for One {
    fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
        let hidden = self.embed.forward(tokens);
        logits(hidden, self.embed.weight.val(), self.bias.val())
    }
}

/// Composes a run with accumulation, clipping and moments.
fn run<M: CausalLm>(model: M, steps: u64) -> TrainerBuilder<NextToken<M>> {
    Trainer::builder(NextToken::new(), model)
        .train_data(Rows::of(ROWS))
        .eval_data("val", tiny::val())
        .optimizer(AdamWConfig::new().build(), 0.01)
        .grad_accum_steps(2)
        .clip_grad_norm(0.1)
        .steps(steps)
        .stop_on_signals(false)
}

fn fit<M: CausalLm>(run: TrainerBuilder<NextToken<M>>) -> TrainResult<M> {
    let _alone = tiny::alone();
    let trainer = run.build().expect("a valid run");
    trainer.fit().expect("a run that completes")
}

fn refused(model: Two) -> String {
    let error = run(model, 2).build().expect_err("it cannot work");
    error.to_string()
}

fn bits<const D: usize>(param: &Param<Tensor<D>>) -> Vec<u32> {
    let data = param.val().into_data();
    data.iter::<f32>().map(f32::to_bits).collect()
}

/// Returns the bits of the embedding, which are the head's too, and of the bias.
fn weights(model: &Two) -> [Vec<u32>; 2] {
    let embed = bits(&model.embed.weight);
    assert_eq!(bits(&model.head.weight), embed);
    assert_eq!(model.head.weight.id, model.embed.weight.id);
    [embed, bits(&model.head.bias)]
}

/// Returns the records of a run: loss, norm of the gradients, norm of the updates, and the loss of the eval.
fn series(memory: &MemorySink) -> Vec<Vec<(u64, f64)>> {
    let keys = ["train/loss", "grad", "update", "val/loss"];
    keys.map(|key| memory.series(key)).to_vec()
}

/// Fits a model for 20 steps. Returns it with the records of the run.
fn trained<M: CausalLm>(model: M) -> (M, Vec<Vec<(u64, f64)>>) {
    let memory = MemorySink::default();
    let gradients = tiny::after_backward(|ctx| {
        ctx.log("grad", ctx.gradients.l2());
        Ok(())
    });
    let updates = tiny::after_optimizer_step(|ctx| {
        ctx.log("update", ctx.updates.l2());
        Ok(())
    });
    let run = run(model, 20).callback(gradients).callback(updates);
    let model = fit(run.sink(memory.clone())).model;
    (model, series(&memory))
}

#[test]
fn two_tied_fields_train_like_one_field_that_is_used_twice() {
    let ((tied, records), (one, records_of_one)) = (trained(tied()), trained(one()));
    assert_eq!(records[0].len(), 20);
    assert_eq!(records, records_of_one);
    assert_eq!(weights(&tied), [bits(&one.embed.weight), bits(&one.bias)]);
    assert_ne!(bits(&one.embed.weight), bits(&matrix()));
}

#[test]
fn a_tied_parameter_is_counted_once_and_shown_with_both_names() {
    let trainer = run(tied(), 2).build().expect("a valid run");
    let plan = trainer.plan();
    assert_eq!(plan.params, (2, VOCAB * WIDTH + VOCAB));
    assert_eq!(plan.tied, ["embed.weight (= head.weight)"]);
    let text = plan.to_string();
    assert!(text.contains("99 parameters in 2 tensors"), "{text}");
    assert!(
        text.contains("  tied: embed.weight (= head.weight)\n"),
        "{text}"
    );
    let separate = run(two(matrix(), matrix()), 2)
        .build()
        .expect("a valid run");
    assert_eq!(separate.plan().params, (3, 2 * VOCAB * WIDTH + VOCAB));
    assert!(separate.plan().tied.is_empty());
}

#[test]
fn a_group_claims_a_tied_parameter_by_either_name() {
    for claimed in ["embed.weight", "head.weight"] {
        let optimizer = || SgdConfig::new().build();
        let group = Group::new(
            "matrix",
            move |param| param.names().any(|name| name == claimed),
            optimizer(),
            0.1,
        );
        let run = Trainer::builder(NextToken::new(), tied())
            .train_data(Rows::of(ROWS))
            .group(group)
            .optimizer(optimizer(), 0.01)
            .steps(2);
        let trainer = run.build().expect("a valid run");
        let sizes: Vec<_> = trainer
            .plan()
            .groups
            .iter()
            .map(|group| group.elements)
            .collect();
        assert_eq!(sizes, [VOCAB * WIDTH, VOCAB]);
    }
}

/// A callback that keeps a copy of the weights, and evaluates it.
#[derive(Default)]
struct Latest(Vec<Tensor<1>>);

#[callback]
impl Callback for Latest {
    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.0 = ctx.weights.iter().map(|param| param.values()).collect();
        assert_eq!(self.0.len(), 2);
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        if !self.0.is_empty() {
            assert_eq!(ctx.eval_of(&self.0)?, ctx.report.metrics);
        }
        Ok(())
    }

    fn weights(&self) -> Option<Vec<Tensor<1>>> {
        (!self.0.is_empty()).then(|| self.0.clone())
    }

    fn load_weights(&mut self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
        self.0 = weights;
        Ok(())
    }
}

/// Composes a run of 12 steps with checkpoints, evals, and a copy of the weights.
fn saving(dir: &Path, model: Two) -> TrainerBuilder<NextToken<Two>> {
    run(model, 12)
        .eval(start() | every(4))
        .checkpoint(every(3))
        .keep_checkpoints(9)
        .callback(Latest::default())
        .run_dir(dir)
}

fn read(dir: &Path, step: u64) -> Checkpoint {
    let path = dir.join(format!("checkpoints/step_{step:08}"));
    Checkpoint::read(&path).expect("a complete checkpoint")
}

#[test]
fn a_checkpoint_has_a_tied_parameter_once_and_resumes_exactly() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (whole, resumed) = (scratch.path().join("whole"), scratch.path().join("resumed"));
    let expected = fit(saving(&whole, tied())).model;

    let stop = tiny::on_step(|ctx| {
        ctx.stop("interrupted");
        Ok(())
    });
    fit(saving(&resumed, tied()).callback(stop.on(at([6]))));
    let from = resumed.join("checkpoints/step_00000006");
    let model = fit(saving(&resumed, tied()).resume(from)).model;

    assert_eq!(weights(&model), weights(&expected));
    let (found, expected) = (read(&resumed, 12), read(&whole, 12));
    let names = |tensors: &bdh::stats::Tensors| tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found.model), ["embed.weight", "head.bias"]);
    assert_eq!(
        names(&found.copies["Latest"]),
        ["embed.weight", "head.bias"]
    );
    assert!(
        !names(&found.optimizer)
            .iter()
            .any(|name| name.starts_with("head.weight"))
    );
    assert_eq!(found.model, expected.model);
    assert_eq!(found.optimizer, expected.optimizer);
    assert_eq!(found.copies, expected.copies);
}

#[test]
fn two_replicas_train_a_tied_parameter_like_one_device() {
    let devices = bdh::devices("cpu:0-1").expect("the CPU");
    let single = weights(&fit(run(tied(), 20)).model);
    let several = run(tied(), 20).devices(devices).check_replicas(every(1));
    let several = weights(&fit(several).model);
    for (found, expected) in several.iter().flatten().zip(single.iter().flatten()) {
        let (found, expected) = (f32::from_bits(*found), f32::from_bits(*expected));
        assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
    }
}

#[test]
fn frozen_tied_parameters_stay_and_are_saved_once() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut model = tied();
    model.embed = model.embed.no_grad();
    model.head.weight = model.head.weight.set_require_grad(false);
    let run = run(model, 3).checkpoint(every(3)).run_dir(scratch.path());
    let result = fit(run);
    assert_eq!(weights(&result.model)[0], bits(&matrix()));
    let saved: Vec<_> = read(scratch.path(), 3).model.into_keys().collect();
    assert_eq!(saved, ["embed.weight", "head.bias"]);
}

#[test]
fn a_target_network_is_no_tied_parameter() {
    let matrix = matrix();
    let target = matrix.clone().set_require_grad(false);
    let model = fit(run(two(matrix, target), 3)).model;
    assert_eq!(bits(&model.head.weight), bits(&self::matrix()));
    assert_ne!(bits(&model.embed.weight), bits(&self::matrix()));
}

#[test]
fn files_with_both_names_load_if_the_values_are_equal() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let path = scratch.path().join("model.safetensors");
    let saved = |model: &Two| {
        bdh::save_weights(model, &path).expect("a file that can be written");
        bdh::load_weights(tied(), &path)
    };
    let other = || wave([VOCAB, WIDTH], 9.0);
    let loaded = saved(&two(other(), other())).expect("two equal matrices");
    assert_eq!(weights(&loaded)[0], bits(&other()));

    let error = saved(&two(matrix(), other()))
        .expect_err("two matrices for one field")
        .to_string();
    let expected = "`embed.weight` and `head.weight` have different values in the file, but are one tied parameter in \
                    this run";
    assert!(error.contains(expected), "{error}");

    let matrix = other();
    let loaded = saved(&two(matrix.clone(), matrix)).expect("one matrix under the first name");
    assert_eq!(weights(&loaded)[0], bits(&other()));
}

#[test]
fn fields_of_one_id_and_different_values_are_refused() {
    let matrix = matrix();
    let twice = Tensor::from_inner(matrix.val().inner() * 2.0);
    let scaled = Param::initialized(matrix.id, twice.require_grad());
    let expected = "`model` is with `embed.weight` and `head.weight` under one parameter id, but of different values: \
                    tied parameters are equal; to tie them, make one a clone of the other; to train both, give one an \
                    id of its own with `Param::from_tensor(param.val())`";
    assert_eq!(refused(two(matrix.clone(), scaled.clone())), expected);
    let separate = two(matrix, Param::from_tensor(scaled.val()));
    let trainer = run(separate, 2).build().expect("two ids");
    assert_eq!(trainer.plan().params.0, 3);
}
