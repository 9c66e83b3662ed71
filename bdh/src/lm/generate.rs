//! Text from a model, one token after the other.

use super::CausalLm;
use crate::{BoxError, Probe, seed};
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::Arc;

/// What token ids mean: a tokenizer, as far as training needs one.
pub trait Vocabulary: Send {
    /// Ids of a text, without the token that begins a document.
    fn encode(&self, text: &str) -> Vec<i32>;

    /// Text of ids; what is not valid UTF-8 is replaced, special tokens are left out.
    fn decode(&self, ids: &[i32]) -> String;

    /// The id that begins a document, if there is one.
    fn bos(&self) -> Option<i32>;

    /// Bytes of text behind each id, `[vocab]`; 0 for special tokens.
    fn token_bytes(&self) -> Vec<u32>;
}

impl<V: Vocabulary + Sync + ?Sized> Vocabulary for Arc<V> {
    fn encode(&self, text: &str) -> Vec<i32> {
        (**self).encode(text)
    }

    fn decode(&self, ids: &[i32]) -> String {
        (**self).decode(ids)
    }

    fn bos(&self) -> Option<i32> {
        (**self).bos()
    }

    fn token_bytes(&self) -> Vec<u32> {
        (**self).token_bytes()
    }
}

/// How text is sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Tokens to add to the prompt.
    pub max_tokens: usize,
    /// 0 takes the likeliest token always; 1 samples from the model's own distribution.
    pub temperature: f64,
    /// Samples among this many likeliest tokens only.
    pub top_k: Option<usize>,
    /// The same seed gives the same text.
    pub seed: u64,
    /// Tokens of context that the model sees at most.
    pub max_context: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { max_tokens: 64, temperature: 0.0, top_k: None, seed: 0, max_context: 256 }
    }
}

/// Continues `prompt`. Recomputes the whole context for each token and reads its logits back, so it
/// costs one device read a token.
pub(super) fn generate<M: CausalLm>(
    model: &M,
    vocabulary: &dyn Vocabulary,
    prompt: &str,
    how: &Sampling,
) -> Result<String, BoxError> {
    let device = crate::device::of(model);
    let mut ids: Vec<i32> = vocabulary.bos().into_iter().collect();
    ids.extend(vocabulary.encode(prompt));
    if ids.is_empty() {
        return Err("a prompt needs at least one token".into());
    }
    let start = ids.len();
    for index in 0..how.max_tokens {
        let context = &ids[ids.len().saturating_sub(how.max_context.max(1))..];
        let tokens = TensorData::new(context.to_vec(), [1, context.len()]);
        let tokens = Tensor::<2, Int>::from_data(tokens, &device);
        let logits = model.logits(tokens, &Probe::off());
        let [_, length, vocab] = logits.dims();
        let last = logits.slice([0..1, length - 1..length, 0..vocab]);
        let last: Vec<f32> = last.try_into_data()?.iter::<f32>().collect();
        let next = pick(&last, how, seed::uniform(how.seed, index as u64));
        if Some(next) == vocabulary.bos() {
            break; // the model ends the document
        }
        ids.push(next);
    }
    Ok(vocabulary.decode(&ids[start..]))
}

/// Picks the id that a draw in `[0, 1)` falls on.
fn pick(logits: &[f32], how: &Sampling, draw: f64) -> i32 {
    let mut ranked: Vec<usize> = (0..logits.len()).collect();
    ranked.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    ranked.truncate(how.top_k.unwrap_or(logits.len()).max(1));
    let best = ranked[0];
    if how.temperature <= 0.0 {
        return best as i32;
    }
    let weight = |id: &usize| (f64::from(logits[*id] - logits[best]) / how.temperature).exp();
    let mut left = draw * ranked.iter().map(weight).sum::<f64>();
    for id in &ranked {
        left -= weight(id);
        if left < 0.0 {
            return *id as i32;
        }
    }
    best as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_picks_tokens_in_proportion_to_their_probability() {
        let logits = [0.7_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()];
        let how = Sampling { temperature: 1.0, ..Sampling::default() };
        let picks = [0.0, 0.69, 0.71, 0.89, 0.91, 0.999].map(|draw| pick(&logits, &how, draw));
        assert_eq!(picks, [0, 0, 1, 1, 2, 2]);
        let how = Sampling { top_k: Some(2), ..how };
        assert_eq!(pick(&logits, &how, 0.999), 1);
        assert_eq!(pick(&logits, &Sampling::default(), 0.999), 0);
    }
}
