//! The model itself: one set of weights, gone through once for each layer.

use super::config::BdhConfig;
use super::halves::Halves;
use super::rope::Rope;
use crate::init::{Law, Weights};
use bdh::burn;
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::{Dropout, DropoutConfig, Embedding};
use bdh::burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use bdh::lm::TokenStream;
use bdh::{CausalLm, Probe};

/// Below this no variance is divided by.
const EPSILON: f64 = 1e-5;
/// Tokens that attention takes at a time.
const BLOCK: usize = 64;

/// BDH-GPU, with its parameters under the names of the original.
///
/// A token makes some neurons fire (`x`); they read what was said near tokens at which the same neurons fired, by
/// attention without a softmax, in which a neuron's turned activity is query and key at once; what was read makes
/// neurons fire too (`y`), and where both do, something goes back into the residual stream.
///
/// Source: pathwaycom/bdh, `bdh.py` at 714bc80; Kosowski et al., 2025, *The Dragon Hatchling* (arXiv:2509.26507).
#[derive(Module, Debug)]
pub struct Bdh {
    /// Neurons to channels, `[heads * neurons, n_embd]`.
    pub decoder: Param<Tensor<2>>,
    /// Channels to neurons, `[heads, n_embd, neurons]`.
    pub encoder: Param<Tensor<3>>,
    /// What was read to neurons, `[heads, n_embd, neurons]`.
    pub encoder_v: Param<Tensor<3>>,
    /// Channels to scores, `[n_embd, vocab_size]`.
    pub lm_head: Param<Tensor<2>>,
    /// The token table.
    pub embed: Embedding,
    dropout: Dropout,
    pub(super) rope: Rope,
    #[module(skip)]
    config: BdhConfig,
    block: usize,
}

impl Bdh {
    /// The settings that the model was built with.
    #[must_use]
    pub fn config(&self) -> &BdhConfig {
        &self.config
    }

    /// Attention in blocks of so many tokens instead of 64; the result is the same up to rounding.
    ///
    /// Of the scores between tokens, only those of a block with the blocks before it exist.
    #[must_use]
    pub fn with_block(self, tokens: usize) -> Self {
        Self { block: tokens.max(1), ..self }
    }

    /// The model with the given weights; `config` has passed its checks.
    pub(super) fn new(config: &BdhConfig, weights: &Weights<'_>) -> Self {
        let BdhConfig { n_embd, n_head, vocab_size, .. } = *config;
        let (all, usual) = (config.neurons(), Law::Normal(0.02));
        let encoder = [n_head, n_embd, all / n_head];
        Self {
            decoder: weights.param("decoder", [all, n_embd], usual),
            encoder: weights.param("encoder", encoder, usual),
            encoder_v: weights.param("encoder_v", encoder, usual),
            lm_head: weights.param("lm_head", [n_embd, vocab_size], usual),
            embed: weights.table("embed", [vocab_size, n_embd], usual),
            dropout: DropoutConfig::new(config.dropout).init(),
            rope: Rope::new(0, config.context, all / n_head, weights.device()),
            config: config.clone(),
            block: BLOCK,
        }
    }

    /// The weights of a layer, in halves.
    pub(super) fn layer(&self) -> Layer<'_> {
        Layer {
            encoder: Halves::of_encoder(self.encoder.val()),
            encoder_v: Halves::of_encoder(self.encoder_v.val()),
            decoder: Halves::of_decoder(self.decoder.val(), self.config.n_head),
            dropout: &self.dropout,
        }
    }

    /// The residual stream that enters the first layer, `[batch, tokens, n_embd]`.
    pub(super) fn embedded(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        norm(self.embed.forward(tokens))
    }

    /// Scores of the residual stream, `[batch, tokens, vocab_size]`.
    pub(super) fn scores(&self, x: Tensor<3>) -> Tensor<3> {
        x.matmul(self.lm_head.val().unsqueeze()).cast(FloatDType::F32)
    }
}

impl CausalLm for Bdh {
    /// Scores every next token: `[batch, seq_len]` ids to `[batch, seq_len, vocab_size]` logits.
    ///
    /// Offers for each layer the activity of all neurons: `<layer>.x`, what fires at the token; `<layer>.y`, what fires
    /// at what was read; `<layer>.xy`, their product. Their share of zeros is what sparsity means in a BDH.
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3> {
        let [_, seq_len] = tokens.dims();
        let x = self.embedded(tokens);
        let starts = (0..seq_len).step_by(self.block);
        let blocks = starts.map(|start| (start, self.block.min(seq_len - start)));
        let ropes: Vec<_> = blocks.clone().map(|(start, len)| self.rope.at(start, len)).collect();
        let mut x: Vec<_> = blocks.map(|(start, len)| x.clone().narrow(1, start, len)).collect();

        let (layer, before) =
            (self.layer(), before(self.block.min(seq_len), &self.rope.cos.device()));
        for number in 0..self.config.n_layer {
            let mut shown = Shown::default();
            x = layer.forward(x, &ropes, &before, probe.is_on().then_some(&mut shown));
            shown.offer(number, probe);
        }
        self.scores(Tensor::cat(x, 1))
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.config.vocab_size)
    }

    fn flops_per_token(&self, seq_len: usize) -> Option<f64> {
        Some(self.config.flops_per_token(seq_len))
    }

    fn stream(&self) -> Option<Box<dyn TokenStream + '_>> {
        Some(Box::new(self.recurrent()))
    }
}

