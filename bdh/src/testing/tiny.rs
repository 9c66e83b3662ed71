//! A language model of some hundred parameters and data without end, alike in every run.

use crate::failure::BoxError;
use crate::lm::{CausalLm, NextToken, TokenBatch, Vocabulary};
use crate::probe::Probe;
use crate::source::Source;
use crate::task::{BatchSize, Task};
use crate::trainer::{Trainer, TrainerBuilder};
use burn::module::Module;
use burn::module::Param;
use burn::optim::AdamWConfig;
use burn::tensor::{Int, Tensor, TensorData};
use burn::{self, nn};
use serde_json::{Value, json};

/// How many token ids there are.
const VOCAB: usize = 11;
const WIDTH: usize = 8;
const SEQ_LEN: usize = 4;
const ROWS: u64 = 2;

/// Predicts a token from the one before it. Without dropout: burn's random numbers on the CPU are the process's, and tests
/// that train at once would disturb each other.
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

/// Rows in which each id follows from the one before it.
pub(super) struct Rows(u64);

impl Rows {
    fn batch(from: u64) -> TokenBatch {
        let id = |row: u64, place: u64| ((row * 7 + place * (row + 3)) % VOCAB as u64) as i32;
        let row = |row| {
            (0..=SEQ_LEN as u64)
                .map(|place| id(row, place))
                .collect::<Vec<_>>()
        };
        TokenBatch::from_rows(&(from..from + ROWS).map(row).collect::<Vec<_>>())
    }
}

impl Source for Rows {
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

    fn position(&self) -> Value {
        json!(self.0)
    }

    fn seek(&mut self, position: &Value) -> Result<(), BoxError> {
        self.0 = position.as_u64().ok_or("a position is a row")?;
        Ok(())
    }
}

/// Ids as letters.
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

/// What [`tiny_run`] trains.
pub(super) type TinyTask = NextToken<Tiny, Rows>;

/// A run of a language model of 187 parameters on the CPU, for tests of callbacks: the same numbers every time.
///
/// `AdamW` at a learning rate of 0.01, a validation split of two batches measured on the last step, no dropout, no run
/// directory; what the builder says further replaces that. A micro-batch has 2 sequences of 4 tokens; the parameters
/// are `embed.weight`, `head.weight` and `head.bias`, and `embed` is shown as an activation.
///
/// # Panics
///
/// If the program was compiled without the CPU (feature `flex`).
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

/// The same without an optimizer yet.
pub(super) fn run(steps: u64) -> TrainerBuilder<TinyTask> {
    let device = crate::device("cpu").expect("tests of callbacks run on the CPU: feature `flex`");
    let wave = |phase: f32, count: usize| -> Vec<f32> {
        (0..count)
            .map(|i| 0.5 * (phase + 1.7 * i as f32).sin())
            .collect()
    };
    let matrix = |phase, [rows, columns]: [usize; 2]| {
        let data = TensorData::new(wave(phase, rows * columns), [rows, columns]);
        Param::from_tensor(Tensor::from_data(data, &device))
    };
    let bias = Param::from_tensor(Tensor::from_floats(wave(3.0, VOCAB).as_slice(), &device));
    let model = Tiny {
        embed: nn::Embedding {
            weight: matrix(1.0, [VOCAB, WIDTH]),
        },
        head: nn::Linear {
            weight: matrix(2.0, [WIDTH, VOCAB]),
            bias: Some(bias),
        },
    };
    let task = NextToken::new(Rows(0), vec![Rows::batch(1_000), Rows::batch(2_000)]);
    Trainer::builder(task.vocabulary(Letters), model)
        .steps(steps)
        .stop_on_signals(false)
}
