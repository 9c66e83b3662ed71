//! Tiny language model with endless data, equal in every run.

use crate::data::TrainData;
use crate::failure::BoxError;
use crate::lm::{CausalLm, NextToken, TokenBatch, Vocabulary};
use crate::probe::Probe;
use crate::task::{BatchSize, Task};
use crate::trainer::{Trainer, TrainerBuilder};
use burn::module::Module;
use burn::module::Param;
use burn::optim::AdamWConfig;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::{self, nn};
use serde_json::{Value, json};

/// Number of token ids.
const VOCAB: usize = 11;
const WIDTH: usize = 8;
const SEQ_LEN: usize = 4;
const ROWS: u64 = 2;

/// A model that predicts a token from the one before it.
///
/// Without dropout: all threads of a process share burn's random numbers on the CPU, so tests that train at the same
/// time would disturb each other.
#[derive(Module, Debug)]
pub(super) struct Tiny {
    embed: nn::Embedding,
    head: nn::Linear,
}

impl CausalLm for Tiny {
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3> {
        let hidden = self.embed.forward(tokens);
        probe.tap("embed", &hidden);
        self.head.forward(hidden)
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(VOCAB)
    }

    fn flops_per_token(&self, _seq_len: usize) -> Option<f64> {
        Some(6.0 * (WIDTH * VOCAB) as f64)
    }
}

/// Rows of equidistant ids; the first id and the distance depend on the row's number.
pub(super) struct Rows(u64);

impl Rows {
    fn batch(from: u64) -> TokenBatch {
        let mut rows = Vec::new();
        for row in from..from + ROWS {
            let mut ids = Vec::new();
            for place in 0..=SEQ_LEN as u64 {
                ids.push(((row * 7 + place * (row + 3)) % VOCAB as u64) as i32);
            }
            rows.push(ids);
        }
        TokenBatch::from_rows(&rows)
    }
}

impl TrainData for Rows {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.0 += ROWS;
        Ok(Self::batch(self.0))
    }

    fn batch_size(&self) -> Option<BatchSize> {
        Some(BatchSize {
            samples: ROWS as usize,
            tokens: ROWS as usize * SEQ_LEN,
        })
    }

    fn state(&self) -> Value {
        json!(self.0)
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        self.0 = state.as_u64().ok_or("a position is the number of a row")?;
        Ok(())
    }
}

/// A vocabulary of letters, one token each.
struct Letters;

impl Vocabulary for Letters {
    fn encode(&self, text: &str) -> Vec<i32> {
        text.bytes()
            .map(|byte| i32::from(byte % VOCAB as u8))
            .collect()
    }

    fn decode(&self, ids: &[i32]) -> String {
        ids.iter().map(|id| char::from(b'a' + *id as u8)).collect()
    }

    fn bos(&self) -> Option<i32> {
        None
    }

    fn token_bytes(&self) -> Vec<u32> {
        vec![1; VOCAB]
    }
}

/// Task of [`tiny_run`].
pub(super) type TinyTask = NextToken<Tiny>;

/// Composes a run of a language model of 187 parameters on the CPU, for tests of callbacks. Its numbers are equal every
/// time.
///
/// The run has `AdamW` at a learning rate of 0.01, two batches in the eval set `val`, an eval on the last step, no dropout
/// and no run directory. Setters of the builder change that. A micro-batch has 2 sequences of 4 tokens. The parameters
/// are `embed.weight`, `head.weight` and `head.bias`, and the model offers the activation `embed`.
///
/// # Panics
///
/// If the program was compiled without the CPU device (feature `flex`).
///
/// # Examples
///
/// ```
/// use bdh::MemorySink;
///
/// let memory = MemorySink::default();
/// bdh::testing::tiny_run(20).sink(memory.clone()).build()?.fit()?;
/// let losses = memory.series("train/loss");
/// assert!(losses[19].1 < losses[0].1);
/// # Ok::<(), bdh::BoxError>(())
/// ```
pub fn tiny_run(steps: u64) -> TrainerBuilder<impl Task> {
    run(steps).optimizer(AdamWConfig::new().build(), 0.01)
}

/// Composes the run of [`tiny_run`], without an optimizer.
pub(super) fn run(steps: u64) -> TrainerBuilder<TinyTask> {
    let device = crate::device("cpu").expect("tests of callbacks run on the CPU: feature `flex`");
    let model = Tiny {
        embed: nn::Embedding {
            weight: wave([VOCAB, WIDTH], 1.0, &device),
        },
        head: nn::Linear {
            weight: wave([WIDTH, VOCAB], 2.0, &device),
            bias: Some(wave([VOCAB], 3.0, &device)),
        },
    };
    Trainer::builder(NextToken::new().vocabulary(Letters), model)
        .train_data(Rows(0))
        .eval_data("val", vec![Rows::batch(1_000), Rows::batch(2_000)])
        .steps(steps)
        .stop_on_signals(false)
}

/// Makes a parameter of irregular values that are equal in every run.
fn wave<const D: usize>(shape: [usize; D], phase: f32, device: &Device) -> Param<Tensor<D>> {
    let mut values = Vec::new();
    for index in 0..shape.iter().product() {
        values.push(0.5 * (phase + 1.7 * index as f32).sin());
    }
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}