/// The weights that every layer shares.
pub(super) struct Layer<'a> {
    pub(super) encoder: Halves<3>,
    pub(super) encoder_v: Halves<3>,
    pub(super) decoder: Halves<3>,
    pub(super) dropout: &'a Dropout,
}

impl Layer<'_> {
    /// Takes the residual stream through a layer, block by block: each is `[batch, tokens, n_embd]`.
    fn forward(
        &self,
        blocks: Vec<Tensor<3>>,
        ropes: &[Rope],
        before: &Tensor<4>,
        mut shown: Option<&mut Shown>,
    ) -> Vec<Tensor<3>> {
        let mut keys = Vec::with_capacity(blocks.len());
        let mut after = Vec::with_capacity(blocks.len());
        for (x, rope) in blocks.into_iter().zip(ropes) {
            let [batch, tokens, width] = x.dims();
            let firing = self.encoder.firing(&x.clone().reshape([1, batch * tokens, width]));
            let by_row = |half: Tensor<3>| {
                let [heads, _, neurons] = half.dims();
                half.reshape([heads, batch, tokens, neurons])
            };
            keys.push((firing.clone().map(by_row).turned(rope), x.clone().unsqueeze::<4>()));
            let read = norm(read(&keys, before));
            let [heads, ..] = read.dims();
            let read_firing = self.encoder_v.firing(&read.reshape([heads, batch * tokens, width]));
            let both = firing.clone().gated(read_firing.clone(), self.dropout);
            if let Some(shown) = shown.as_deref_mut() {
                shown.add([&firing, &read_firing, &both]);
            }
            let y = norm(self.decoder.decode(both)).reshape([batch, tokens, width]);
            after.push(norm(x + y));
        }
        after
    }
}

/// What the last block of `keys` reads: `tril(R Rᵀ, −1) x`, `[heads, batch, tokens, n_embd]`.
///
/// Each block is the turned activity, `[heads, batch, tokens, neurons / 2]` twice, and the stream,
/// `[1, batch, tokens, n_embd]`.
fn read(keys: &[(Halves<4>, Tensor<4>)], before: &Tensor<4>) -> Tensor<4> {
    let (queries, own) = keys.last().expect("the block that reads is one of them");
    let scores = |keys: &Halves<4>| {
        queries.clone().product(keys.clone(), |queries, keys| queries.matmul(keys.swap_dims(2, 3)))
    };
    let [_, _, tokens, _] = own.dims();
    let before = before.clone().narrow(2, 0, tokens).narrow(3, 0, tokens);
    let within = (scores(queries) * before).matmul(own.clone());
    let earlier = keys[..keys.len() - 1].iter();
    earlier.fold(within, |sum, (keys, x)| sum + scores(keys).matmul(x.clone()))
}

/// One where a key is before a query, 0 at its own place and after: `[1, 1, len, len]`.
fn before(len: usize, device: &Device) -> Tensor<4> {
    let rows = (0..len).flat_map(|query| (0..len).map(move |key| f32::from(u8::from(key < query))));
    Tensor::from_data(TensorData::new(rows.collect::<Vec<_>>(), [1, 1, len, len]), device)
}

/// Layer normalisation without weights. Where nothing was read it leaves zeros: the variance has a floor.
pub(super) fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let x = x.clone() - x.mean_dim(D - 1);
    let scale = (x.clone().square().mean_dim(D - 1) + EPSILON).sqrt().recip();
    x * scale
}

/// Activities of a layer, gathered over its blocks: `x`, `y` and `xy`, with a row for each token.
#[derive(Default)]
struct Shown([Vec<Tensor<2>>; 3]);

impl Shown {
    fn add(&mut self, activities: [&Halves<3>; 3]) {
        for (rows, activity) in self.0.iter_mut().zip(activities) {
            rows.push(activity.by_token());
        }
    }

    fn offer(self, layer: usize, probe: &Probe<'_>) {
        for (name, rows) in ["x", "y", "xy"].into_iter().zip(self.0) {
            if !rows.is_empty() {
                probe.tap(format_args!("{layer}.{name}"), &Tensor::cat(rows, 0));
            }
        }
    }
}
