//! Task for language models: loss, validation metrics, generation.

use super::generate::{self, Vocabulary};
use super::{CausalLm, TokenBatch, loss, score};
use crate::deferred::Deferred;
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::source::Source;
use crate::task::{BatchSize, Task, Totals};
use crate::text::{Generated, Sampling, TextTask, TokenScore};
use burn::tensor::Tensor;
use serde_json::Value;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Next-token prediction, the task of a [`CausalLm`].
///
/// | metric           | value                                                               |
/// |------------------|---------------------------------------------------------------------|
/// | `val/loss`       | nats per token                                                      |
/// | `val/perplexity` | `exp` of the loss                                                   |
/// | `val/accuracy`   | share of tokens that were the model's likeliest prediction          |
/// | `val/bpb`        | bits per byte of text, if [`vocabulary`](Self::vocabulary) is given |
pub struct NextToken<M, S> {
    /// In a `Mutex` because all replicas share the task, which is `Sync`; a source need not be. Only the training
    /// thread locks it.
    source: Mutex<S>,
    val: Vec<TokenBatch>,
    vocabulary: Option<Box<dyn Vocabulary>>,
    /// Number of bytes of text behind each token id; 0 for special tokens.
    token_bytes: Vec<u32>,
    /// The model's type, as a parameter of a function so that the task is `Send` and `Sync` whether or not the model is.
    model: PhantomData<fn(M)>,
}

impl<M, S> fmt::Debug for NextToken<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextToken")
            .field("val_batches", &self.val.len())
            .field("has_vocabulary", &self.vocabulary.is_some())
            .finish_non_exhaustive()
    }
}

impl<M: CausalLm, S: Source<Batch = TokenBatch>> NextToken<M, S> {
    /// Makes a task that trains on batches of `source` and evaluates the batches of `val`; without any, no eval.
    pub fn new(source: S, val: Vec<TokenBatch>) -> Self {
        Self {
            source: Mutex::new(source),
            val,
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

    fn source(&self) -> MutexGuard<'_, S> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn add_bits(&self, batch: &TokenBatch, nats: Tensor<2>, totals: &mut Totals) {
        let mut mask = Vec::with_capacity(batch.tokens());
        let mut bytes = 0.0;
        for &target in batch.targets() {
            let target_bytes = self.bytes_of(target);
            mask.push(if target_bytes > 0 { 1.0 } else { 0.0 });
            bytes += f64::from(target_bytes);
        }
        let mask = Tensor::<1>::from_floats(mask.as_slice(), &nats.device());
        let text_nats = (nats.reshape([-1]) * mask).sum();
        // The mean of a total is its sum over its weight: nats / (bytes * ln 2) is bits per byte.
        totals.add("bpb", text_nats, bytes * std::f64::consts::LN_2);
    }
}

impl<M: CausalLm, S: Source<Batch = TokenBatch>> Task for NextToken<M, S> {
    type Model = M;
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.source
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .next_batch()
    }

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

    fn batch_size(&self) -> Option<BatchSize> {
        self.source().batch_size()
    }

    fn loss(&self, model: &M, batch: &TokenBatch, probe: &Probe<'_>) -> Tensor<1> {
        let device = crate::device::of(model);
        loss::cross_entropy(model.logits(batch.inputs_on(&device), probe), batch)
    }

    fn val_batches(&self) -> &[TokenBatch] {
        &self.val
    }

    fn eval(&self, model: &M, batch: &TokenBatch, totals: &mut Totals) {
        let device = crate::device::of(model);
        let logits = model.logits(batch.inputs_on(&device), &Probe::off());
        let targets = batch.targets_on(&device);
        let counted = batch.num_counted() as f64;
        let hits = loss::hits(logits.clone(), targets.clone());
        let nats = loss::token_nll(logits, targets);
        totals.add("loss", nats.clone().sum(), counted);
        totals.add("accuracy", hits.float().sum(), counted);
        if self.vocabulary.is_some() {
            self.add_bits(batch, nats, totals);
        }
    }

    fn summarize(&self, totals: &Totals) -> Vec<(String, Deferred)> {
        let mut metrics: Vec<_> = totals.means().collect();
        if let Some((_, loss)) = metrics.iter().find(|(name, _)| name == "loss") {
            metrics.push(("perplexity".to_owned(), loss.exp()));
        }
        metrics
    }

    fn metrics(&self) -> Option<Vec<String>> {
        let names: &[&str] = match &self.vocabulary {
            _ if self.val.is_empty() => &[],
            Some(_) => &["loss", "accuracy", "bpb", "perplexity"],
            None => &["loss", "accuracy", "perplexity"],
        };
        Some(names.iter().map(ToString::to_string).collect())
    }

    fn flops_per_token(&self, model: &M) -> Option<f64> {
        model.flops_per_token(self.val.first()?.seq_len())
    }

    fn text(&self) -> Option<&dyn TextTask<M>> {
        Some(self)
    }

    fn position(&self) -> Value {
        self.source().position()
    }

    fn seek(&mut self, position: &Value) -> Result<(), BoxError> {
        self.source
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .seek(position)
    }
}

impl<M: CausalLm, S: Source<Batch = TokenBatch>> TextTask<M> for NextToken<M, S> {
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
