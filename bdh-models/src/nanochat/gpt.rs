//! The model: tables, blocks, and the shortcuts around them.

use super::block::{Block, BlockInputs};
use super::config::{GptConfig, NanochatVersion, SMEAR_GATE_CHANNELS};
use super::mask::Masks;
use super::norm::norm;
use super::rope::Rope;
use super::stream::{Cache, Reader};
use crate::init::{Law, Weights};
use crate::layers::apply_linear;
use bdh::burn;
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::{Embedding, Linear};
use bdh::burn::tensor::activation::sigmoid;
use bdh::burn::tensor::{Device, FloatDType, Int, Tensor};
use bdh::lm::TokenStream;
use bdh::ops::{residual_mix, soft_cap, upcast_f32};
use bdh::{CausalLm, Probe};

/// Bound of the soft cap on logits, in both directions. Source: nanochat.
const SOFT_CAP: f64 = 15.0;

/// nanochat's GPT, with its parameters under the names of the original.
///
/// On top of a plain pre-norm Transformer: rotary positions, normed queries and keys, squared ReLU, value
/// embeddings on every other layer, a smear of each token into the next, learned weights for the residual
/// stream and for the embedded token in it, and a backout of the middle layer's stream before the head.
///
/// Source: karpathy/nanochat, `nanochat/gpt.py` at 92d63d4.
#[derive(Module, Debug)]
pub struct Gpt {
    /// The token table and the blocks.
    pub transformer: Transformer,
    /// Channels to one logit per token of the padded vocabulary.
    pub lm_head: Linear,
    /// Weight of the residual stream at the input of each block, `[n_layer]`.
    pub resid_lambdas: Param<Tensor<1>>,
    /// Weight of the embedded token at the input of each block, `[n_layer]`.
    pub x0_lambdas: Param<Tensor<1>>,
    /// The first 24 channels of a token to the gate of its smear; `None` in nanochat's next version.
    pub smear_gate: Option<Linear>,
    /// Weight of the previous token, `[1]`; `None` in nanochat's next version.
    pub smear_lambda: Option<Param<Tensor<1>>>,
    /// Weight of the middle layer's stream, which is subtracted at the end, `[1]`.
    pub backout_lambda: Param<Tensor<1>>,
    /// Value embedding of each layer. Layers without one are `None`, so that parameter names contain the layer's
    /// number.
    pub value_embeds: Vec<Option<Embedding>>,
    rope: Rope,
    masks: Masks,
    #[module(skip)]
    config: GptConfig,
}

/// The part of a [`Gpt`] that nanochat keeps under `transformer`.
#[derive(Module, Debug)]
pub struct Transformer {
    /// The token table.
    pub wte: Embedding,
    /// The layers, first to last.
    pub h: Vec<Block>,
}

impl Gpt {
    /// Returns the settings that the model was built with.
    #[must_use]
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Draws the model's weights from `seed`; `config` has passed its checks.
    pub(super) fn draw(config: &GptConfig, seed: u64, device: &Device) -> Self {
        let weights = Weights::new(seed, device);
        let (vocab, width) = (config.padded_vocab(), config.n_embd);
        Self {
            transformer: Transformer::draw(config, &weights),
            lm_head: weights.linear("lm_head", [width, vocab], Law::Normal(0.001)),
            resid_lambdas: weights.vector(ramp(config.n_layer, 1.15, 1.05)),
            x0_lambdas: weights.vector(ramp(config.n_layer, 0.20, 0.05)),
            smear_gate: config.has_smear().then(|| draw_smear_gate(&weights)),
            smear_lambda: config.has_smear().then(|| weights.vector(vec![0.0])),
            backout_lambda: weights.vector(vec![0.2]),
            value_embeds: draw_value_embeds(config, &weights),
            rope: Rope::new(config.max_context(), config.head_size(), device),
            masks: Masks::new(config, device),
            config: config.clone(),
        }
    }

