//! Text generation, one token after the other.

use super::batch::is_known;
use super::{CausalLm, TokenStream, padded, sampling, values};
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::seed;
use crate::text::{Generated, Sampling};
use burn::tensor::Tensor;
use std::sync::Arc;

/// A tokenizer, as far as training needs one.
pub trait Vocabulary: Send + Sync {
    /// Returns the ids of a text, without the token that begins a document.
    fn encode(&self, text: &str) -> Vec<i32>;

    /// Returns the text of ids. Bytes that are not valid UTF-8 are replaced, special tokens are left out.
    fn decode(&self, ids: &[i32]) -> String;

    /// Returns the bytes of ids, with those that are not valid UTF-8. Defaults to the bytes of
    /// [`decode`](Self::decode).
    fn decode_bytes(&self, ids: &[i32]) -> Vec<u8> {
        self.decode(ids).into_bytes()
    }

    /// Returns the id that begins a document, if the vocabulary has one.
    fn bos(&self) -> Option<i32>;

    /// Returns the number of bytes of text behind each id, `[vocab]`; 0 for special tokens.
    fn token_bytes(&self) -> Vec<u32>;
}

impl<V: Vocabulary + Sync + ?Sized> Vocabulary for Arc<V> {
    fn encode(&self, text: &str) -> Vec<i32> {
        (**self).encode(text)
    }

    fn decode(&self, ids: &[i32]) -> String {
        (**self).decode(ids)
    }

    fn decode_bytes(&self, ids: &[i32]) -> Vec<u8> {
        (**self).decode_bytes(ids)
    }

    fn bos(&self) -> Option<i32> {
        (**self).bos()
    }

    fn token_bytes(&self) -> Vec<u32> {
        (**self).token_bytes()
    }
}

/// Continues all prompts in one batch.
///
/// Each token costs one forward pass over the contexts and one device read, however many prompts there are. For a
/// text that stays within its context, a model with a [stream](CausalLm::stream) reads token by token instead; a
/// longer text would need a stream that forgets the tokens before the context.
///
/// Shorter contexts are padded at their ends, where a causal model does not look, and a row that has ended leaves the
/// batch. A prompt is therefore continued as if it were alone, up to rounding.
pub(super) fn generate<M: CausalLm>(
    model: &M,
    vocabulary: &dyn Vocabulary,
    prompts: &[(&str, Sampling)],
) -> Result<Vec<Generated>, BoxError> {
    let mut rows = Vec::new();
    for (prompt, sampling) in prompts {
        rows.push(Row::new(model, vocabulary, prompt, sampling)?);
    }
    loop {
        let mut open: Vec<_> = rows.iter_mut().filter(|row| row.is_open()).collect();
        if open.is_empty() {
            break;
        }
        let logits = next_logits(model, &mut open)?;
        for (row, logits) in open.iter_mut().zip(logits) {
            row.extend(&logits, vocabulary.bos());
        }
    }
    Ok(rows.into_iter().map(|row| row.finish(vocabulary)).collect())
}

/// A text that is being generated.
struct Row<'a> {
    sampling: &'a Sampling,
    /// Largest number of tokens that the model sees.
    max_context: usize,
    /// Stream in the middle of this text, if the model has streams and the text fits its context.
    stream: Option<Box<dyn TokenStream + 'a>>,
    /// Number of ids that the stream has read.
    read: usize,
    /// Ids of the prompt and of the tokens added so far.
    ids: Vec<i32>,
    /// Number of ids of the prompt.
    start: usize,
    log_probs: Vec<f64>,
    has_ended: bool,
}

impl<'a> Row<'a> {
    fn new<M: CausalLm>(
        model: &'a M,
        vocabulary: &dyn Vocabulary,
        prompt: &str,
        sampling: &'a Sampling,
    ) -> Result<Self, BoxError> {
        let ids = encode(model, vocabulary, prompt)?;
        let start = ids.len();
        let limit = model.max_context().unwrap_or(usize::MAX);
        let max_context = sampling.max_context.min(limit).max(1);
        let fits = start.saturating_add(sampling.max_tokens) <= max_context;
        Ok(Self {
            sampling,
            max_context,
            stream: if fits { model.stream() } else { None },
            read: 0,
            ids,
            start,
            log_probs: Vec::new(),
            has_ended: false,
        })
    }

    /// Reads the new ids of the text and returns the logits of the next token, `[1, vocab]`, if the row has a stream.
    fn read_stream(&mut self) -> Option<Tensor<2>> {
        let stream = self.stream.as_mut()?;
        let logits = stream.read_all(&self.ids[self.read..]);
        self.read = self.ids.len();
        Some(logits.unsqueeze())
    }

    fn is_open(&self) -> bool {
        !self.has_ended && self.log_probs.len() < self.sampling.max_tokens
    }

    /// Returns the ids that the model sees.
    fn context(&self) -> &[i32] {
        &self.ids[self.ids.len().saturating_sub(self.max_context)..]
    }

    /// Adds a token, unless the model begins another document.
    fn extend(&mut self, logits: &[f32], bos: Option<i32>) {
        let draw = seed::uniform(self.sampling.seed, self.log_probs.len() as u64);
        let next = sampling::pick(logits, self.sampling, draw);
        self.has_ended = Some(next) == bos;
        if !self.has_ended {
            self.log_probs.push(sampling::log_prob(logits, next));
            self.ids.push(next);
        }
    }

    fn finish(mut self, vocabulary: &dyn Vocabulary) -> Generated {
        let tokens = self.ids.split_off(self.start);
        let text = escape(&vocabulary.decode_bytes(&tokens));
        Generated {
            text,
            tokens,
            log_probs: self.log_probs,
        }
    }
}

