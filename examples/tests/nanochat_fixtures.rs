//! nanochat against files made by the original: one folder a variant, below `nanochat/` in the fixtures.
//!
//! The folder is `BDH_FIXTURES`, or `../shared/fixtures` beside the workspace. Where it is missing, nothing is
//! compared and the test says so.

#[path = "support/nanochat.rs"]
mod support;

use bdh::burn::optim::{AdamWConfig, DynOptimizer};
use bdh::burn::tensor::{Device, Int, Tensor};
use bdh::{CausalLm, Probe};
use bdh_examples::nanochat::{Gpt, GptConfig, Group, LearningRates, Rule, groups};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::{Trainer, Values, backward, gradients, ids, load, norm, relative, weights};

/// The part of a variant's `expected.json` that is compared.
#[derive(Deserialize)]
struct Expected {
    config: GptConfig,
    #[serde(rename = "B")]
    batch: usize,
    n_params: usize,
    loss: f64,
    weight_norms: BTreeMap<String, f64>,
    grad_norms: BTreeMap<String, f64>,
    adamw: Training,
    muon_adamw: Training,
    float32_noise: Noise,
}

/// How far the original is from itself.
#[derive(Deserialize)]
struct Noise {
    vs_float64: NoiseVsFloat64,
}

#[derive(Deserialize)]
struct NoiseVsFloat64 {
    grad_norm_max_rel: f64,
}

#[derive(Deserialize)]
struct Training {
    #[serde(rename = "losses_before_each_step_then_after")]
    losses: Vec<f64>,
    weight_norms_after_5: BTreeMap<String, f64>,
    #[serde(default)]
    groups: Vec<TorchGroup>,
}

#[derive(Deserialize)]
struct TorchGroup {
    lr: f64,
    betas: Option<[f64; 2]>,
    weight_decay: f64,
    params: Vec<String>,
}

impl TorchGroup {
    fn assert_same_settings(&self, group: &Group, param: &str) {
        let close = |ours: f64, theirs: f64| (ours - theirs).abs() < 1e-7; // burn's AdamW keeps f32
        assert!(relative(group.lr, self.lr) < 1e-12, "{param}: {group}");
        let weight_decay = match (group.rule, self.betas) {
            (Rule::AdamW { betas, weight_decay }, Some(expected)) => {
                let mut betas = betas.iter().zip(expected);
                assert!(
                    betas.all(|(&ours, theirs)| close(ours.into(), theirs)),
                    "{param}: {group}"
                );
                weight_decay.into()
            }
            (Rule::Muon(muon), None) => muon.weight_decay(0),
            _ => panic!("{param} is in the wrong kind of group: {group}"),
        };
        assert!(close(weight_decay, self.weight_decay), "{param}: {group}");
    }
}

/// A variant, with its model and its batch on a device.
struct Variant {
    name: String,
    expected: Expected,
    model: Gpt,
    inputs: Tensor<2, Int>,
    targets: Tensor<2, Int>,
    logits: Vec<f32>,
    grads: Option<Values>,
}

impl Variant {
    fn read(folder: &Path, device: &Device) -> Self {
        let expected =
            fs::read(folder.join("expected.json")).expect("a variant has an expected.json");
        let expected: Expected =
            serde_json::from_slice(&expected).expect("expected.json has the known form");
        let model = expected.config.init(0, device).expect("the original took these settings");
        let (io, weights) =
            (folder.join("io.safetensors"), floats(&folder.join("weights.safetensors")));
        let grads = folder.join("grads.safetensors");
        Self {
            name: folder
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            model: load(model, &weights),
            inputs: ids(integers(&io, "idx"), expected.batch, device),
            targets: ids(integers(&io, "targets"), expected.batch, device),
            logits: floats(&io).remove("logits").expect("io.safetensors has the logits"),
            grads: grads.exists().then(|| floats(&grads)),
            expected,
        }
    }

