//! The three models in bf16 train like in f32, with parameters, gradients and optimizer state in f32.

#[path = "support/micro.rs"]
mod micro;
#[path = "support/parity.rs"]
mod parity;

use bdh::burn::module::{Module, ModuleVisitor, Param};
use bdh::burn::optim::GradientsParams;
use bdh::burn::tensor::{DType, Device, Tensor};
use bdh::cadence::{first, last};
use bdh::lm::{Sampling, TokenBatch, TokenStream, score};
use bdh::ops::Precision;
use bdh::text::TextTask;
use bdh::{CausalLm, MemorySink, NextToken, Probe, TrainerBuilder, checkpoint, load_weights};
use bdh_callbacks::Activations;
use bdh_data::PlainBytes;
use bdh_models::bdh_model::Bdh;
use bdh_models::gpt2::Gpt2;
use bdh_models::nanochat::Gpt;
use micro::{Micro, SEQ_LEN, text};
use parity::Values;
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::path::Path;

const STEPS: u64 = 80;
fn cpu() -> Device {
    bdh::device("cpu").expect("a CPU")
}

/// Model after some steps, with its records.
struct Trained<M> {
    model: M,
    memory: MemorySink,
}

impl<M: Micro> Trained<M> {
    fn new(precision: Precision, run_dir: &Path) -> Self {
        let memory = MemorySink::default();
        let model = M::on(&cpu(), precision);
        let groups = model.groups();
        let run = micro::run(model)
            .steps(STEPS)
            .clip_grad_norm(1.0)
            .eval(last())
            .checkpoint(last())
            .callback(Activations::default().on(first()))
            .sink(memory.clone())
            .run_dir(run_dir);
        let run = groups.into_iter().fold(run, TrainerBuilder::group);
        let model = run
            .build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes")
            .model;
        Self { model, memory }
    }

    fn val_loss(&self) -> f64 {
        self.memory
            .series("val/loss")
            .last()
            .expect("an evaluation")
            .1
    }
}

/// Types of the parameters and of their gradients.
struct Types<'a> {
    gradients: Option<&'a GradientsParams>,
    found: Vec<DType>,
}

impl Types<'_> {
    fn of<M: Module>(model: &M, gradients: Option<&GradientsParams>) -> Vec<DType> {
        let mut types = Types {
            gradients,
            found: Vec::new(),
        };
        model.visit(&mut types);
        types.found
    }
}

impl ModuleVisitor for Types<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(param.val().dtype());
        let gradient = self
            .gradients
            .and_then(|gradients| gradients.get::<D>(param.id));
        self.found.extend(gradient.map(|gradient| gradient.dtype()));
    }
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let apart: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    parity::norm(&apart) / parity::norm(expected)
}

/// Panics unless `found` equals `expected` to the relative tolerance `share`.
fn check(what: &str, found: f64, expected: f64, share: f64) {
    assert!(
        parity::relative(found, expected) < share,
        "{what} is {found}, not {expected}"
    );
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Loss, logits and gradients of one batch.
struct Pass {
    loss: f64,
    logits: Vec<f32>,
    gradients: Values,
}

impl Pass {
    /// Runs the untrained model, or a model with the given weights.
    fn new<M: Micro>(precision: Precision, weights: Option<&Values>) -> Self {
        let model = M::on(&cpu(), precision);
        let model = weights.into_iter().fold(model, parity::load);
        let rows: Vec<_> = text()
            .chunks(SEQ_LEN + 1)
            .take(2)
            .map(<[i32]>::to_vec)
            .collect();
        let (batch, device) = (
            TokenBatch::from_rows(&rows),
            bdh::device("cpu").expect("a CPU"),
        );
        let (inputs, targets) = (batch.inputs_on(&device), batch.targets_on(&device));
        let logits = model.logits(inputs.clone(), &Probe::off());
        assert_eq!(logits.dtype(), DType::F32);
        let (loss, gradients) = parity::backward(&model, &inputs, &targets);
        let types = Types::of(&model, Some(&gradients));
        assert!(types.iter().all(|dtype| *dtype == DType::F32), "{types:?}");
        let gradients = parity::gradients(&model, &gradients);
        Self {
            loss: loss.into(),
            logits: values(logits),
            gradients,
        }
    }
}

/// Compares both precisions with the same weights. Most gradients of an untrained model are 0.
fn check_pass_matches_f32<M: Micro>(weights: Option<&Values>) {
    let [narrow, wide] = [Precision::Bf16, Precision::F32].map(|how| Pass::new::<M>(how, weights));
    check("the loss", narrow.loss, wide.loss, 0.01);
    let apart = relative(&narrow.logits, &wide.logits);
    assert!(
        apart > 1e-4,
        "logits are those of f32, to {apart}: nothing was computed in bf16"
    );
    assert!(apart < 0.012, "logits are {apart} apart");
    assert!(narrow.gradients.keys().eq(wide.gradients.keys()));
    for (name, gradient) in narrow.gradients.iter().filter(|_| weights.is_some()) {
        let apart = relative(gradient, &wide.gradients[name]);
        assert!(apart < 0.06, "the gradient of {name} is {apart} apart");
    }
}

/// Compares training in both precisions, from the first step to a checkpoint.
fn check_training_matches_f32<M: Micro>() {
    check_pass_matches_f32::<M>(None);
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let narrow = Trained::<M>::new(Precision::Bf16, dirs[0].path());
    let wide = Trained::<M>::new(Precision::F32, dirs[1].path());

    let begin = wide.memory.series("train/loss")[0].1;
    assert!(
        wide.val_loss() < 0.7 * begin,
        "{} has learned nothing",
        wide.val_loss()
    );
    check("the last loss", narrow.val_loss(), wide.val_loss(), 0.02);
    check_taps_match_f32(&narrow, &wide);
    check_checkpoint_is_f32(&narrow.model, dirs[0].path());
    check_pass_matches_f32::<M>(Some(&parity::weights(&wide.model)));
}

/// Checks that activations in bf16 have statistics close to those in f32.
fn check_taps_match_f32<M: Micro>(narrow: &Trained<M>, wide: &Trained<M>) {
    let records = wide.memory.records();
    let keys = records
        .iter()
        .flat_map(|record| &record.values)
        .map(|(key, _)| key);
    let rms: Vec<_> = keys
        .filter(|key| key.starts_with("activations/") && key.ends_with("/rms"))
        .filter(|key| wide.memory.series(key)[0].1 > 0.0)
        .collect();
    assert!(rms.len() >= 4, "{rms:?}");
    for key in rms {
        let first = |run: &Trained<M>| run.memory.series(key)[0].1;
        check(key, first(narrow), first(wide), 0.005);
    }
}

fn check_checkpoint_is_f32<M: Micro>(model: &M, run_dir: &Path) {
    let types = Types::of(model, None);
    assert!(types.iter().all(|dtype| *dtype == DType::F32), "{types:?}");
    let checkpoint = checkpoint::latest(&run_dir.join("checkpoints")).expect("a checkpoint");
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = fs::read(checkpoint.join(file)).expect(file);
        let tensors = SafeTensors::deserialize(&bytes).expect(file);
        assert!(tensors.len() > 1, "{file}");
        assert!(
            tensors
                .iter()
                .all(|(_, tensor)| tensor.dtype() == Dtype::F32),
            "{file}"
        );
    }
    let weights = checkpoint.join("model.safetensors");
    let loaded = load_weights(M::on(&cpu(), Precision::F32), weights).expect("weights that fit");
    assert_eq!(parity::weights(&loaded), parity::weights(model));
}