    /// Returns the residual stream that enters the blocks, `[batch, seq_len, n_embd]`.
    ///
    /// `cache` has the token before the first one, and gets the last one.
    fn embed(&self, tokens: Tensor<2, Int>, cache: Option<&mut Cache>) -> Tensor<3> {
        let x = norm(self.transformer.wte.forward(tokens));
        let x = self.config.precision.cast(x);
        let before = match cache {
            Some(cache) => cache.replace_embedded(&x),
            None => None,
        };
        self.smear(x, before)
    }

    /// Adds a little of each token to the next one; `before` is the token before the first one, `[batch, 1, n_embd]`.
    fn smear(&self, x: Tensor<3>, before: Option<Tensor<3>>) -> Tensor<3> {
        let (Some(gate), Some(lambda)) = (&self.smear_gate, &self.smear_lambda) else {
            return x;
        };
        let has_before = before.is_some();
        let x = match before {
            Some(before) => Tensor::cat(vec![before, x], 1),
            None => x,
        };
        let [_, seq_len, _] = x.dims();
        if seq_len == 1 {
            return x;
        }
        let rest = x.clone().narrow(1, 1, seq_len - 1);
        let previous = x.clone().narrow(1, 0, seq_len - 1);
        let read = upcast_f32(rest.clone().narrow(2, 0, SMEAR_GATE_CHANNELS));
        let gate = sigmoid(gate.forward(read)) * lambda.val().unsqueeze();
        let smeared = rest + previous * gate.cast(x.dtype());
        if has_before {
            return smeared;
        }
        Tensor::cat(vec![x.narrow(1, 0, 1), smeared], 1)
    }

    /// Returns the residual stream that leaves the blocks, normed for the head.
    ///
    /// With a `cache`, the tokens continue the text that it has read, and are added to it.
    fn hidden(
        &self,
        tokens: &Tensor<2, Int>,
        mut cache: Option<&mut Cache>,
        probe: &Probe<'_>,
    ) -> Tensor<3> {
        let [_, seq_len] = tokens.dims();
        let start = cache.as_ref().map_or(0, |cache| cache.position());
        let rope = self.rope.narrow(start, seq_len);
        let embedded = self.embed(tokens.clone(), cache.as_deref_mut());
        probe.tap("embed", &embedded);

        let mut x = embedded.clone();
        let mut middle = None;
        for (layer, block) in self.transformer.h.iter().enumerate() {
            let inputs = BlockInputs {
                layer,
                value_embedding: self.value_embedding(layer, tokens),
                rope: &rope,
                mask: self.masks.of(self.config.window(layer)),
                past: cache.as_deref_mut().map(|cache| cache.layer(layer)),
            };
            x = block.forward(self.mix_embedded(layer, x, embedded.clone()), inputs, probe);
            if layer == self.config.n_layer / 2 {
                middle = Some(x.clone());
            }
        }
        let middle = middle.expect("the middle is one of the layers, and there is at least one");
        self.back_out(x, middle)
    }

    /// Returns the logits of every next token, and adds the tokens to the cache if there is one.
    pub(super) fn score(
        &self,
        tokens: &Tensor<2, Int>,
        cache: Option<&mut Cache>,
        probe: &Probe<'_>,
    ) -> Tensor<3> {
        let hidden = self.hidden(tokens, cache, probe);
        self.head(hidden)
    }

    /// Returns the logits of normed positions, `[batch, seq_len, vocab_size]` within ±15, in f32.
    fn head(&self, hidden: Tensor<3>) -> Tensor<3> {
        let logits = apply_linear(&self.lm_head, hidden)
            .narrow(2, 0, self.config.vocab_size)
            .cast(FloatDType::F32);
        soft_cap(logits, SOFT_CAP)
    }

    /// Returns the weighted sum of the residual stream and the embedded tokens that enters a block.
    fn mix_embedded(&self, layer: usize, x: Tensor<3>, embedded: Tensor<3>) -> Tensor<3> {
        let resid_lambda = self.resid_lambdas.val().narrow(0, layer, 1);
        let x0_lambda = self.x0_lambdas.val().narrow(0, layer, 1);
        residual_mix((resid_lambda, x), (x0_lambda, embedded))
    }

