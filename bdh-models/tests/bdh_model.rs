//! BDH compared with numbers and files of the original, and its implementations with each other.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/parity.rs"]
mod parity;
#[path = "support/plain.rs"]
mod plain;

use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Int, Tensor};
use bdh::lm::{Sampling, TokenStream};
use bdh::text::TextTask;
use bdh::{CausalLm, NextToken, Probe};
use bdh_data::Tokenizer;
use bdh_models::bdh_model::{Bdh, BdhConfig};
use fixtures::{Original, Variant, each_variant};
use parity::{Values, backward, gradients, ids, load, norm, relative, weights};
use serde_json::Value;
use std::cell::RefCell;

impl Original for Bdh {
    const FOLDER: &'static str = "bdh";
    const BUFFERS: &'static [&'static str] = &["attn.freqs"];

    fn build(config: Value, device: &Device) -> (Self, usize) {
        let config: BdhConfig = serde_json::from_value(config).expect("the known settings");
        let model = config
            .init(0, device)
            .expect("the original took these settings");
        (model, config.num_params())
    }
}

#[test]
fn initial_weights_have_the_shapes_and_norms_of_the_original() {
    each_variant(Variant::<Bdh>::compare_weights);
}

#[test]
fn logits_and_loss_match_the_original() {
    each_variant(Variant::<Bdh>::compare_logits);
}

#[test]
fn gradients_match_the_original() {
    each_variant(Variant::<Bdh>::compare_gradients);
}

#[test]
fn five_steps_of_adamw_match_the_original() {
    each_variant(Variant::<Bdh>::compare_adamw);
}

/// Returns the model of the golden numbers: element `k` of a parameter is `0.1 * sin(0.37 * k + phase)`.
///
/// Measured with the original module (pathwaycom/bdh at 714bc80, PyTorch on the CPU in float32).
fn golden(device: &Device) -> Bdh {
    let config = BdhConfig {
        n_layer: 2,
        n_embd: 8,
        n_head: 2,
        mlp_internal_dim_multiplier: 4,
        vocab_size: 16,
        dropout: 0.0,
        ..BdhConfig::default()
    };
    let model = config.init(0, device).expect("the settings are sound");
    let phases = [
        ("decoder", 0.1),
        ("embed.weight", 0.5),
        ("encoder", 0.2),
        ("encoder_v", 0.3),
        ("lm_head", 0.4),
    ];
    let sizes = weights(&model);
    let wave = |k: usize, phase: f64| (0.1 * (0.37 * k as f64 + phase).sin()) as f32;
    let values = phases.map(|(name, phase)| {
        (
            name.to_owned(),
            (0..sizes[name].len()).map(|k| wave(k, phase)).collect(),
        )
    });
    load(model, &Values::from(values))
}

fn golden_batch(device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let batch = |tokens: [i32; 8]| ids(tokens.to_vec(), 1, device);
    (
        batch([1, 5, 2, 7, 3, 0, 15, 4]),
        batch([5, 2, 7, 3, 0, 15, 4, 9]),
    )
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .try_to_vec()
        .expect("the CPU computes in f32")
}

