//! Models compared with files of their originals: one folder for each variant, below the model's name.
//!
//! The folder is `BDH_FIXTURES`, or `../shared/fixtures` next to the workspace. If it is missing, the tests are skipped
//! with a message.
#![allow(dead_code, reason = "each test uses its part of it")]

use crate::parity::{Trainer, Values, backward, gradients, ids, loss, norm, relative, weights};
use bdh::burn::optim::DynOptimizer;
use bdh::burn::tensor::{Device, Int, Tensor};
use bdh::ops::AdamW;
use bdh::{CausalLm, Probe, load_weights_except};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Model with fixtures.
pub(crate) trait Original: CausalLm {
    /// Name of the model's folder.
    const FOLDER: &'static str;

    /// Tensors in its files that are not parameters.
    const BUFFERS: &'static [&'static str] = &[];

    /// Builds the model of these settings, with any weights, and counts its parameters from the settings.
    fn build(config: Value, device: &Device) -> (Self, usize);
}

/// Part of a variant's `expected.json` that is compared.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) config: Value,
    #[serde(rename = "B")]
    batch: usize,
    n_params: usize,
    loss: f64,
    weight_norms: BTreeMap<String, f64>,
    grad_norms: BTreeMap<String, f64>,
    adamw: Training,
    #[serde(default)]
    pub(crate) muon_adamw: Training,
    #[serde(default)]
    pub(crate) adamw_decay_2d_only: Training,
    float32_noise: Noise,
}

/// Differences of the original between float32 and float64.
#[derive(Deserialize)]
struct Noise {
    vs_float64: NoiseVsFloat64,
}

#[derive(Deserialize)]
struct NoiseVsFloat64 {
    grad_norm_max_rel: f64,
    adamw_losses_abs_by_step: Vec<f64>,
}

/// Five steps of the original, with the resulting losses and weights.
#[derive(Deserialize, Default)]
pub(crate) struct Training {
    #[serde(rename = "losses_before_each_step_then_after")]
    pub(crate) losses: Vec<f64>,
    #[serde(default)]
    weight_norms_after_5: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) groups: Vec<TorchGroup>,
}

/// Parameter group of PyTorch's optimizer.
#[derive(Deserialize)]
pub(crate) struct TorchGroup {
    pub(crate) lr: f64,
    pub(crate) betas: Option<[f64; 2]>,
    pub(crate) weight_decay: f64,
    pub(crate) params: Vec<String>,
}

/// Variant with its model and its batch on a device.
pub(crate) struct Variant<M> {
    name: String,
    pub(crate) expected: Expected,
    pub(crate) model: M,
    params: usize,
    pub(crate) inputs: Tensor<2, Int>,
    pub(crate) targets: Tensor<2, Int>,
    logits: Vec<f32>,
    grads: Option<Values>,
}

impl<M: Original> Variant<M> {
    fn read(folder: &Path, device: &Device) -> Self {
        let expected =
            fs::read(folder.join("expected.json")).expect("a variant has an expected.json");
        let expected: Expected =
            serde_json::from_slice(&expected).expect("expected.json has the known form");
        let (model, params) = M::build(expected.config.clone(), device);
        let given = folder.join("weights.safetensors");
        let (io, grads) = (
            folder.join("io.safetensors"),
            folder.join("grads.safetensors"),
        );
        Self {
            name: folder
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            model: load_weights_except(model, given, M::BUFFERS).expect("the original's weights"),
            params,
            inputs: ids(integers(&io, "idx"), expected.batch, device),
            targets: ids(integers(&io, "targets"), expected.batch, device),
            logits: floats(&io)
                .remove("logits")
                .expect("io.safetensors has the logits"),
            grads: grads.exists().then(|| floats(&grads)),
            expected,
        }
    }

    /// Compares the number, names and norms of the parameters.
    pub(crate) fn compare_weights(&self) {
        let weights = weights(&self.model);
        let count: usize = weights.values().map(Vec::len).sum();
        assert_eq!(count, self.expected.n_params);
        assert_eq!(self.params, self.expected.n_params);
        assert!(self.worst_norm(&weights, &self.expected.weight_norms) < 1e-9);
    }

    /// Compares logits and loss, with a tolerance of 1e-5.
    pub(crate) fn compare_logits(&self) {
        let logits = self.model.logits(self.inputs.clone(), &Probe::off());
        let logits: Vec<f32> = logits
            .into_data()
            .try_to_vec()
            .expect("the CPU computes in f32");
        assert_eq!(logits.len(), self.logits.len());
        let pairs = logits.iter().zip(&self.logits);
        let worst = pairs
            .map(|(measured, expected)| (measured - expected).abs())
            .fold(0.0, f32::max);
        let loss = loss(&self.model, &self.inputs, &self.targets).into_scalar::<f32>();
        let loss_error = (f64::from(loss) - self.expected.loss).abs();
        eprintln!(
            "{}: logits {worst:.1e} apart, loss {loss_error:.1e}",
            self.name
        );
        assert!(worst < 1e-5, "{}: logits are {worst:e} apart", self.name);
        assert!(
            loss_error < 1e-5,
            "{}: loss {loss}, not {}",
            self.name,
            self.expected.loss
        );
    }

