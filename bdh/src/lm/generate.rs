//! Text from a model, one token after the other.

use super::{CausalLm, Sampling, TokenStream, sampling};
use crate::{BoxError, Probe, seed};
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::Arc;

/// What token ids mean: a tokenizer, as far as training needs one.
pub trait Vocabulary: Send {
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

/// A continuation of a prompt, and how likely the model found each token of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    /// What was added to the prompt; bytes that are not valid UTF-8 as `\\xff`.
    pub text: String,
    /// The same as ids.
    pub tokens: Vec<i32>,
    /// The logarithm of each token's probability in nats, whatever temperature and cuts it was sampled with.
    pub log_probs: Vec<f64>,
}

/// Continues `prompt`. Reads the logits of each token back, so it costs one device read a token.
pub(super) fn generate<M: CausalLm>(
    model: &M,
    vocabulary: &dyn Vocabulary,
    prompt: &str,
    how: &Sampling,
) -> Result<Generated, BoxError> {
    let mut ids: Vec<i32> = vocabulary.bos().into_iter().collect();
    ids.extend(vocabulary.encode(prompt));
    let mut log_probs = Vec::new();
    if ids.is_empty() {
        return Err("a prompt needs at least one token".into());
    }
    let start = ids.len();
    let mut reader = Reader::new(model, start, how);
    for index in 0..how.max_tokens {
        let last: Vec<f32> = reader.last_logits(&ids).try_into_data()?.iter::<f32>().collect();
        let next = sampling::pick(&last, how, seed::uniform(how.seed, index as u64));
        if Some(next) == vocabulary.bos() {
            break; // the model ends the document
        }
        log_probs.push(sampling::log_prob(&last, next));
        ids.push(next);
    }
    let tokens = ids.split_off(start);
    Ok(Generated { text: escape(&vocabulary.decode_bytes(&tokens)), tokens, log_probs })
}

/// How the logits after a growing text are had.
enum Reader<'a, M> {
    /// From the whole context, each time.
    Whole { model: &'a M, max_context: usize },
    /// From what has been read so far, and the rest.
    Stream { stream: Box<dyn TokenStream + 'a>, read: usize },
}

impl<'a, M: CausalLm> Reader<'a, M> {
    fn new(model: &'a M, prompt: usize, how: &Sampling) -> Self {
        let max_context = how.max_context.max(1);
        // A stream forgets nothing, so it is for texts that stay within the context.
        let fits = prompt + how.max_tokens <= max_context;
        match fits.then(|| model.stream()).flatten() {
            Some(stream) => Self::Stream { stream, read: 0 },
            None => Self::Whole { model, max_context },
        }
    }

    /// The logits of what follows `ids`, of which there is one at least that has not been read; `[vocab]`.
    fn last_logits(&mut self, ids: &[i32]) -> Tensor<1> {
        match self {
            Self::Whole { model, max_context } => {
                let context = &ids[ids.len().saturating_sub(*max_context)..];
                let tokens = TensorData::new(context.to_vec(), [1, context.len()]);
                let tokens = Tensor::<2, Int>::from_data(tokens, &crate::device::of(*model));
                let logits = model.logits(tokens, &Probe::off());
                logits.narrow(1, context.len() - 1, 1).reshape([-1])
            }
            Self::Stream { stream, read } => {
                let (last, others) = ids[*read..].split_last().expect("there is one unread token");
                for id in others {
                    stream.read(*id);
                }
                *read = ids.len();
                stream.read(*last)
            }
        }
    }
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
            let first =
                Tensor::from_floats([[[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]], &tokens.device());
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
            text.bytes().map(|letter| i32::from(letter - b'a')).collect()
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
        let model = Counts { device: Param::from_tensor(Tensor::zeros([1], &Device::flex())) };
        let text = |max_context| {
            let how = Sampling { max_tokens: 4, max_context, ..Sampling::default() };
            generate(&model, &Letters, "abc", &how).expect("the CPU does not fail").text
        };
        assert_eq!(text(7), "defg"); // 3, 4, 5 and 6 had been read
        assert_eq!(text(6), "aaaa");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_escaped() {
        assert_eq!(escape("größe\n".as_bytes()), "größe\n");
        assert_eq!(escape(b"a\xffb\xc3"), "a\\xffb\\xc3");
        assert_eq!(escape(b""), "");
    }
}
