//! The three models in bf16: with parameters, gradients and optimizer in f32, they go where they go in f32.

#[path = "support/parity.rs"]
mod parity;
#[path = "support/program.rs"]
mod program;

use bdh::burn::module::{Module, ModuleVisitor, Param};
use bdh::burn::optim::GradientsParams;
use bdh::burn::tensor::{DType, Tensor};
use bdh::lm::{RandomCrops, Sampling, TokenBatch, TokenStream, score};
use bdh::ops::{AdamW, Precision};
use bdh::{
    CausalLm, Group, MemorySink, NextToken, Probe, Task, Trainer, TrainerBuilder, constant, first,
    last, latest_checkpoint, load_weights,
};
use bdh_callbacks::Activations;
use bdh_examples::data::{DataSpec, PlainBytes, fixed_crops, stream};
use bdh_examples::gpt2::{self, Gpt2, Gpt2Config};
use bdh_examples::hatchling::{Bdh, BdhConfig};
use bdh_examples::nanochat::{self, Gpt, GptConfig, LearningRates};
use parity::Values;
use program::{Place, contains};
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::path::Path;

const STEPS: u64 = 80;
const SEQ_LEN: usize = 32;
const VOCABULARY: usize = 258;

/// A model that computes in either.
trait Either: CausalLm + Sized {
    fn new(precision: Precision) -> Self;

    /// What moves its parameters.
    fn groups(&self) -> Vec<Group>;
}

impl Either for Gpt2 {
    fn new(precision: Precision) -> Self {
        let config = Gpt2Config::sized(2, 2, 32);
        let config =
            Gpt2Config { vocab_size: VOCABULARY, block_size: SEQ_LEN, precision, ..config };
        config.init(3, &bdh::device("cpu").expect("a CPU")).expect("a model")
    }

    fn groups(&self) -> Vec<Group> {
        gpt2::groups(0.1, constant(3e-3)).into_iter().collect()
    }
}

impl Either for Gpt {
    fn new(precision: Precision) -> Self {
        let config = GptConfig {
            sequence_len: SEQ_LEN,
            vocab_size: VOCABULARY,
            n_layer: 3, // so that the stream that is backed out is not the last
            n_head: 2,
            n_kv_head: 1,
            n_embd: 32,
            precision,
            ..GptConfig::default()
        };
        config.init(3, &bdh::device("cpu").expect("a CPU")).expect("a model")
    }

    fn groups(&self) -> Vec<Group> {
        let groups = nanochat::groups(self.config(), LearningRates::default(), 0.1, None);
        groups.iter().map(|group| group.scheduled(|lr| constant(0.1 * lr))).collect()
    }
}

impl Either for Bdh {
    fn new(precision: Precision) -> Self {
        let config = BdhConfig {
            n_layer: 2,
            n_embd: 32,
            n_head: 2,
            mlp_internal_dim_multiplier: 8,
            vocab_size: VOCABULARY,
            dropout: 0.0, // the masks of f32 are drawn in another way
            precision,
            ..BdhConfig::default()
        };
        config.init(3, &bdh::device("cpu").expect("a CPU")).expect("a model")
    }

    fn groups(&self) -> Vec<Group> {
        vec![Group::new("all", |_| true, AdamW::default(), constant(3e-3))]
    }
}

/// The tokens of the text that the models train on.
fn text() -> Vec<i32> {
    let corpus = DataSpec::Synthetic.load().expect("text that is made here");
    stream(&PlainBytes, &corpus.train)
}

fn task<M: CausalLm>() -> NextToken<M, RandomCrops> {
    let val = fixed_crops(text(), 4, SEQ_LEN, 4).expect("enough text");
    let crops = RandomCrops::new(text(), 4, SEQ_LEN, 3).expect("enough text");
    NextToken::new(crops, val).vocabulary(PlainBytes)
}

/// A model after some steps, and what was recorded.
struct Trained<M> {
    model: M,
    memory: MemorySink,
}

impl<M: Either> Trained<M> {
    fn new(precision: Precision, run_dir: &Path) -> Self {
        let memory = MemorySink::default();
        let model = M::new(precision);
        let groups = model.groups();
        let run = Trainer::builder(task(), model)
            .steps(STEPS)
            .clip_grad_norm(1.0)
            .eval(last())
            .checkpoint(last())
            .callback(Activations::builder().cadence(first()).build().expect("a callback"))
            .sink(memory.clone())
            .run_dir(run_dir);
        let run = groups.into_iter().fold(run, TrainerBuilder::group);
        let model = run.build().expect("a valid run").fit().expect("a run that completes").model;
        Self { model, memory }
    }