#[test]
fn golden_logits_loss_and_gradients_match_the_original() {
    let device = Device::flex().autodiff();
    let (model, (inputs, targets)) = (golden(&device), golden_batch(&device));
    let logits = values(model.logits(inputs.clone(), &Probe::off()));
    let first = [0.122_100_4, 0.049_202_5, -0.030_354_7];
    let last = [
        -0.361_683_3,
        -0.482_268_4,
        -0.537_580_7,
        -0.520_134_1,
        -0.432_289_7,
        -0.285_937,
    ];
    let pairs = logits[..3]
        .iter()
        .zip(&first)
        .chain(logits[7 * 16..].iter().zip(&last));
    for (measured, expected) in pairs {
        assert!(
            (measured - expected).abs() < 1e-6,
            "{measured}, expected {expected}"
        );
    }

    let (loss, grads) = backward(&model, &inputs, &targets);
    assert!(relative(loss.into(), 2.553_531_89) < 1e-6, "{loss}");
    let grads = gradients(&model, &grads);
    let expected = [
        ("decoder", 0.860_032_320),
        ("encoder", 0.644_240_916),
        ("encoder_v", 0.701_327_860),
        ("lm_head", 0.896_663_010),
        ("embed.weight", 0.445_088_953),
    ];
    let apart = expected.map(|(name, expected)| relative(norm(&grads[name]), expected));
    assert!(apart.iter().all(|apart| *apart < 1e-5), "{apart:?}");
    let total = |all: &Values| {
        all.values()
            .map(|one| norm(one).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    assert!(relative(total(&grads), 1.627_473_97) < 1e-6);
    assert!(relative(total(&weights(&model)), 2.258_106_11) < 1e-7);
}

/// Returns a small model with dropout and without autodiff, and tokens for it.
fn small() -> (Bdh, Tensor<2, Int>) {
    let device = Device::flex();
    let config = BdhConfig {
        n_layer: 3,
        n_embd: 16,
        n_head: 4,
        mlp_internal_dim_multiplier: 8,
        context: 24, // shorter than the text: the last rotations are not in the table
        ..BdhConfig::default()
    };
    let tokens = (0..2 * 37).map(|token| token * token % 251).collect();
    let model = config.init(3, &device).expect("the settings are sound");
    let louder = weights(&model).into_iter().map(|(name, values)| {
        (name, values.into_iter().map(|value| 10.0 * value).collect()) // further from linear
    });
    (load(model, &louder.collect()), ids(tokens, 2, &device))
}

fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f32::max)
}

#[test]
fn model_matches_its_formula() {
    let (model, tokens) = small();
    let expected = values(plain::logits(&model, tokens.clone()));
    assert!(expected.iter().any(|logit| logit.abs() > 1.0));
    let apart = apart(&values(model.logits(tokens, &Probe::off())), &expected);
    assert!(apart < 2e-5, "logits are {apart:e} apart");
}

#[test]
fn reading_token_by_token_matches_reading_the_whole_text() {
    let (model, tokens) = small();
    let tokens = tokens.narrow(0, 0, 1);
    let whole = values(model.logits(tokens.clone(), &Probe::off()));
    let mut stream = model.recurrent();
    let read: Vec<f32> = tokens
        .into_data()
        .iter::<i32>()
        .flat_map(|id| values(stream.read(id)))
        .collect();
    let apart = apart(&read, &whole);
    eprintln!("the recurrent model's logits are {apart:.1e} apart");
    assert!(apart < 1e-4, "logits are {apart:e} apart");
}

#[test]
fn generated_text_is_the_same_with_and_without_the_state() {
    let (model, _) = small();
    let task = NextToken::<Bdh>::new().vocabulary(Bytes(256));
    let sampled = |max_context, top_k, seed| {
        let how = Sampling {
            max_tokens: 40,
            temperature: 1.0,
            top_k: Some(top_k),
            seed,
            max_context,
            ..Sampling::default()
        };
        let samples = task.generate(&model, &[("To be", how)]);
        samples.expect("no device fails").remove(0)
    };
    // 45 bytes together stream in a context of 45. In a context of 44, all earlier bytes still decide the last one.
    assert_eq!(sampled(45, 5, 1).tokens, sampled(44, 5, 1).tokens);
    let (streamed, greedy) = (sampled(45, 5, 1), sampled(45, 1, 1));
    assert_ne!(streamed.tokens, sampled(45, 5, 2).tokens, "another seed");
    assert_eq!(
        greedy,
        sampled(45, 1, 2),
        "of one token the draw does not matter"
    );

    let how = |temperature, seed| Sampling {
        max_tokens: 40,
        temperature,
        seed,
        ..Sampling::default()
    };
    let at = |temperature, seed| task.generate(&model, &[("To be", how(temperature, seed))]);
    let tokens = |temperature, seed| {
        at(temperature, seed)
            .expect("no device fails")
            .remove(0)
            .tokens
    };
    assert_eq!(
        tokens(0.0, 1),
        greedy.tokens,
        "without temperature it is the likeliest"
    );
    assert_eq!(tokens(1e-7, 2), greedy.tokens, "and nearly without");
    assert_ne!(tokens(2.0, 1), tokens(1.0, 1), "heat moves the draw");
}