/// Returns the ids of a prompt. Refuses ids that the model does not know: their effect would depend on the device.
fn encode<M: CausalLm>(
    model: &M,
    vocabulary: &dyn Vocabulary,
    prompt: &str,
) -> Result<Vec<i32>, BoxError> {
    let mut ids: Vec<i32> = vocabulary.bos().into_iter().collect();
    ids.extend(vocabulary.encode(prompt));
    if ids.is_empty() {
        return Err("the prompt has no tokens: begin with at least one".into());
    }
    let count = match model.vocab_size() {
        Some(count) => count,
        None => vocabulary.token_bytes().len(),
    };
    check(prompt, &ids, count)?;
    Ok(ids)
}

/// Checks that the ids of a prompt are in a vocabulary of `count` ids.
fn check(prompt: &str, ids: &[i32], count: usize) -> Result<(), BoxError> {
    for &id in ids {
        if !is_known(id, count) {
            let text = format!(
                "the prompt {prompt:?} has id {id}, which is outside the vocabulary of {count}: \
                 use text of the model's own tokenizer, or give the model a larger vocabulary"
            );
            return Err(text.into());
        }
    }
    Ok(())
}

/// Computes the logits of the next token of each text, `[rows][vocab]`, in one device read.
fn next_logits<M: CausalLm>(model: &M, rows: &mut [&mut Row]) -> Result<Vec<Vec<f32>>, BoxError> {
    let mut contexts = Vec::new();
    for row in &*rows {
        if row.stream.is_none() {
            contexts.push(row.context());
        }
    }
    let mut from_contexts = last_logits(model, &contexts).into_iter();
    let mut all = Vec::new();
    for row in rows {
        all.extend(row.read_stream().or_else(|| from_contexts.next()));
    }
    let logits = Tensor::cat(all, 0);
    let vocab = logits.dims()[1];
    let read = values(logits)?;
    Ok(read.chunks(vocab).map(<[f32]>::to_vec).collect())
}

/// Computes the logits after each context, `[1, vocab]` each, in one forward pass over all of them.
fn last_logits<M: CausalLm>(model: &M, contexts: &[&[i32]]) -> Vec<Tensor<2>> {
    let Some(longest) = contexts.iter().map(|context| context.len()).max() else {
        return Vec::new();
    };
    let tokens = padded(contexts, longest, None, &crate::device::of(model));
    let logits = model.logits(tokens, &Probe::off());
    let vocab = logits.dims()[2];
    let mut last = Vec::new();
    for (row, context) in contexts.iter().enumerate() {
        let end = context.len();
        let at_end = logits.clone().slice([row..row + 1, end - 1..end, 0..vocab]);
        last.push(at_end.reshape([1, vocab]));
    }
    last
}

/// Decodes UTF-8, and writes each invalid byte as `\xff`: a character cut in two stays visible.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        text += &chunk.invalid().escape_ascii().to_string();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::tensor::{Device, Int};

    /// Predicts token 0 from a context; from a stream, the number of tokens read so far.
    #[derive(Module, Debug)]
    struct Counts {
        device: Param<Tensor<1>>,
    }

    impl CausalLm for Counts {
        fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
            let [rows, length] = tokens.dims();
            let first = Tensor::from_floats(
                [[[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]],
                &tokens.device(),
            );
            first.repeat(&[rows, length, 1])
        }

        fn stream(&self) -> Option<Box<dyn TokenStream + '_>> {
            Some(Box::new(Read(0)))
        }
    }

    struct Read(usize);

    impl TokenStream for Read {
        fn read(&mut self, _: i32) -> Tensor<1> {
            self.0 += 1;
            let mut logits = [0.0; 8];
            logits[self.0] = 1.0;
            Tensor::from_floats(logits, &Device::flex())
        }
    }

    struct Letters;

    impl Vocabulary for Letters {
        fn encode(&self, text: &str) -> Vec<i32> {
            text.bytes()
                .map(|letter| i32::from(letter - b'a'))
                .collect()
        }

        fn decode(&self, ids: &[i32]) -> String {
            ids.iter().map(|id| char::from(b'a' + *id as u8)).collect()
        }

        fn bos(&self) -> Option<i32> {
            None
        }

        fn token_bytes(&self) -> Vec<u32> {
            vec![1; 8]
        }
    }

    #[test]
    fn text_within_the_context_is_read_by_a_stream() {
        let model = Counts {
            device: Param::from_tensor(Tensor::zeros([1], &Device::flex())),
        };
        let text = |max_context| {
            let how = Sampling {
                max_tokens: 4,
                max_context,
                ..Sampling::default()
            };
            let texts = generate(&model, &Letters, &[("abc", how)]).expect("the CPU does not fail");
            texts[0].text.clone()
        };
        assert_eq!(text(7), "defg"); // after 3, 4, 5 and 6 tokens
        assert_eq!(text(6), "aaaa");
    }

    #[test]
    fn prompt_outside_the_vocabulary_is_refused() {
        let model = Counts {
            device: Param::from_tensor(Tensor::zeros([1], &Device::flex())),
        };
        let error = generate(&model, &Letters, &[("abz", Sampling::default())]);
        let expected = "the prompt \"abz\" has id 25, which is outside the vocabulary of 8: \
                        use text of the model's own tokenizer, or give the model a larger vocabulary";
        assert_eq!(error.expect_err("z has no id here").to_string(), expected);
    }

    #[test]
    fn invalid_utf8_is_escaped() {
        assert_eq!(escape("größe\n".as_bytes()), "größe\n");
        assert_eq!(escape(b"a\xffb\xc3"), "a\\xffb\\xc3");
        assert_eq!(escape(b""), "");
    }
}
