//! nanochat's numbers for weights from a formula, without files.
//!
//! Measured with the original module (karpathy/nanochat at 92d63d4, PyTorch on the CPU in float32). Element `k`
//! of the `i`-th parameter, both from 0, names sorted, is `0.1 * sin(0.37 * k + 0.1 * (i + 1))`.

#[path = "support/parity.rs"]
mod parity;

use bdh::burn::tensor::{Device, Int, Tensor};
use bdh::data::cycle;
use bdh::{CausalLm, Probe};
use bdh::{MemorySink, NextToken, TokenBatch};
use bdh_callbacks::Norms;
use bdh_models::nanochat::{Gpt, GptConfig, LearningRates, MuonSchedule, groups};
use parity::{Trainer, Values, backward, gradients, ids, load, norm, relative, weights};

const NAMES: [&str; 21] = [
    "backout_lambda",
    "lm_head.weight",
    "resid_lambdas",
    "smear_gate.weight",
    "smear_lambda",
    "transformer.h.0.attn.c_k.weight",
    "transformer.h.0.attn.c_proj.weight",
    "transformer.h.0.attn.c_q.weight",
    "transformer.h.0.attn.c_v.weight",
    "transformer.h.0.mlp.c_fc.weight",
    "transformer.h.0.mlp.c_proj.weight",
    "transformer.h.1.attn.c_k.weight",
    "transformer.h.1.attn.c_proj.weight",
    "transformer.h.1.attn.c_q.weight",
    "transformer.h.1.attn.c_v.weight",
    "transformer.h.1.attn.ve_gate.weight",
    "transformer.h.1.mlp.c_fc.weight",
    "transformer.h.1.mlp.c_proj.weight",
    "transformer.wte.weight",
    "value_embeds.1.weight",
    "x0_lambdas",
];

fn config() -> GptConfig {
    GptConfig {
        sequence_len: 16,
        vocab_size: 60,
        n_layer: 2,
        n_head: 2,
        n_kv_head: 1,
        n_embd: 32,
        window_pattern: "L".into(),
        ..GptConfig::default()
    }
}

fn golden_model(device: &Device) -> Gpt {
    let model = config().init(0, device).expect("the settings are sound");
    let wave = |i: usize, k: usize| (0.1 * (0.37 * k as f64 + 0.1 * (i + 1) as f64).sin()) as f32;
    let values: Values = weights(&model)
        .into_iter()
        .enumerate()
        .map(|(i, (name, values))| (name, (0..values.len()).map(|k| wave(i, k)).collect()))
        .collect();
    load(model, &values)
}

fn golden_batch(device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let tokens = vec![1, 5, 2, 7, 3, 0, 59, 4, 8, 9, 10, 33, 12, 13, 14, 15];
    let targets = tokens[1..].iter().copied().chain([-1]).collect();
    (ids(tokens, 1, device), ids(targets, 1, device))
}

fn assert_close(what: &str, measured: f64, expected: f64, tolerance: f64) {
    let error = relative(measured, expected);
    eprintln!("{what}: {measured} against {expected}, {error:.1e} apart");
    assert!(
        error < tolerance,
        "{what} is {measured}, expected {expected}: {error:e} apart"
    );
}