#[test]
fn prompt_outside_the_vocabulary_is_an_error() {
    let config = BdhConfig {
        n_layer: 1,
        n_embd: 8,
        vocab_size: 100,
        ..BdhConfig::default()
    };
    let model = config
        .init(1, &Device::flex())
        .expect("the settings are sound");
    let task = NextToken::<Bdh>::new().vocabulary(Bytes(100));
    let sampled = |prompt| {
        task.generate(
            &model,
            &[(
                prompt,
                Sampling {
                    max_tokens: 2,
                    ..Sampling::default()
                },
            )],
        )
    };
    assert!(sampled("TO BE").is_ok());
    let error = sampled("to").expect_err("t is 116").to_string();
    assert!(
        error.starts_with("the prompt \"to\" has id 116, which is outside the vocabulary of 100"),
        "{error}"
    );
}

/// Vocabulary of the bytes below a number, like in the original; 100 bytes have no lower-case letters after `c`.
struct Bytes(usize);

impl bdh::lm::Vocabulary for Bytes {
    fn encode(&self, text: &str) -> Vec<i32> {
        bdh::lm::bytes(text)
    }

    fn decode(&self, ids: &[i32]) -> String {
        Tokenizer::Bytes.decode(ids)
    }

    fn bos(&self) -> Option<i32> {
        None
    }

    fn token_bytes(&self) -> Vec<u32> {
        vec![1; self.0]
    }
}

#[test]
fn token_sees_earlier_tokens_and_no_later_ones() {
    let (model, tokens) = small();
    let logits = |tokens| values(model.logits(tokens, &Probe::off()));
    let first = logits(tokens.clone().narrow(0, 0, 1));
    let shorter = logits(tokens.narrow(0, 0, 1).narrow(1, 0, 20));
    assert!(apart(&first[..20 * 256], &shorter) < 1e-5);
}

#[test]
fn every_layer_taps_x_and_y_and_their_product() {
    let (model, tokens) = small();
    let taps = RefCell::new(Vec::new());
    let with = values(model.logits(tokens.clone(), &Probe::into_taps(&taps)));
    assert_eq!(with, values(model.logits(tokens, &Probe::off())));
    let taps = taps.into_inner();
    let names: Vec<_> = taps.iter().map(|tap| tap.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "0.x", "0.y", "0.xy", "1.x", "1.y", "1.xy", "2.x", "2.y", "2.xy"
        ]
    );
    for layer in taps.chunks(3) {
        let [x, y, xy] = [0, 1, 2].map(|which| values(layer[which].values.clone()));
        assert_eq!((x.len(), layer[0].units), (2 * 37 * 128, 128));
        let product: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
        assert_eq!(product, xy);
        assert!(x.contains(&0.0) && x.iter().all(|x| *x >= 0.0));
    }
}

#[test]
fn dropout_acts_only_in_training() {
    let device = Device::flex().autodiff();
    let config = BdhConfig {
        n_layer: 1,
        n_embd: 8,
        mlp_internal_dim_multiplier: 8,
        ..BdhConfig::default()
    };
    let model = config.init(1, &device).expect("the settings are sound");
    let tokens = |device: &Device| ids((0..20).collect(), 1, device);
    let valid = model.valid();
    let evaluated = || values(valid.logits(tokens(&Device::flex()), &Probe::off()));
    let trained = || values(model.logits(tokens(&device), &Probe::off()));
    assert_eq!(evaluated(), evaluated());
    assert_ne!(trained(), trained());
}

#[test]
fn untrained_model_is_uniform_and_half_of_its_neurons_fire() {
    let device = Device::flex();
    let config = BdhConfig {
        n_layer: 2,
        n_embd: 64,
        mlp_internal_dim_multiplier: 16,
        ..BdhConfig::default()
    };
    let model = config.init(5, &device).expect("the settings are sound");
    let taps = RefCell::new(Vec::new());
    let text = |shift: i32| {
        ids(
            (0..64).map(|at| (at * 7 + shift) % 256).collect(),
            1,
            &device,
        )
    };
    let logits = model.logits(text(0), &Probe::into_taps(&taps));
    let loss = parity::loss(&model, &text(0), &text(7)).into_scalar::<f32>();
    assert!((5.5..5.7).contains(&loss), "{loss}");
    assert_eq!(logits.dims(), [1, 64, 256]);
    let x = values(taps.into_inner().swap_remove(0).values);
    let active = x.iter().filter(|x| **x > 0.0).count() as f64 / x.len() as f64;
    assert!((0.45..0.55).contains(&active), "{active}");
}
