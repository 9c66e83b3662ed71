//! Text from a model, one token after the other.

use super::{CausalLm, TokenStream, sampling};
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::seed;
use crate::text::{Generated, Sampling};
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::Arc;

/// What token ids mean: a tokenizer, as far as training needs one.
pub trait Vocabulary: Send + Sync {
    /// Ids of a text, without the token that begins a document.
    fn encode(&self, text: &str) -> Vec<i32>;

    /// Text of ids; what is not valid UTF-8 is replaced, special tokens are left out.
    fn decode(&self, ids: &[i32]) -> String;

    /// Bytes of ids, so that those that are no text can be told apart. By default those of the text.
    fn decode_bytes(&self, ids: &[i32]) -> Vec<u8> {
        self.decode(ids).into_bytes()
    }

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

/// Continues prompts, all of them in one batch: a forward pass over the contexts and one device read for each token,
/// however many prompts there are. A model that can read token by token does that instead, for texts that stay
/// within their context: what it has read it does not forget.
///
/// A shorter context is filled up behind its end, where a causal model does not look, and its logits are taken at its
/// own last token; a row that has ended leaves the batch. So a prompt is continued as it is alone, but for the last bit
/// of a logit.
pub(super) fn generate<M: CausalLm>(
    model: &M,
    vocabulary: &dyn Vocabulary,
    prompts: &[(&str, Sampling)],
) -> Result<Vec<Generated>, BoxError> {
    let rows = prompts
        .iter()
        .map(|(prompt, how)| Row::new(model, vocabulary, prompt, how));
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
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

/// A text under way.
struct Row<'a> {
    how: &'a Sampling,
    /// Tokens that the model sees at most.
    max_context: usize,
    /// The model in the middle of this text, if it reads token by token; and how many ids it has read.
    stream: Option<Box<dyn TokenStream + 'a>>,
    read: usize,
    /// The prompt, and what was added.
    ids: Vec<i32>,
    /// How many of them are the prompt.
    start: usize,
    log_probs: Vec<f64>,
    has_ended: bool,
}

impl<'a> Row<'a> {
    fn new<M: CausalLm>(
        model: &'a M,
        vocabulary: &dyn Vocabulary,
        prompt: &str,
        how: &'a Sampling,
    ) -> Result<Self, BoxError> {
        let mut ids: Vec<i32> = vocabulary.bos().into_iter().collect();
        ids.extend(vocabulary.encode(prompt));
        if ids.is_empty() {
            return Err("a prompt needs at least one token".into());
        }
        let known = model
            .vocab_size()
            .unwrap_or_else(|| vocabulary.token_bytes().len());
        check_ids(prompt, &ids, known)?;
        let start = ids.len();
        let max_context = how
            .max_context
            .min(model.max_context().unwrap_or(usize::MAX))
            .max(1);
        let fits = start.saturating_add(how.max_tokens) <= max_context;
        let stream = fits.then(|| model.stream()).flatten();
        Ok(Self {
            how,
            max_context,
            stream,
            read: 0,
            ids,
            start,
            log_probs: Vec::new(),
            has_ended: false,
        })
    }

    /// The logits of what follows, `[1, vocab]`, from the ids that the stream has not read yet, if there is a stream.
    fn read_on(&mut self) -> Option<Tensor<2>> {
        let stream = self.stream.as_mut()?;
        let unread = &self.ids[std::mem::replace(&mut self.read, self.ids.len())..];
        let mut logits = None;
        for id in unread {
            logits = Some(stream.read(*id));
        }
        logits.map(Tensor::unsqueeze)
    }

    fn is_open(&self) -> bool {
        !self.has_ended && self.log_probs.len() < self.how.max_tokens
    }

    /// What the model sees of it.
    fn context(&self) -> &[i32] {
        &self.ids[self.ids.len().saturating_sub(self.max_context)..]
    }

