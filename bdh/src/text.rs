//! Text generation and scoring, a capability of tasks whose model is a language model.

use crate::failure::BoxError;
use std::cell::Cell;

/// Settings for sampling text: logits are divided by the temperature, then cut to the `top_k`, then to the `top_p`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Largest number of tokens to add to the prompt. Defaults to 64.
    pub max_tokens: usize,
    /// Temperature: 0, the default, always takes the likeliest token; 1 samples from the model's own distribution.
    pub temperature: f64,
    /// Number of likeliest tokens to sample from. Defaults to all.
    pub top_k: Option<usize>,
    /// Share of the probability, 0 to 1: samples from the fewest likeliest tokens that reach it. Defaults to all
    /// tokens.
    ///
    /// Source: Holtzman et al., 2020, *The Curious Case of Neural Text Degeneration* (arXiv:1904.09751).
    pub top_p: Option<f64>,
    /// Seed of the draws: equal seeds give equal texts. Defaults to 0.
    pub seed: u64,
    /// Largest number of tokens of context that the model sees. Defaults to 256.
    pub max_context: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 64,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            seed: 0,
            max_context: 256,
        }
    }
}

/// A continuation of a prompt, with the probability of each token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    /// Text that was added to the prompt. Bytes that are not valid UTF-8 are written as `\xff`.
    pub text: String,
    /// Ids of the tokens that were added to the prompt.
    pub tokens: Vec<i32>,
    /// Logarithm of each token's probability, in nats, under the model's own distribution: temperature 1, no cuts.
    pub log_probs: Vec<f64>,
}

/// Score of one token of a text, given the tokens before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// Loss of the token, in nats.
    pub nats: f32,
    /// Whether the token is the likeliest one, which greedy sampling would pick.
    pub is_likeliest: bool,
}

/// Generation and scoring of text, by a task whose model is a language model.
///
/// A task offers it through [`Task::text`](crate::Task::text), and callbacks reach it through
/// [`Context::text`](crate::Context::text).
pub trait TextTask<M> {
    /// Continues each prompt with its own sampling, and returns one continuation per prompt, in order.
    ///
    /// A continuation must not depend on the other prompts. One device read per token, for all prompts together, is
    /// counted for the caller in the overhead table.
    ///
    /// # Errors
    ///
    /// If the model cannot continue a prompt, or the device failed.
    fn generate(&self, model: &M, prompts: &[(&str, Sampling)])
    -> Result<Vec<Generated>, BoxError>;

    /// Scores each token of each row of ids, except the first, and returns one list per row, in order.
    ///
    /// A row's scores must not depend on the other rows. One device read, for all rows together, is counted for the
    /// caller in the overhead table.
    ///
    /// # Errors
    ///
    /// If the model does not know an id, or the device failed.
    fn score(&self, model: &M, rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>;
}

/// A [`TextTask`] with its model, independent of their types.
pub(crate) trait TextModel {
    fn generate(&self, prompts: &[(&str, Sampling)]) -> Result<Vec<Generated>, BoxError>;
    fn score(&self, rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>;
}

/// The run's model as a language model, for callbacks. [`Context::text`](crate::Context::text) returns it.
///
/// The overhead table counts the device reads for the callback.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    pub(crate) model: &'a dyn TextModel,
    pub(crate) reads: &'a Cell<u64>,
}

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text").finish_non_exhaustive()
    }
}

impl Text<'_> {
    /// Continues a prompt and returns the text that was added. Costs one device read per token.
    ///
    /// # Errors
    ///
    /// If the task has no vocabulary, the model does not know a token of the prompt, or the device failed.
    pub fn generate(&self, prompt: &str, sampling: &Sampling) -> Result<String, BoxError> {
        Ok(self.sample(prompt, sampling)?.text)
    }

    /// Continues a prompt and returns text, tokens and probabilities. Costs one device read per token.
    ///
    /// # Errors
    ///
    /// If the task has no vocabulary, the model does not know a token of the prompt, or the device failed.
    pub fn sample(&self, prompt: &str, sampling: &Sampling) -> Result<Generated, BoxError> {
        let mut samples = self.sample_all(&[(prompt, sampling.clone())])?;
        Ok(samples.pop().unwrap_or_default()) // `sample_all` returns one for each prompt
    }

    /// Continues several prompts in one batch, each with its own sampling and independent of the others.
    ///
    /// Costs one device read per token of the longest continuation.
    ///
    /// # Errors
    ///
    /// If the task has no vocabulary, the model does not know a token of a prompt, or the device failed.
    pub fn sample_all(&self, prompts: &[(&str, Sampling)]) -> Result<Vec<Generated>, BoxError> {
        let samples = self.model.generate(prompts)?;
        if samples.len() != prompts.len() {
            let (made, asked) = (samples.len(), prompts.len());
            return Err(format!("the task continued {made} of {asked} prompts").into());
        }
        let mut reads = 0;
        for ((_, sampling), sample) in prompts.iter().zip(&samples) {
            // One read per token, and one more to find the end of a text that ends early.
            reads = reads.max(sampling.max_tokens.min(sample.tokens.len() + 1) as u64);
        }
        self.reads.set(self.reads.get() + reads);
        Ok(samples)
    }

    /// Scores rows of token ids: each token of each row, except the first.
    ///
    /// For evaluations, such as choosing the likeliest of four answers. All rows go through the model in one forward
    /// pass and cost one device read. A batch of the training size is known to fit in memory.
    ///
    /// # Errors
    ///
    /// If the model does not know an id, or the device failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::HookResult;
    /// use bdh::hooks::EvalEnd;
    ///
    /// /// Records how much likelier one text is than another, in nats per token.
    /// fn on_eval(ctx: &EvalEnd<'_>, right: &[i32], wrong: &[i32]) -> HookResult {
    ///     let Some(text) = ctx.text() else { return Ok(()) };
    ///     let mut nats = Vec::new();
    ///     for row in text.score(&[right, wrong])? {
    ///         let sum: f64 = row.iter().map(|token| f64::from(token.nats)).sum();
    ///         nats.push(sum / row.len() as f64);
    ///     }
    ///     ctx.log("likelier", nats[1] - nats[0]);
    ///     Ok(())
    /// }
    /// ```
    pub fn score(&self, rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
        let scores = self.model.score(rows);
        // Counted even if it failed. Rows of one token have nothing to score.
        let is_read = rows.iter().any(|row| row.len() > 1);
        self.reads.set(self.reads.get() + u64::from(is_read));
        let scores = scores?;
        if scores.len() != rows.len() {
            let (made, asked) = (scores.len(), rows.len());
            return Err(format!("the task scored {made} of {asked} rows").into());
        }
        Ok(scores)
    }
}