/// Generates and scores texts in both precisions.
fn check_generation_and_scores<M: Micro>() {
    let model = M::on(&cpu(), Precision::Bf16).valid();
    let how = Sampling {
        max_tokens: 8,
        max_context: SEQ_LEN,
        ..Sampling::default()
    };
    let texts = NextToken::<M>::new()
        .vocabulary(PlainBytes)
        .generate(&model, &[("to be", how.clone()), ("s", how)]);
    let texts = texts.expect("texts");
    assert!(
        texts
            .iter()
            .all(|text| text.log_probs.iter().all(|log| log.is_finite()))
    );
    let row = &text()[..SEQ_LEN];
    let narrow = &score(&model, &[row]).expect("scores")[0];
    let wide = &score(&M::on(&cpu(), Precision::F32), &[row]).expect("scores")[0];
    assert_eq!((narrow.len(), wide.len()), (SEQ_LEN - 1, SEQ_LEN - 1));
    for (narrow, wide) in narrow.iter().zip(wide) {
        check("a token's loss", narrow.nats.into(), wide.nats.into(), 0.01);
    }
}

#[test]
fn gpt_2_in_bf16_trains_like_in_f32() {
    check_training_matches_f32::<Gpt2>();
}

#[test]
fn nanochat_in_bf16_trains_like_in_f32() {
    check_training_matches_f32::<Gpt>();
}

#[test]
fn bdh_in_bf16_trains_like_in_f32() {
    check_training_matches_f32::<Bdh>();
}

#[test]
fn all_models_generate_and_score_text_in_bf16() {
    check_generation_and_scores::<Gpt2>();
    check_generation_and_scores::<Gpt>();
    check_generation_and_scores::<Bdh>();
}

#[test]
fn bdh_in_bf16_reads_token_by_token_like_the_whole_text() {
    const TOKENS: usize = 1_000;
    let narrow = Bdh::on(&cpu(), Precision::Bf16).valid();
    let wide = Bdh::on(&cpu(), Precision::F32).valid();
    let text = &text()[..TOKENS];
    let mut stream = narrow.recurrent();
    let last = text
        .iter()
        .map(|token| stream.read(*token))
        .last()
        .expect("logits");
    let device = bdh::device("cpu").expect("a CPU").inner();
    let expected = wide.logits(parity::ids(text.to_vec(), 1, &device), &Probe::off());
    let expected = expected.narrow(1, TOKENS - 1, 1).flatten::<1>(0, 2);
    let apart = relative(&values(last), &values(expected));
    assert!(
        apart < 0.01,
        "after {TOKENS} tokens, logits are {apart} apart"
    );
}

#[test]
fn stream_weights_have_more_digits_than_bf16() {
    let model = Gpt::on(&cpu(), Precision::Bf16).valid();
    let mut weights = parity::weights(&model);
    for values in weights.values_mut() {
        // With the zeros of the untrained model, the streams would all be the same.
        values
            .iter_mut()
            .enumerate()
            .for_each(|(k, value)| *value += 0.1 * (0.37 * k as f32).sin());
    }
    let device = bdh::device("cpu").expect("a CPU").inner();
    let tokens = parity::ids(text()[..SEQ_LEN].to_vec(), 1, &device);
    for name in ["backout_lambda", "resid_lambdas", "x0_lambdas"] {
        // Both are 0.20019531 in bf16.
        let [one, other] = [0.2001, 0.2003].map(|weight| {
            let mut weights = weights.clone();
            weights.get_mut(name).expect("a parameter").fill(weight);
            values(parity::load(model.clone(), &weights).logits(tokens.clone(), &Probe::off()))
        });
        assert_ne!(one, other, "{name}");
    }
}