    fn val_loss(&self) -> f64 {
        self.memory.series("val/loss").last().expect("an evaluation").1
    }
}

/// The types of the parameters, and of the gradients that there are.
struct Types<'a> {
    gradients: Option<&'a GradientsParams>,
    found: Vec<DType>,
}

impl Types<'_> {
    fn of<M: Module>(model: &M, gradients: Option<&GradientsParams>) -> Vec<DType> {
        let mut types = Types { gradients, found: Vec::new() };
        model.visit(&mut types);
        types.found
    }
}

impl ModuleVisitor for Types<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(param.val().dtype());
        let gradient = self.gradients.and_then(|gradients| gradients.get::<D>(param.id));
        self.found.extend(gradient.map(|gradient| gradient.dtype()));
    }
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let apart: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    parity::norm(&apart) / parity::norm(expected)
}

/// Panics unless `found` is `expected`, to a share of it.
fn check(what: &str, found: f64, expected: f64, share: f64) {
    assert!(parity::relative(found, expected) < share, "{what} is {found}, not {expected}");
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Loss, logits and gradients of a batch.
struct Pass {
    loss: f64,
    logits: Vec<f32>,
    gradients: Values,
}

impl Pass {
    /// Of the untrained model, or of one with the given weights.
    fn new<M: Either>(precision: Precision, weights: Option<&Values>) -> Self {
        let model = M::new(precision);
        let model = weights.into_iter().fold(model, parity::load);
        let rows: Vec<_> = text().chunks(SEQ_LEN + 1).take(2).map(<[i32]>::to_vec).collect();
        let (batch, device) = (TokenBatch::from_rows(&rows), bdh::device("cpu").expect("a CPU"));
        let (inputs, targets) = (batch.inputs_on(&device), batch.targets_on(&device));
        let logits = model.logits(inputs.clone(), &Probe::off());
        assert_eq!(logits.dtype(), DType::F32);
        let (loss, gradients) = parity::backward(&model, &inputs, &targets);
        let types = Types::of(&model, Some(&gradients));
        assert!(types.iter().all(|dtype| *dtype == DType::F32), "{types:?}");
        let gradients = parity::gradients(&model, &gradients);
        Self { loss: loss.into(), logits: values(logits), gradients }
    }
}

/// Passes through models with the same weights, in both precisions. The gradients of an untrained model are largely 0.
fn pass_is_that_of_f32<M: Either>(weights: Option<&Values>) {
    let [narrow, wide] = [Precision::Bf16, Precision::F32].map(|how| Pass::new::<M>(how, weights));
    check("the loss", narrow.loss, wide.loss, 0.01);
    let apart = relative(&narrow.logits, &wide.logits);
    assert!(apart > 1e-4, "logits are those of f32, to {apart}: nothing was computed in bf16");
    assert!(apart < 0.012, "logits are {apart} apart");
    assert!(narrow.gradients.keys().eq(wide.gradients.keys()));
    for (name, gradient) in narrow.gradients.iter().filter(|_| weights.is_some()) {
        let apart = relative(gradient, &wide.gradients[name]);
        assert!(apart < 0.06, "the gradient of {name} is {apart} apart");
    }
}

/// From the first step to a checkpoint.
fn trains_as_in_f32<M: Either>() {
    pass_is_that_of_f32::<M>(None);
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let narrow = Trained::<M>::new(Precision::Bf16, dirs[0].path());
    let wide = Trained::<M>::new(Precision::F32, dirs[1].path());

    let begin = wide.memory.series("train/loss")[0].1;
    assert!(wide.val_loss() < 0.7 * begin, "{} has learned nothing", wide.val_loss());
    check("the last loss", narrow.val_loss(), wide.val_loss(), 0.02);
    shows_what_f32_shows(&narrow, &wide);
    leaves_a_checkpoint_in_f32(&narrow.model, dirs[0].path());
    pass_is_that_of_f32::<M>(Some(&parity::weights(&wide.model)));
}

/// What a probe is shown in bf16 is measured in f32.
fn shows_what_f32_shows<M: Either>(narrow: &Trained<M>, wide: &Trained<M>) {
    let records = wide.memory.records();
    let keys = records.iter().flat_map(|record| &record.values).map(|(key, _)| key);
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

fn leaves_a_checkpoint_in_f32<M: Either>(model: &M, run_dir: &Path) {
    let types = Types::of(model, None);
    assert!(types.iter().all(|dtype| *dtype == DType::F32), "{types:?}");
    let checkpoint = latest_checkpoint(&run_dir.join("checkpoints")).expect("a checkpoint");
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = fs::read(checkpoint.join(file)).expect(file);
        let tensors = SafeTensors::deserialize(&bytes).expect(file);
        assert!(tensors.len() > 1, "{file}");
        assert!(tensors.iter().all(|(_, tensor)| tensor.dtype() == Dtype::F32), "{file}");
    }
    let weights = checkpoint.join("model.safetensors");
    let loaded = load_weights(M::new(Precision::F32), weights).expect("weights that fit");
    assert_eq!(parity::weights(&loaded), parity::weights(model));
}

/// Texts of a model, and what it thinks of texts.
fn writes_and_scores<M: Either>() {
    let model = M::new(Precision::Bf16).valid();
    let how = Sampling { max_tokens: 8, max_context: SEQ_LEN, ..Sampling::default() };
    let texts = task::<M>().generate(&model, &[("to be", how.clone()), ("s", how)]);
    let texts = texts.expect("a vocabulary").expect("texts");
    assert!(texts.iter().all(|text| text.log_probs.iter().all(|log| log.is_finite())));
    let row = &text()[..SEQ_LEN];
    let narrow = &score(&model, &[row]).expect("scores")[0];
    let wide = &score(&M::new(Precision::F32), &[row]).expect("scores")[0];
    assert_eq!((narrow.len(), wide.len()), (SEQ_LEN - 1, SEQ_LEN - 1));
    for (narrow, wide) in narrow.iter().zip(wide) {
        check("a token's loss", narrow.nats.into(), wide.nats.into(), 0.01);
    }
}

#[test]
fn a_gpt_2_trains_as_in_f32() {
    trains_as_in_f32::<Gpt2>();
}

#[test]
fn a_nanochat_trains_as_in_f32() {
    trains_as_in_f32::<Gpt>();
}

#[test]
fn a_bdh_trains_as_in_f32() {
    trains_as_in_f32::<Bdh>();
}

#[test]
fn all_three_write_and_score_texts() {
    writes_and_scores::<Gpt2>();
    writes_and_scores::<Gpt>();
    writes_and_scores::<Bdh>();
}

#[test]
fn a_bdh_reads_token_by_token_what_it_reads_at_once() {
    let (narrow, wide) = (Bdh::new(Precision::Bf16).valid(), Bdh::new(Precision::F32).valid());
    let text = &text()[..300];
    let mut stream = narrow.recurrent();
    let last = text.iter().map(|token| stream.read(*token)).last().expect("logits");
    let device = bdh::device("cpu").expect("a CPU").inner();
    let expected = wide.logits(parity::ids(text.to_vec(), 1, &device), &Probe::off());
    let expected = expected.narrow(1, 299, 1).flatten::<1>(0, 2);
    let apart = relative(&values(last), &values(expected));
    assert!(apart < 0.01, "after 300 tokens, logits are {apart} apart");
}

/// The three programs.
struct Gpt2Histograms;
struct BdhShakespeare;
struct NanochatSweep;

impl program::Name for Gpt2Histograms {
    const NAME: &'static str = "gpt2_histograms";
}

impl program::Name for BdhShakespeare {
    const NAME: &'static str = "bdh_shakespeare";
}

impl program::Name for NanochatSweep {
    const NAME: &'static str = "nanochat_sweep";
}

#[test]
fn the_programs_hand_the_flag_to_their_models() {
    const ALL: &str = "--device cpu --precision bf16 --data text.txt --log_backend none";
    let place = Place::<Gpt2Histograms>::new();
    let words =
        ALL.replace("--log_backend none", "--n_embd 8 --block_size 8 --batch_size 2 --max_steps 2");
    contains(&place.succeeds(&words), &["on cpu in bf16"]);
    assert_eq!(place.json("log/run.json")["config"]["user"]["model"]["precision"], "bf16");

    let place = Place::<BdhShakespeare>::new();
    let words = "--n_layer 1 --n_embd 16 --mlp-internal-dim-multiplier 4 --block_size 16 --max_iters 2 --name a";
    contains(&place.succeeds(&format!("{ALL} {words}")), &["on cpu in bf16"]);
    assert_eq!(place.json("runs/a/run.json")["config"]["user"]["model"]["precision"], "bf16");

    let place = Place::<NanochatSweep>::new();
    let words = "--depth=2 --n-embd-override=64 --max-seq-len=32 --micro-batch=2 --eval-tokens=64 --steps 2 --name a";
    contains(&place.succeeds(&format!("{ALL} {words}")), &["on cpu in bf16"]);
    let config = &place.json("runs/a/run.json")["config"];
    assert_eq!(config["user"]["recipe"]["config"]["precision"], "bf16");
}
