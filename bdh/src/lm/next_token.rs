//! The ready task for language models: loss, validation metrics, generation.

use super::generate::{self, Vocabulary};
use super::{CausalLm, TokenBatch, loss, score};
use crate::deferred::Deferred;
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::source::Source;
use crate::task::{BatchSize, Task, Totals};
use crate::text::{Generated, Sampling, TokenScore};
use burn::tensor::Tensor;
use serde_json::Value;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Trains a [`CausalLm`] to predict each next token.
///
/// | metric           | unit                                                     |
/// |------------------|----------------------------------------------------------|
/// | `val/loss`       | nats per token                                           |
/// | `val/perplexity` | `exp` of the loss                                        |
/// | `val/accuracy`   | share of tokens whose likeliest prediction was right     |
/// | `val/bpb`        | bits per byte of text, if [`vocabulary`](Self::vocabulary) is given |
pub struct NextToken<M, S> {
    /// Never locked by two: batches are drawn by one thread, but all replicas see the task.
    source: Mutex<S>,
    val: Vec<TokenBatch>,
    vocabulary: Option<Box<dyn Vocabulary>>,
    /// Bytes of text behind each token id; 0 for special tokens.
    token_bytes: Vec<u32>,
    model: PhantomData<fn(M)>,
}

impl<M: CausalLm, S: Source<Batch = TokenBatch>> NextToken<M, S> {
    /// A task on training batches from `source`, judged on the batches of `val` (empty for no eval).
    pub fn new(source: S, val: Vec<TokenBatch>) -> Self {
        let source = Mutex::new(source);
        Self {
            source,
            val,
            vocabulary: None,
            token_bytes: Vec::new(),
            model: PhantomData,
        }
    }

    /// Says what the tokens mean in bytes: gives `val/bpb`, and lets callbacks generate text.
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

    /// Bytes behind a target; 0 for ignored and special ones.
    fn bytes_of(&self, target: i32) -> u32 {
        usize::try_from(target)
            .ok()
            .and_then(|id| self.token_bytes.get(id))
            .copied()
            .unwrap_or(0)
    }

    /// Nats and bytes of the targets that stand for text; bits per byte is defined over those.
    ///
    /// Source: nanochat's `evaluate_bpb`: special tokens count on neither side.
    fn add_bits(&self, batch: &TokenBatch, nats: Tensor<2>, totals: &mut Totals) {
        let is_text = |target: &i32| f32::from(u8::from(self.bytes_of(*target) > 0));
        let mask: Vec<f32> = batch.targets().iter().map(is_text).collect();
        let bytes: f64 = batch
            .targets()
            .iter()
            .map(|t| f64::from(self.bytes_of(*t)))
            .sum();
        let mask = Tensor::<1>::from_floats(mask.as_slice(), &nats.device());
        let nats = (nats.reshape([-1]) * mask).sum();
        totals.add("bpb", nats, bytes * std::f64::consts::LN_2);
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
        Ok(model
            .vocab_size()
            .map_or(Ok(()), |vocab_size| batch.check(vocab_size))?)
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

        // An ignored target is −1, which no prediction equals.
        let right = logits
            .clone()
            .argmax(2)
            .squeeze_dim::<2>(2)
            .equal(targets.clone());
        let nats = loss::token_nats(logits, targets);
        totals.add("loss", nats.clone().sum(), counted);
        totals.add("accuracy", right.float().sum(), counted);
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
        let bpb = self.vocabulary.as_ref().map(|_| "bpb");
        let names = ["loss", "accuracy"]
            .into_iter()
            .chain(bpb)
            .chain(["perplexity"]);
        Some(
            names
                .filter(|_| !self.val.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    fn flops_per_token(&self, model: &M) -> Option<f64> {
        model.flops_per_token(self.val.first()?.seq_len())
    }

    fn generate(
        &self,
        model: &M,
        prompts: &[(&str, Sampling)],
    ) -> Option<Result<Vec<Generated>, BoxError>> {
        let vocabulary = self.vocabulary.as_deref()?;
        Some(generate::generate(model, vocabulary, prompts))
    }

    fn score(&self, model: &M, rows: &[&[i32]]) -> Option<Result<Vec<Vec<TokenScore>>, BoxError>> {
        Some(score::score(model, rows))
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