/// Returns the L2 norm of all values together.
fn total_norm(values: &Values) -> f64 {
    values
        .values()
        .map(|values| norm(values).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[test]
fn parameters_have_the_names_of_the_original() {
    let weights = weights(&golden_model(&Device::flex()));
    let names: Vec<_> = weights.keys().collect();
    assert_eq!(names, NAMES);
}

#[test]
fn logits_and_loss_match_the_original() {
    let device = Device::flex();
    let (model, (inputs, targets)) = (golden_model(&device), golden_batch(&device));
    let logits = model.logits(inputs.clone(), &Probe::off());
    assert_eq!(logits.dims(), [1, 16, 60]);
    let expected = [
        (0, [0.175_757_2, -0.088_634_4, -0.308_247_7, -0.372_238_8]),
        (15, [-0.568_721_4, -0.557_375_7, -0.264_739_1, 0.161_752_5]),
    ];
    for (position, expected) in expected {
        let row = logits.clone().slice([0..1, position..position + 1, 0..4]);
        let row: Vec<f32> = row
            .into_data()
            .try_to_vec()
            .expect("the CPU computes in f32");
        for (measured, expected) in row.iter().zip(expected) {
            assert!(
                (measured - expected).abs() < 1e-5,
                "position {position}: {measured}, expected {expected}"
            );
        }
    }
    let loss = parity::loss(&model, &inputs, &targets).into_scalar::<f32>();
    assert_close("loss", loss.into(), 4.195_050_72, 1e-6);
    assert_close(
        "weight norm",
        total_norm(&weights(&model)),
        11.770_550_2,
        1e-7,
    );
}

#[test]
fn gradients_match_the_original() {
    let device = Device::flex().autodiff();
    let (model, (inputs, targets)) = (golden_model(&device), golden_batch(&device));
    let (_, grads) = backward(&model, &inputs, &targets);
    let grads = gradients(&model, &grads);
    assert_eq!(grads.len(), NAMES.len(), "every parameter takes part");
    assert_close("global norm", total_norm(&grads), 4.408_949_54, 1e-5);
    let expected = [
        ("lm_head.weight", 1.452_575_4),
        ("transformer.wte.weight", 0.581_274_59),
        ("value_embeds.1.weight", 0.190_689_38),
        ("transformer.h.0.attn.c_q.weight", 0.008_140_259_8),
        ("transformer.h.0.attn.c_k.weight", 0.002_441_470_7),
        ("transformer.h.1.attn.c_proj.weight", 3.171_345_8),
        ("transformer.h.1.attn.ve_gate.weight", 0.023_429_817),
        ("transformer.h.1.mlp.c_fc.weight", 1.536_646_4),
        ("smear_gate.weight", 0.008_076_786_6),
        ("smear_lambda", 0.050_318_502),
        ("resid_lambdas", 0.026_903_811),
        ("x0_lambdas", 0.073_807_733),
    ];
    for (name, expected) in expected {
        assert_close(name, norm(&grads[name]), expected, 1e-5);
    }
}

#[test]
fn two_optimizer_steps_match_the_original() {
    let device = Device::flex().autodiff();
    let (mut model, (inputs, targets)) = (golden_model(&device), golden_batch(&device));
    // In a run of this length, the first two updates have momenta of 0.85 and 0.8503, and the full weight decay.
    let schedule = MuonSchedule::new(1_000_000);
    let groups = groups(&config(), LearningRates::default(), 0.28, Some(schedule));
    let mut trainer = Trainer::new(|name: &str| {
        let mut owners = groups.iter().filter(|group| group.owns(name));
        let owner = owners.next().expect("a parameter is in a group");
        assert!(owners.next().is_none(), "`{name}` is in one group only");
        (owner.optimizer(), owner.peak_lr)
    });

    let (_, grads) = backward(&model, &inputs, &targets);
    model = trainer.step(model, grads);
    let after = weights(&model);
    let expected = [
        (
            "transformer.h.0.attn.c_q.weight",
            0.074_521_236_1,
            2.258_166_8,
        ),
        (
            "transformer.h.1.mlp.c_fc.weight",
            0.096_712_388_1,
            4.513_565_2,
        ),
        (
            "transformer.h.1.mlp.c_proj.weight",
            0.097_384_825_3,
            4.516_268_8,
        ),
        (
            "transformer.h.1.attn.ve_gate.weight",
            0.093_624_100_1,
            0.239_732_91,
        ),
        ("transformer.wte.weight", 1.564_184_78, 32.381_853),
        ("lm_head.weight", 0.059_050_981_0, 3.417_292_6),
        ("value_embeds.1.weight", 0.825_108_469, 11.697_934),
        ("x0_lambdas", 0.586_320_996, 0.812_322_25),
        ("smear_lambda", -0.152_057_454, 0.152_057_454),
    ];
    for (name, first, size) in expected {
        assert_close(name, after[name][0].into(), first, 1e-4);
        assert_close(name, norm(&after[name]), size, 1e-4);
    }

    let (loss, grads) = backward(&model, &inputs, &targets);
    assert_close("loss after one step", loss.into(), 3.624_782_32, 1e-4);
    model = trainer.step(model, grads);
    let (loss, _) = backward(&model, &inputs, &targets);
    assert_close("loss after two steps", loss.into(), 2.425_351_86, 1e-4);
}

fn golden_tokens() -> TokenBatch {
    TokenBatch::from_rows(&[[1, 5, 2, 7, 3, 0, 59, 4, 8, 9, 10, 33, 12, 13, 14, 15, -1]])
}

#[test]
fn trainer_takes_the_same_two_steps() {
    let device = Device::flex().autodiff();
    let memory = MemorySink::default();
    let before = bdh::hooks::after_backward(|ctx| {
        ctx.log("weight_norm_before", ctx.weights.l2());
        Ok(())
    });
    let mut builder = bdh::Trainer::builder(NextToken::new(), golden_model(&device))
        .train_data(cycle(vec![golden_tokens()]))
        .eval_data("val", vec![golden_tokens()])
        .steps(2)
        .callback(Norms::default())
        .callback(before)
        .sink(memory.clone());
    for group in groups(
        &config(),
        LearningRates::default(),
        0.28,
        Some(MuonSchedule::new(1_000_000)),
    ) {
        builder = builder.group(group.scheduled(bdh::schedule::constant));
    }
    builder
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");

    let expected = [
        ("train/loss", vec![4.195_050_72, 3.624_782_32]),
        ("val/loss", vec![2.425_351_86]),
    ];
    for (key, values) in expected {
        let series = memory.series(key);
        assert_eq!(series.len(), values.len(), "{key}");
        for ((step, measured), expected) in series.into_iter().zip(values) {
            assert_close(&format!("{key} of step {step}"), measured, expected, 1e-4);
        }
    }
    let first = |key| memory.series(key)[0].1;
    assert_close(
        "train/grad_norm",
        first("train/grad_norm"),
        4.408_949_54,
        1e-5,
    );
    assert_close(
        "weight_norm_before",
        first("weight_norm_before"),
        11.770_550_2,
        1e-5,
    );
}
