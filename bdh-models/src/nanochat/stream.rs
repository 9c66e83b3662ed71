//! The model token by token, with a cache of keys and values.

use super::attention::Heads;
use super::gpt::Gpt;
use bdh::Probe;
use bdh::burn::tensor::activation::softmax;
use bdh::burn::tensor::{Int, Tensor, TensorData};
use bdh::lm::TokenStream;
use bdh::ops::{Mask, upcast_f32};
use std::collections::VecDeque;
use std::fmt;

/// Positions of a part of the cache. A new token is added by a copy of the last part only.
const PART: usize = 128;

/// A [`Gpt`] in the middle of a text.
///
/// Reading a token computes the token alone; of the text before, attention reads the cached keys and values.
pub(super) struct Reader<'a> {
    model: &'a Gpt,
    cache: Cache,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("position", &self.cache.position)
            .finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of a text.
    pub(super) fn new(model: &'a Gpt) -> Self {
        let config = model.config();
        let layers = (0..config.n_layer).map(|layer| Past::new(config.window(layer)));
        Self {
            cache: Cache {
                position: 0,
                embedded: None,
                layers: layers.collect(),
            },
            model,
        }
    }

    /// Reads tokens that follow the text so far, and returns the logits after the last one.
    fn advance(&mut self, tokens: &[i32]) -> Tensor<1> {
        let device = self.model.lm_head.weight.device();
        let count = tokens.len();
        let ids = TensorData::new(tokens.to_vec(), [1, count]);
        let ids = Tensor::<2, Int>::from_data(ids, &device);
        let logits = self.model.score(&ids, Some(&mut self.cache), &Probe::off());
        self.cache.position += count;
        logits.narrow(1, count - 1, 1).reshape([-1])
    }
}

impl TokenStream for Reader<'_> {
    fn read(&mut self, token: i32) -> Tensor<1> {
        self.advance(&[token])
    }

    fn read_all(&mut self, tokens: &[i32]) -> Tensor<1> {
        // The first tokens of a text are read at once. In its middle a query would need a mask over the cache.
        if self.cache.position == 0 {
            return self.advance(tokens);
        }
        let (last, before) = tokens.split_last().expect("there is a token to read");
        for token in before {
            self.read(*token);
        }
        self.read(*last)
    }
}

/// State of a text that the model has read.
pub(super) struct Cache {
    /// Number of tokens that were read.
    position: usize,
    /// Embedding of the last token, before the smear, `[1, 1, n_embd]`.
    embedded: Option<Tensor<3>>,
    layers: Vec<Past>,
}

impl Cache {
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn layer(&mut self, layer: usize) -> &mut Past {
        &mut self.layers[layer]
    }

    /// Stores the last of these embeddings, `[1, seq_len, n_embd]`, and returns the one that was stored.
    pub(super) fn replace_embedded(&mut self, x: &Tensor<3>) -> Option<Tensor<3>> {
        let [_, seq_len, _] = x.dims();
        self.embedded.replace(x.clone().narrow(1, seq_len - 1, 1))
    }
}

/// Keys and values of one layer, `[1, seq_len, heads, head_size]` each, as far as its window reaches.
pub(super) struct Past {
    parts: VecDeque<Part>,
    /// Number of positions in all parts.
    count: usize,
    /// Number of earlier tokens that a token sees.
    window: usize,
}

/// Keys and values of successive positions.
struct Part {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl Part {
    fn count(&self) -> usize {
        let [_, count, ..] = self.keys.dims();
        count
    }

    /// Returns the positions from `start` on.
    fn from(&self, start: usize) -> Self {
        let count = self.count() - start;
        Self {
            keys: self.keys.clone().narrow(1, start, count),
            values: self.values.clone().narrow(1, start, count),
        }
    }
}

impl Past {
    fn new(window: usize) -> Self {
        Self {
            parts: VecDeque::new(),
            count: 0,
            window,
        }
    }

    /// Adds keys and values, and returns what the queries read of all that they see.
    pub(super) fn attend(&mut self, heads: Heads, mask: &Mask) -> Tensor<4> {
        let is_first = self.parts.is_empty();
        self.push(Part {
            keys: heads.keys.clone(),
            values: heads.values.clone(),
        });
        if is_first {
            return heads.attend(mask);
        }
        let scale = heads.scale();
        self.read(heads.queries, scale)
    }

    /// Adds positions, and drops those that no later token sees.
    fn push(&mut self, new: Part) {
        self.count += new.count();
        match self.parts.back_mut() {
            Some(last) if last.count() < PART => {
                last.keys = Tensor::cat(vec![last.keys.clone(), new.keys], 1);
                last.values = Tensor::cat(vec![last.values.clone(), new.values], 1);
            }
            _ => self.parts.push_back(new),
        }
        while let Some(first) = self.parts.front()
            && self.count - first.count() > self.window
        {
            self.count -= first.count();
            self.parts.pop_front();
        }
    }

    /// Returns the average of the visible values for one query, `[1, 1, heads, head_size]`.
    fn read(&self, queries: Tensor<4>, scale: f64) -> Tensor<4> {
        let [_, _, heads, head_size] = queries.dims();
        let shared = self.parts[0].keys.dims()[2];
        // Query heads that share a key head are rows of one product.
        let queries = queries.reshape([1, shared, heads / shared, head_size]);
        let mut hidden = self.count.saturating_sub(self.window + 1); // the query sees itself too
        let (mut scores, mut values) = (Vec::new(), Vec::new());
        for part in &self.parts {
            let part = part.from(hidden.min(part.count()));
            hidden = 0; // only the first part reaches out of the window
            scores.push(upcast_f32(
                queries.clone().matmul(part.keys.permute([0, 2, 3, 1])),
            ));
            values.push(part.values.swap_dims(1, 2));
        }
        let weights = softmax(Tensor::cat(scores, 3) * scale, 3);
        weighted_sum(&weights, values).reshape([1, 1, heads, head_size])
    }
}

/// Returns the sum of values, `[1, shared, positions, head_size]` in parts, weighted by `[1, shared, rows, positions]`.
fn weighted_sum(weights: &Tensor<4>, values: Vec<Tensor<4>>) -> Tensor<4> {
    let (mut sum, mut start) = (None, 0);
    for part in values {
        let [_, _, count, _] = part.dims();
        let weights = weights.clone().narrow(3, start, count).cast(part.dtype());
        let read = weights.matmul(part);
        sum = Some(match sum {
            None => read,
            Some(sum) => sum + read,
        });
        start += count;
    }
    sum.expect("the cache has the query's own position")
}