    /// Looks up the value embedding of a layer that has one, `[batch, seq_len, kv_width]`.
    fn value_embedding(&self, layer: usize, tokens: &Tensor<2, Int>) -> Option<Tensor<3>> {
        let table = self.value_embeds[layer].as_ref()?;
        Some(self.config.precision.cast(table.forward(tokens.clone())))
    }

    /// Subtracts a share of the middle layer's stream from the last one, and norms the rest.
    fn back_out(&self, x: Tensor<3>, middle: Tensor<3>) -> Tensor<3> {
        // In f32: bf16 has too few digits for the learned weight and for its gradient, a sum over all activations.
        let (x, middle) = (upcast_f32(x), upcast_f32(middle));
        let rest = x - middle * self.backout_lambda.val().unsqueeze();
        self.config.precision.cast(norm(rest))
    }
}

impl CausalLm for Gpt {
    /// Scores every next token: `[batch, seq_len]` ids to `[batch, seq_len, vocab_size]` logits within ±15, in f32.
    ///
    /// Taps `embed`, and for each layer `h.<layer>.attn` (the output of attention), `h.<layer>.mlp` (the hidden
    /// units after the squared ReLU) and `h.<layer>.resid` (the residual stream after the layer).
    ///
    /// # Panics
    ///
    /// If the input is longer than [`GptConfig::max_context`].
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3> {
        let ([_, seq_len], longest) = (tokens.dims(), self.config.max_context());
        assert!(
            seq_len <= longest,
            "an input of {seq_len} tokens is longer than the rotary tables, which have {longest} positions"
        );
        self.score(&tokens, None, probe)
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.config.vocab_size)
    }

    fn max_context(&self) -> Option<usize> {
        Some(self.config.max_context())
    }

    fn stream(&self) -> Option<Box<dyn TokenStream + '_>> {
        Some(Box::new(Reader::new(self)))
    }

    fn flops_per_token(&self, seq_len: usize) -> Option<f64> {
        Some(self.config.flops_per_token(seq_len))
    }
}

impl Transformer {
    fn draw(config: &GptConfig, weights: &Weights<'_>) -> Self {
        let shape = [config.padded_vocab(), config.n_embd];
        let mut h = Vec::with_capacity(config.n_layer);
        for layer in 0..config.n_layer {
            h.push(Block::new(config, layer, weights));
        }
        Self {
            wte: weights.table("transformer.wte", shape, Law::Normal(0.8)),
            h,
        }
    }
}

fn draw_smear_gate(weights: &Weights<'_>) -> Linear {
    let shape = [SMEAR_GATE_CHANNELS, 1];
    weights.linear("smear_gate", shape, Law::Uniform(0.0, 0.02))
}

/// Draws the value embedding of each layer that has one.
fn draw_value_embeds(config: &GptConfig, weights: &Weights<'_>) -> Vec<Option<Embedding>> {
    let shape = [config.padded_vocab(), config.kv_width()];
    let law = match config.version {
        NanochatVersion::Master => Law::within((3.0 / config.n_embd as f32).sqrt()),
        NanochatVersion::Next => Law::Normal(1.0),
    };
    let mut tables = Vec::with_capacity(config.n_layer);
    for layer in 0..config.n_layer {
        let name = format!("value_embeds.{layer}");
        let has_table = config.has_value_embedding(layer);
        tables.push(has_table.then(|| weights.table(&name, shape, law)));
    }
    tables
}