    /// The losses before each of five steps and after the last, and the weights then.
    fn train(&self, rule: impl Fn(&str) -> (Box<dyn DynOptimizer>, f64)) -> (Vec<f64>, Values) {
        let (mut model, mut trainer, mut losses) = (self.model.clone(), Trainer::new(rule), vec![]);
        for _ in 0..5 {
            let (loss, grads) = backward(&model, &self.inputs, &self.targets);
            losses.push(f64::from(loss));
            model = trainer.step(model, grads);
        }
        let (loss, _) = backward(&model, &self.inputs, &self.targets);
        losses.push(f64::from(loss));
        (losses, weights(&model))
    }

    fn compare_training(
        &self,
        what: &str,
        (losses, after): (Vec<f64>, Values),
        expected: &Training,
    ) {
        let pairs = losses.iter().zip(&expected.losses);
        let worst =
            pairs.map(|(measured, expected)| (measured - expected).abs()).fold(0.0, f64::max);
        let norms = self.worst_norm(&after, &expected.weight_norms_after_5);
        eprintln!(
            "{}: {what}: losses {worst:.1e} apart, weight norms {norms:.1e} (relative)",
            self.name
        );
        assert_eq!(losses.len(), expected.losses.len());
        assert!(worst < 1e-4, "{}: {what}: {losses:?}, expected {:?}", self.name, expected.losses);
        assert!(norms < 1e-4, "{}: {what}: the weight norms are {norms:e} apart", self.name);
    }

    /// The largest relative distance of the norms of `values` from those expected.
    fn worst_norm(&self, values: &Values, expected: &BTreeMap<String, f64>) -> f64 {
        let names: Vec<_> = values.keys().collect();
        assert_eq!(names, expected.keys().collect::<Vec<_>>(), "{}", self.name);
        let pairs = values.iter().map(|(name, values)| (norm(values), expected[name]));
        pairs.map(|(measured, expected)| relative(measured, expected)).fold(0.0, f64::max)
    }
}