    /// Adds a token, unless the model ends the document.
    fn extend(&mut self, logits: &[f32], bos: Option<i32>) {
        let draw = seed::uniform(self.how.seed, self.log_probs.len() as u64);
        let next = sampling::pick(logits, self.how, draw);
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

/// Whether a prompt is made of ids that there are: what a model makes of others depends on the device.
fn check_ids(prompt: &str, ids: &[i32], count: usize) -> Result<(), BoxError> {
    let is_known = |id: i32| usize::try_from(id).is_ok_and(|id| id < count);
    match ids.iter().find(|id| !is_known(**id)) {
        Some(id) => Err(format!(
            "the prompt {prompt:?} has id {id}, which is outside the vocabulary of {count}: \
             leave out what the model was not made for, or give it a larger vocabulary"
        )
        .into()),
        None => Ok(()),
    }
}

/// What the model expects after each text, `[rows][vocab]`, in one device read.
fn next_logits<M: CausalLm>(model: &M, rows: &mut [&mut Row]) -> Result<Vec<Vec<f32>>, BoxError> {
    let whole = rows
        .iter()
        .filter(|row| row.stream.is_none())
        .map(|row| row.context());
    let mut whole = last_logits(model, &whole.collect::<Vec<_>>()).into_iter();
    let last = rows
        .iter_mut()
        .filter_map(|row| row.read_on().or_else(|| whole.next()));
    let logits = Tensor::cat(last.collect(), 0);
    let vocab = logits.dims()[1];
    Ok(super::values(logits)?
        .chunks(vocab)
        .map(<[f32]>::to_vec)
        .collect())
}

/// The logits after each context, `[1, vocab]`, from one forward pass over all of them.
fn last_logits<M: CausalLm>(model: &M, contexts: &[&[i32]]) -> Vec<Tensor<2>> {
    let Some(longest) = contexts.iter().map(|context| context.len()).max() else {
        return Vec::new();
    };
    let fill = |context: &&[i32]| {
        let last = context.last().copied(); // any id that is in the vocabulary
        context
            .iter()
            .copied()
            .chain(last.into_iter().cycle())
            .take(longest)
            .collect::<Vec<_>>()
    };
    let tokens: Vec<i32> = contexts.iter().flat_map(fill).collect();
    let tokens = TensorData::new(tokens, [contexts.len(), longest]);
    let tokens = Tensor::<2, Int>::from_data(tokens, &crate::device::of(model));
    let logits = model.logits(tokens, &Probe::off());
    let vocab = logits.dims()[2];
    let last = contexts.iter().enumerate().map(|(row, context)| {
        let end = context.len();
        logits
            .clone()
            .slice([row..row + 1, end - 1..end, 0..vocab])
            .reshape([1, vocab])
    });
    last.collect()
}

/// Text, with each byte that is not part of valid UTF-8 as `\xff`: a character cut in two stays visible.
fn escape(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |text, chunk| {
        text + chunk.valid() + &chunk.invalid().escape_ascii().to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::tensor::Device;

    /// Finds token 0 likeliest; token by token, the number of tokens read so far.
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
    fn a_text_that_fits_the_context_is_read_token_by_token_and_each_token_once() {
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
        assert_eq!(text(7), "defg"); // 3, 4, 5 and 6 had been read
        assert_eq!(text(6), "aaaa");
    }

    #[test]
    fn a_prompt_outside_the_vocabulary_is_one_sentence() {
        let model = Counts {
            device: Param::from_tensor(Tensor::zeros([1], &Device::flex())),
        };
        let error = generate(&model, &Letters, &[("abz", Sampling::default())]);
        let expected = "the prompt \"abz\" has id 25, which is outside the vocabulary of 8: \
                        leave out what the model was not made for, or give it a larger vocabulary";
        assert_eq!(
            error.expect_err("z is no letter here").to_string(),
            expected
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_escaped() {
        assert_eq!(escape("größe\n".as_bytes()), "größe\n");
        assert_eq!(escape(b"a\xffb\xc3"), "a\\xffb\\xc3");
        assert_eq!(escape(b""), "");
    }
}