/// Returns `n_layer` values from `first` at the first layer to `last` at the last one, in equal steps.
fn ramp(n_layer: usize, first: f64, last: f64) -> Vec<f32> {
    let steps = n_layer.saturating_sub(1).max(1) as f64;
    (0..n_layer)
        .map(|layer| (first + (last - first) * layer as f64 / steps) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::burn::module::ModuleMapper;
    use bdh::lm::{Sampling, Vocabulary};
    use bdh::text::TextTask;
    use bdh::{NextToken, TokenBatch};

    fn tiny() -> GptConfig {
        GptConfig {
            sequence_len: 8,
            vocab_size: 70,
            n_layer: 3,
            n_head: 2,
            n_kv_head: 1,
            n_embd: 24,
            window_pattern: "L".into(),
            ..GptConfig::default()
        }
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor
            .into_data()
            .try_to_vec()
            .expect("a float tensor holds f32 on the CPU")
    }

    fn tokens(ids: &[i32], device: &Device) -> Tensor<2, Int> {
        let row: Vec<i32> = ids.iter().copied().chain([0]).collect();
        TokenBatch::from_rows(&[row]).inputs_on(device)
    }

    #[test]
    fn count_from_settings_is_the_count_of_the_module() {
        let model = tiny()
            .init(1, &Device::flex())
            .expect("the settings are sound");
        assert_eq!(model.num_params(), tiny().num_params().total());
    }

    #[test]
    fn untrained_model_predicts_all_tokens_about_equally() {
        let device = Device::flex();
        let model = tiny().init(1, &device).expect("the settings are sound");
        let logits = values(model.logits(tokens(&[3, 1, 69], &device), &Probe::off()));
        assert_eq!(logits.len(), 3 * 70);
        assert!(logits.iter().all(|logit| logit.abs() < 0.05));
    }

    #[test]
    fn model_depends_on_its_seed_and_not_on_other_draws() {
        let device = Device::flex();
        let logits = |seed| {
            let model = tiny().init(seed, &device).expect("the settings are sound");
            values(model.logits(tokens(&[3, 1, 4], &device), &Probe::off()))
        };
        device.seed(1);
        let first = logits(5);
        device.seed(2);
        assert_eq!(first, logits(5));
        assert_ne!(first, logits(6));
    }

    /// Mapper that adds a wave to every parameter, because the zeros of an untrained model could hide mistakes.
    struct Shake;

    impl ModuleMapper for Shake {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let (shape, device) = (tensor.dims(), tensor.device());
                let wave =
                    Tensor::arange(0..shape.iter().product::<usize>() as i64, &device).float();
                tensor + (wave * 0.37).sin().reshape(shape) * 0.1
            })
        }
    }

    #[test]
    fn token_sees_earlier_tokens_and_no_later_ones() {
        let device = Device::flex();
        let model = tiny()
            .init(1, &device)
            .expect("the settings are sound")
            .map(&mut Shake);
        let logits = |ids: &[i32]| values(model.logits(tokens(ids, &device), &Probe::off()));
        let first = logits(&[3, 1, 4, 1, 5]);
        assert_eq!(first[..3 * 70], logits(&[3, 1, 4, 9, 9])[..3 * 70]);
        assert_ne!(first[4 * 70..], logits(&[2, 1, 4, 1, 5])[4 * 70..]);
    }

    /// Vocabulary of letters, where `a` begins a document.
    struct Letters;

    impl Vocabulary for Letters {
        fn encode(&self, text: &str) -> Vec<i32> {
            text.bytes().map(|byte| i32::from(byte - b'a')).collect()
        }

        fn decode(&self, ids: &[i32]) -> String {
            ids.iter().map(|id| char::from(b'a' + *id as u8)).collect()
        }

        fn bos(&self) -> Option<i32> {
            Some(0)
        }

        fn token_bytes(&self) -> Vec<u32> {
            vec![1; 26]
        }
    }

    #[test]
    fn batched_generation_equals_one_prompt_at_a_time() {
        let device = Device::flex();
        let config = GptConfig {
            vocab_size: 26,
            window_pattern: "SL".into(),
            ..tiny()
        };
        let model = config
            .init(1, &device)
            .expect("the settings are sound")
            .map(&mut Shake);
        let task = NextToken::<Gpt>::new().vocabulary(Letters);
        // Longer than the context, exactly as long, shorter, and empty; each with its own seed and settings.
        let prompts = ["manyletters", "sevenxx", "go", "", "go"];
        let how = |index: usize| Sampling {
            max_tokens: [40, 3, 30, 20, 30][index],
            temperature: [1.0, 0.0, 1.5, 1.0, 1.5][index],
            seed: 7 + index as u64,
            max_context: 8,
            ..Sampling::default()
        };
        let prompts: Vec<_> = (0..5).map(|index| (prompts[index], how(index))).collect();
        let generate = |some| task.generate(&model, some).expect("texts");
        let together = generate(&prompts);
        let ends_early = |index: usize| together[index].tokens.len() < prompts[index].1.max_tokens;
        assert!(
            (0..5).any(ends_early) && !(0..5).all(ends_early),
            "{together:?}"
        );
        assert_ne!(together[2].text, together[4].text, "the seeds differ");
        for (prompt, sample) in prompts.iter().zip(&together) {
            let alone = generate(std::slice::from_ref(prompt)).remove(0);
            assert_eq!((&sample.text, &sample.tokens), (&alone.text, &alone.tokens));
            for (a, b) in sample.log_probs.iter().zip(&alone.log_probs) {
                assert!((a - b).abs() < 1e-5, "{a} and {b}");
            }
        }
    }

    #[test]
    fn input_may_be_a_single_token() {
        let device = Device::flex();
        let model = tiny()
            .init(1, &device)
            .expect("the settings are sound")
            .map(&mut Shake);
        let alone = values(model.logits(tokens(&[3], &device), &Probe::off()));
        let first = &values(model.logits(tokens(&[3, 1], &device), &Probe::off()))[..70];
        assert!(alone.iter().zip(first).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    #[should_panic(
        expected = "an input of 81 tokens is longer than the rotary tables, which have 80 positions"
    )]
    fn input_longer_than_the_tables_panics() {
        let device = Device::flex();
        let model = tiny().init(1, &device).expect("the settings are sound");
        let _ = model.logits(tokens(&[1; 81], &device), &Probe::off());
    }

    #[test]
    fn tables_follow_the_model_into_and_out_of_training() {
        let (plain, training) = (Device::flex(), Device::flex().autodiff());
        let model = tiny()
            .init(1, &plain)
            .expect("the settings are sound")
            .map(&mut Shake);
        let logits = |model: &Gpt, device| model.logits(tokens(&[3, 1, 4], device), &Probe::off());
        let expected = values(logits(&model, &plain));
        for trained in [model.clone().train(), model.clone().fork(&training)] {
            let scored = logits(&trained, &training);
            assert!(scored.is_autodiff());
            assert_eq!(values(scored), expected);
            assert_eq!(values(logits(&trained.valid(), &plain)), expected);
        }
    }

    #[test]
    fn taps_follow_the_forward_pass() {
        let device = Device::flex();
        let model = tiny().init(1, &device).expect("the settings are sound");
        let taps = std::cell::RefCell::default();
        let _ = model.logits(tokens(&[1, 2], &device), &Probe::into_taps(&taps));
        let taps = taps.into_inner();
        let names: Vec<_> = taps.iter().map(|tap| tap.name.as_str()).collect();
        let expected = "embed h.0.attn h.0.mlp h.0.resid h.1.attn h.1.mlp h.1.resid h.2.attn h.2.mlp h.2.resid";
        assert_eq!(names.join(" "), expected);

        let width = |name: &str| if name.ends_with("mlp") { 4 * 24 } else { 24 };
        assert!(taps.iter().all(|tap| tap.units == width(&tap.name)));
        // Before training the inputs of the squared ReLU are spread around 0, so about half of its outputs are zero.
        let zeros = taps[2].values.clone().equal_elem(0.0).int().float().mean();
        let share = values(zeros)[0];
        assert!((0.3..0.7).contains(&share), "{share}");
    }
}