fn tensors<T>(path: &Path, read: impl FnOnce(&SafeTensors<'_>) -> T) -> T {
    let bytes = fs::read(path).expect("the file of a variant can be read");
    read(&SafeTensors::deserialize(&bytes).expect("the file is a safetensors file"))
}

/// Every float32 tensor of a file.
fn floats(path: &Path) -> Values {
    tensors(path, |file| {
        let tensors = file.iter().filter(|(_, view)| view.dtype() == Dtype::F32);
        let values = |data: &[u8]| {
            let (numbers, _) = data.as_chunks::<4>();
            numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        tensors.map(|(name, view)| (name.to_owned(), values(view.data()))).collect()
    })
}

/// The int64 tensor of this name.
fn integers(path: &Path, name: &str) -> Vec<i32> {
    tensors(path, |file| {
        let view = file.tensor(name).expect("io.safetensors has the ids");
        let (numbers, _) = view.data().as_chunks::<8>();
        let numbers = numbers.iter().map(|bytes| i64::from_le_bytes(*bytes));
        numbers.map(|id| i32::try_from(id).expect("ids are small")).collect()
    })
}

/// Runs `check` on every variant, or says that there is none.
fn each_variant(check: impl Fn(&Variant)) {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let root =
        std::env::var_os("BDH_FIXTURES").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let root = root.join("nanochat");
    let Ok(entries) = fs::read_dir(&root) else {
        eprintln!(
            "skipped: no nanochat fixtures in {}; set BDH_FIXTURES to their folder",
            root.display()
        );
        return;
    };
    let mut folders: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|folder| folder.join("expected.json").exists());
    folders.sort();
    assert!(!folders.is_empty(), "{} has no variant", root.display());
    let device = Device::flex().autodiff();
    for folder in folders {
        check(&Variant::read(&folder, &device));
    }
}

#[test]
fn weights_take_the_place_and_the_norm_of_the_originals() {
    each_variant(|variant| {
        let weights = weights(&variant.model);
        let count: usize = weights.values().map(Vec::len).sum();
        assert_eq!(count, variant.expected.n_params);
        assert_eq!(variant.expected.config.num_params().total(), variant.expected.n_params);
        assert!(variant.worst_norm(&weights, &variant.expected.weight_norms) < 1e-9);
    });
}

#[test]
fn logits_and_loss_are_those_of_the_original() {
    each_variant(|variant| {
        let logits = variant.model.logits(variant.inputs.clone(), &Probe::off());
        let logits: Vec<f32> = logits.into_data().try_to_vec().expect("the CPU computes in f32");
        assert_eq!(logits.len(), variant.logits.len());
        let pairs = logits.iter().zip(&variant.logits);
        let worst =
            pairs.map(|(measured, expected)| (measured - expected).abs()).fold(0.0, f32::max);
        let loss =
            support::loss(&variant.model, &variant.inputs, &variant.targets).into_scalar::<f32>();
        let loss_error = (f64::from(loss) - variant.expected.loss).abs();
        eprintln!("{}: logits {worst:.1e} apart, loss {loss_error:.1e}", variant.name);
        assert!(worst < 1e-5, "{}: logits are {worst:e} apart", variant.name);
        assert!(
            loss_error < 1e-5,
            "{}: loss {loss}, expected {}",
            variant.name,
            variant.expected.loss
        );
    });
}

#[test]
fn gradients_are_those_of_the_original() {
    each_variant(|variant| {
        let (_, grads) = backward(&variant.model, &variant.inputs, &variant.targets);
        let grads = gradients(&variant.model, &grads);
        let norms = variant.worst_norm(&grads, &variant.expected.grad_norms);
        eprintln!("{}: gradient norms {norms:.1e} apart (relative)", variant.name);
        // `backout_lambda` has a gradient of many terms that nearly cancel: in float32, PyTorch's is 1.3e-4
        // from its own in float64.
        let tolerance =
            (2.0 * variant.expected.float32_noise.vs_float64.grad_norm_max_rel).max(1e-4);
        assert!(norms < tolerance, "{}: the gradient norms are {norms:e} apart", variant.name);
        for (name, expected) in variant.grads.iter().flatten() {
            let pairs = grads[name].iter().zip(expected);
            let apart: Vec<f32> = pairs.map(|(measured, expected)| measured - expected).collect();
            let error = norm(&apart) / norm(expected);
            assert!(
                error < tolerance,
                "{}: the gradient of {name} is {error:e} apart",
                variant.name
            );
            if error > 1e-5 {
                eprintln!("{}: the gradient of {name} is {error:.1e} apart", variant.name);
            }
        }
    });
}

#[test]
fn five_steps_of_adamw_go_where_those_of_the_original_go() {
    each_variant(|variant| {
        let adamw = AdamWConfig::new()
            .with_beta_1(0.9)
            .with_beta_2(0.95)
            .with_epsilon(1e-8)
            .with_weight_decay(0.1);
        let trained = variant.train(|_| (Box::new(adamw.clone().build()), 1e-3));
        variant.compare_training("AdamW", trained, &variant.expected.adamw);
    });
}

#[test]
fn five_steps_of_muon_and_adamw_go_where_those_of_the_original_go() {
    each_variant(|variant| {
        // The defaults of `setup_optimizer`, which the files were made with; training scripts pass others.
        let rates =
            LearningRates { embedding: 0.2, unembedding: 0.004, ..LearningRates::default() };
        let groups = groups(&variant.expected.config, rates, 0.1, None);
        let owner = |name: &str| {
            groups.iter().find(|group| group.owns(name)).expect("a parameter is in a group")
        };
        for original in &variant.expected.muon_adamw.groups {
            for param in &original.params {
                original.assert_same_settings(owner(param), param);
            }
        }
        let trained = variant.train(|name| (owner(name).optimizer(), owner(name).lr));
        variant.compare_training("Muon and AdamW", trained, &variant.expected.muon_adamw);
    });
}
