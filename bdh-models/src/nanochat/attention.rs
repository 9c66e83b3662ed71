//! Causal self-attention with value embeddings, rotary positions, and normed queries and keys.

use super::config::{GptConfig, VALUE_GATE_CHANNELS};
use super::norm::norm;
use super::rope::Rope;
use crate::init::{Law, Weights};
use crate::layers::through;
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::nn::Linear;
use bdh::burn::tensor::Tensor;
use bdh::burn::tensor::activation::sigmoid;
use bdh::ops::{Mask, attention, widened};

/// nanochat sharpens attention by growing queries and keys alike, after they are normed.
const SHARPNESS: f64 = 1.2;
/// A gate of one half is half of this: value embeddings start at one and a half times their table.
const VALUE_GATE_MAX: f64 = 3.0;

/// Lets each token read those before it.
#[derive(Module, Debug)]
pub struct Attention {
    /// Channels to queries.
    pub c_q: Linear,
    /// Channels to keys.
    pub c_k: Linear,
    /// Channels to values.
    pub c_v: Linear,
    /// What was read, back to channels.
    pub c_proj: Linear,
    /// The first 12 channels to one gate per key head, on layers with a value embedding.
    pub ve_gate: Option<Linear>,
    n_head: usize,
    n_kv_head: usize,
}

impl Attention {
    pub(super) fn new(config: &GptConfig, layer: usize, weights: &Weights<'_>) -> Self {
        let (width, kv_width) = (config.n_embd, config.kv_width());
        let spread = Law::within((3.0 / width as f32).sqrt());
        let linear = |name: &str, shape, law| {
            weights.linear(&format!("transformer.h.{layer}.attn.{name}"), shape, law)
        };
        Self {
            c_q: linear("c_q", [width, width], spread),
            c_k: linear("c_k", [width, kv_width], spread),
            c_v: linear("c_v", [width, kv_width], spread),
            c_proj: linear("c_proj", [width, width], Law::Zero),
            ve_gate: config.has_value_embedding(layer).then(|| {
                linear(
                    "ve_gate",
                    [VALUE_GATE_CHANNELS, config.n_kv_head],
                    Law::Uniform(0.0, 0.02),
                )
            }),
            n_head: config.n_head,
            n_kv_head: config.n_kv_head,
        }
    }

    /// Reads the normed block input `x`, `[batch, seq_len, n_embd]`; what comes back has the same shape.
    ///
    /// `value_embedding` is the layer's own embedding of the tokens, `[batch, seq_len, kv_width]`. The tables
    /// of `rope` must be those of `seq_len` positions.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        value_embedding: Option<Tensor<3>>,
        rope: &Rope,
        mask: &Mask,
    ) -> Tensor<3> {
        let [batch, seq_len, width] = x.dims();
        let head_size = width / self.n_head;
        let heads = |x: Tensor<3>, heads| x.reshape([batch, seq_len, heads, head_size]);

        let queries = heads(through(&self.c_q, x.clone()), self.n_head);
        let keys = heads(through(&self.c_k, x.clone()), self.n_kv_head);
        let mut values = heads(through(&self.c_v, x.clone()), self.n_kv_head);
        if let (Some(gate), Some(embedding)) = (&self.ve_gate, value_embedding) {
            let read = widened(x.narrow(2, 0, VALUE_GATE_CHANNELS));
            let gate = sigmoid(gate.forward(read)) * VALUE_GATE_MAX;
            let gate = gate.cast(values.dtype()).unsqueeze_dim(3);
            values = values + heads(embedding, self.n_kv_head) * gate;
        }

        let scale = SHARPNESS * SHARPNESS / (head_size as f64).sqrt();
        let (queries, keys) = (norm(rope.turn(queries)), norm(rope.turn(keys)));
        let read = attention(queries, keys, values, mask, scale);
        through(&self.c_proj, read.reshape([batch, seq_len, width]))
    }
}