    /// Compares gradients, with a tolerance of 1e-4.
    pub(crate) fn compare_gradients(&self) {
        let (_, grads) = backward(&self.model, &self.inputs, &self.targets);
        let grads = gradients(&self.model, &grads);
        let norms = self.worst_norm(&grads, &self.expected.grad_norms);
        eprintln!("{}: gradient norms {norms:.1e} apart (relative)", self.name);
        // The gradient of nanochat's `backout_lambda` sums many terms that nearly cancel: PyTorch's own in float32
        // and float64 differ by 1.3e-4.
        let tolerance = (2.0 * self.expected.float32_noise.vs_float64.grad_norm_max_rel).max(1e-4);
        assert!(
            norms < tolerance,
            "{}: the gradient norms are {norms:e} apart",
            self.name
        );
        let mut worst = 0_f64;
        for (name, expected) in self.grads.iter().flatten() {
            let pairs = grads[name].iter().zip(expected);
            let apart: Vec<f32> = pairs
                .map(|(measured, expected)| measured - expected)
                .collect();
            let error = norm(&apart) / norm(expected);
            assert!(
                error < tolerance,
                "{}: the gradient of {name} is {error:e} apart",
                self.name
            );
            worst = worst.max(error);
        }
        eprintln!("{}: gradients {worst:.1e} apart (relative)", self.name);
    }

    /// Compares five steps of AdamW on all parameters.
    pub(crate) fn compare_adamw(&self) {
        let trained = self.train(|_| (Box::new(adamw(0.1)), 1e-3));
        self.compare_training("AdamW", trained, &self.expected.adamw);
    }

    /// Trains five steps. Returns the losses before each step and after the last one, and the final weights.
    pub(crate) fn train(
        &self,
        rule: impl Fn(&str) -> (Box<dyn DynOptimizer>, f64),
    ) -> (Vec<f64>, Values) {
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

    pub(crate) fn compare_training(
        &self,
        what: &str,
        (losses, after): (Vec<f64>, Values),
        expected: &Training,
    ) {
        assert_eq!(losses.len(), expected.losses.len());
        let noise = &self
            .expected
            .float32_noise
            .vs_float64
            .adamw_losses_abs_by_step;
        for (step, (measured, expected)) in losses.iter().zip(&expected.losses).enumerate() {
            let apart = (measured - expected).abs();
            eprintln!("{}: {what}: loss {step} is {apart:.1e} apart", self.name);
            // After five steps BDH's `tiny` differs by 8e-4 between float32 and float64; other models by less than
            // 1e-6.
            let tolerance = (2.0 * noise[step]).max(1e-4);
            assert!(
                apart < tolerance,
                "{}: {what}: loss {measured}, not {expected}",
                self.name
            );
        }
        let norms = self.worst_norm(&after, &expected.weight_norms_after_5);
        eprintln!(
            "{}: {what}: weight norms {norms:.1e} apart (relative)",
            self.name
        );
        assert!(
            norms < 1e-4,
            "{}: {what}: the weight norms are {norms:e} apart",
            self.name
        );
    }

    /// Returns the largest relative error of the norms of `values`.
    fn worst_norm(&self, values: &Values, expected: &BTreeMap<String, f64>) -> f64 {
        let names: Vec<_> = values.keys().collect();
        assert_eq!(names, expected.keys().collect::<Vec<_>>(), "{}", self.name);
        let pairs = values
            .iter()
            .map(|(name, values)| (norm(values), expected[name]));
        pairs
            .map(|(measured, expected)| relative(measured, expected))
            .fold(0.0, f64::max)
    }
}

/// Returns the AdamW that the files were made with.
pub(crate) fn adamw(weight_decay: f64) -> AdamW {
    AdamW {
        betas: (0.9, 0.95),
        epsilon: 1e-8,
        weight_decay,
    }
}

fn tensors<T>(path: &Path, read: impl FnOnce(&SafeTensors<'_>) -> T) -> T {
    let bytes = fs::read(path).expect("the file of a variant can be read");
    read(&SafeTensors::deserialize(&bytes).expect("the file is a safetensors file"))
}

/// Returns every float32 tensor of a file.
fn floats(path: &Path) -> Values {
    tensors(path, |file| {
        let tensors = file.iter().filter(|(_, view)| view.dtype() == Dtype::F32);
        let values = |data: &[u8]| {
            let (numbers, _) = data.as_chunks::<4>();
            numbers
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        };
        tensors
            .map(|(name, view)| (name.to_owned(), values(view.data())))
            .collect()
    })
}

/// Returns the int64 tensor of this name.
fn integers(path: &Path, name: &str) -> Vec<i32> {
    tensors(path, |file| {
        let view = file.tensor(name).expect("io.safetensors has the ids");
        let (numbers, _) = view.data().as_chunks::<8>();
        let numbers = numbers.iter().map(|bytes| i64::from_le_bytes(*bytes));
        numbers
            .map(|id| i32::try_from(id).expect("ids are small"))
            .collect()
    })
}

/// Returns the folders of a model's variants, or none with a message if there are no fixtures.
pub(crate) fn folders(model: &str) -> Vec<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let root =
        std::env::var_os("BDH_FIXTURES").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let root = root.join(model);
    let Ok(entries) = fs::read_dir(&root) else {
        let root = root.display();
        eprintln!("skipped: no {model} fixtures in {root}; set BDH_FIXTURES to their folder");
        return Vec::new();
    };
    let mut folders: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    folders.retain(|folder| folder.join("expected.json").exists());
    folders.sort();
    assert!(!folders.is_empty(), "{} has no variant", root.display());
    folders
}

/// Runs `check` on every variant.
pub(crate) fn each_variant<M: Original>(check: impl Fn(&Variant<M>)) {
    let device = Device::flex().autodiff();
    for folder in folders(M::FOLDER) {
        check(&Variant::read(&folder, &device));
    }
}
