//! Task for language models: loss, metrics of an eval, generation.

use super::generate::{self, Vocabulary};
use super::{CausalLm, TokenBatch, loss, score};
use crate::failure::BoxError;
use crate::loss_context::LossContext;
use crate::metrics::{Metric, Metrics};
use crate::probe::Probe;
use crate::record::Value;
use crate::task::{BatchSize, Task};
use crate::text::{Generated, Sampling, TextTask, TokenScore};
use burn::tensor::Tensor;
use std::fmt;
use std::marker::PhantomData;

/// Next-token prediction, the task of a [`CausalLm`].
///
/// | metric           | value                                                               |
/// |------------------|---------------------------------------------------------------------|
/// | `val/loss`       | nats per token                                                      |
/// | `val/perplexity` | `exp` of the loss                                                   |
/// | `val/accuracy`   | share of tokens that were the model's likeliest prediction          |
/// | `val/bpb`        | bits per byte of text, if [`vocabulary`](Self::vocabulary) is given |
pub struct NextToken<M> {
    vocabulary: Option<Box<dyn Vocabulary>>,
    /// Number of bytes of text behind each token id; 0 for special tokens.
    token_bytes: Vec<u32>,
    /// The model's type, as a parameter of a function so that the task is `Send` and `Sync` whether or not the model is.
    model: PhantomData<fn(M)>,
}

impl<M> fmt::Debug for NextToken<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextToken")
            .field("has_vocabulary", &self.vocabulary.is_some())
            .finish_non_exhaustive()
    }
}

impl<M: CausalLm> Default for NextToken<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: CausalLm> NextToken<M> {
    /// Makes the task. The data, batches of tokens, is given to the builder of the trainer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            vocabulary: None,
            token_bytes: Vec::new(),
            model: PhantomData,
        }
    }

    /// Sets the vocabulary. With one, evals measure `val/bpb`, and callbacks can generate text.
    #[must_use]
    pub fn vocabulary(self, vocabulary: impl Vocabulary + 'static) -> Self {
        let token_bytes = vocabulary.token_bytes();
        Self {
            vocabulary: Some(Box::new(vocabulary)),
            token_bytes,
            ..self
        }
    }

    /// Returns the number of bytes behind a target; 0 for ignored targets and special tokens.
    fn bytes_of(&self, target: i32) -> u32 {
        match usize::try_from(target) {
            Ok(id) => self.token_bytes.get(id).copied().unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// Adds the loss, `[rows, seq_len]` in nats, of the targets that are text, for bits per byte.
    ///
    /// Source: nanochat's `evaluate_bpb`. Special tokens add neither bits nor bytes.
    fn add_bits(&self, batch: &TokenBatch, nats: Tensor<2>, metrics: &mut Metrics) {
        let mut mask = Vec::with_capacity(batch.tokens());
        let mut bytes = 0.0;
        for &target in batch.targets() {
            let target_bytes = self.bytes_of(target);
            mask.push(if target_bytes > 0 { 1.0 } else { 0.0 });
            bytes += f64::from(target_bytes);
        }
        let mask = Tensor::<1>::from_floats(mask.as_slice(), &nats.device());
        let text_nats = (nats.reshape([-1]) * mask).sum();
        // A mean is its sum over its weight: nats / (bytes * ln 2) is bits per byte.
        metrics.mean("bpb", text_nats, bytes * std::f64::consts::LN_2);
    }
}

impl<M: CausalLm> Task for NextToken<M> {
    type Model = M;
    type Batch = TokenBatch;

    fn check(&self, model: &M, batch: &TokenBatch) -> Result<(), BoxError> {
        if let Some(vocab_size) = model.vocab_size() {
            batch.check(vocab_size)?;
        }
        Ok(())
    }

    fn size(&self, batch: &TokenBatch) -> BatchSize {
        BatchSize {
            samples: batch.rows(),
            tokens: batch.tokens(),
        }
    }

    fn loss(&self, model: &M, batch: &TokenBatch, step: &LossContext<'_>) -> Tensor<1> {
        let device = crate::device::of(model);
        loss::cross_entropy(model.logits(batch.inputs_on(&device), step.probe()), batch)
    }

    fn eval(&self, model: &M, batch: &TokenBatch, metrics: &mut Metrics) {
        let device = crate::device::of(model);
        let logits = model.logits(batch.inputs_on(&device), &Probe::off());
        let targets = batch.targets_on(&device);
        let counted = batch.num_counted() as f64;
        let hits = loss::hits(logits.clone(), targets.clone());
        let nats = loss::token_nll(logits, targets);
        let nats_sum = nats.clone().sum();
        metrics.mean("loss", nats_sum.clone(), counted);
        metrics.mean("accuracy", hits.float().sum(), counted);
        if self.vocabulary.is_some() {
            self.add_bits(batch, nats, metrics);
        }
        metrics.add(Perplexity, nats_sum, counted);
    }

    fn metric_names(&self) -> Option<Vec<String>> {
        let names: &[&str] = match &self.vocabulary {
            Some(_) => &["loss", "accuracy", "bpb", "perplexity"],
            None => &["loss", "accuracy", "perplexity"],
        };
        Some(names.iter().map(ToString::to_string).collect())
    }

    fn flops_per_token(&self, model: &M, batch: &TokenBatch) -> Option<f64> {
        model.flops_per_token(batch.seq_len())
    }

    fn text(&self) -> Option<&dyn TextTask<M>> {
        Some(self)
    }
}

/// The exponential of the mean loss, per token.
struct Perplexity;

impl Metric for Perplexity {
    fn name(&self) -> String {
        "perplexity".to_owned()
    }

    fn compute(&self, nats: &[f64], tokens: f64) -> Result<Vec<(String, Value)>, BoxError> {
        let nats = nats.first().copied().unwrap_or(f64::NAN);
        Ok(vec![(self.name(), Value::Scalar((nats / tokens).exp()))])
    }
}

impl<M: CausalLm> TextTask<M> for NextToken<M> {
    fn generate(
        &self,
        model: &M,
        prompts: &[(&str, Sampling)],
    ) -> Result<Vec<Generated>, BoxError> {
        let vocabulary = self.vocabulary.as_deref().ok_or(
            "the task cannot tokenize prompts: set a vocabulary with `NextToken::vocabulary`",
        )?;
        generate::generate(model, vocabulary, prompts)
    }

    fn score(&self, model: &M, rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
        score::score(model, rows)
    }
}
