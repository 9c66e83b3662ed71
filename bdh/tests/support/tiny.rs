//! Language model of some 200 parameters, endless data, and callbacks made from a closure.
//!
//! Weights and data are closed forms, so two runs begin equal whatever else runs in the process.

#![allow(dead_code, reason = "each test uses a part of this module")]

use bdh::burn; // `derive(Module)` generates paths that begin with `burn`
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::data::TrainData;
use bdh::hooks::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, Checkpointed, EvalBatch, EvalEnd,
    FitEnd, FitStart, MicroBatch, StepEnd, StepStart,
};
use bdh::lm::Vocabulary;
use bdh::{
    BatchSize, BoxError, Callback, CausalLm, HookResult, Message, NextToken, Probe, Record,
    RunInfo, Sink, TokenBatch, Trainer, TrainerBuilder, callback,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) const VOCAB: usize = 11;
const WIDTH: usize = 8;
pub(crate) const SEQ_LEN: usize = 4;
/// Rows of a micro-batch in most tests.
pub(crate) const ROWS: usize = 2;

/// A model that predicts a token from the one before it.
#[derive(Module, Debug)]
pub(crate) struct Tiny {
    pub(crate) embed: Embedding,
    dropout: Dropout,
    pub(crate) head: Linear,
}

impl Tiny {
    pub(crate) fn new(dropout: f64) -> Self {
        Self {
            embed: Embedding {
                weight: wave([VOCAB, WIDTH], 1.0),
            },
            dropout: DropoutConfig::new(dropout).init(),
            head: Linear {
                weight: wave([WIDTH, VOCAB], 2.0),
                bias: Some(wave([VOCAB], 3.0)),
            },
        }
    }
}

impl CausalLm for Tiny {
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3> {
        let hidden = self.embed.forward(tokens);
        probe.tap("embed", &hidden);
        self.head.forward(self.dropout.forward(hidden))
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(VOCAB)
    }

    fn flops_per_token(&self, _seq_len: usize) -> Option<f64> {
        Some(6.0 * (WIDTH * VOCAB) as f64)
    }
}

pub(crate) fn device() -> Device {
    bdh::device("cpu").expect("the CPU is compiled in")
}

/// Makes a parameter of irregular values that are equal in every run.
fn wave<const D: usize>(shape: [usize; D], phase: f32) -> Param<Tensor<D>> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| 0.5 * (phase + 1.7 * i as f32).sin())
        .collect();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &device()))
}

/// Numbered rows, in which each id determines the next.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    next: u64,
    rows: usize,
}

impl Rows {
    pub(crate) fn of(rows: usize) -> Self {
        Self { next: 0, rows }
    }

    fn batch(from: u64, rows: usize) -> TokenBatch {
        let mut all = Vec::new();
        for number in from..from + rows as u64 {
            let mut id = (number * 7 + number / 5 + 3) % VOCAB as u64;
            let mut row = Vec::new();
            for _ in 0..=SEQ_LEN {
                row.push(id as i32);
                id = (id * 3 + 1) % VOCAB as u64;
            }
            all.push(row);
        }
        TokenBatch::from_rows(&all)
    }
}

impl TrainData for Rows {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        let batch = Self::batch(self.next, self.rows);
        self.next += self.rows as u64;
        Ok(batch)
    }

    fn batch_size(&self) -> Option<BatchSize> {
        Some(size(self.rows))
    }

    fn state(&self) -> Value {
        json!({ "row": self.next })
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        self.next = state["row"]
            .as_u64()
            .ok_or("a position is the number of a row")?;
        Ok(())
    }
}

/// Rows that do not report their position.
pub(crate) struct Lost(pub(crate) Rows);

impl TrainData for Lost {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.0.next_batch()
    }
}

/// A vocabulary of letters, one token each.
pub(crate) struct Letters;

impl Vocabulary for Letters {
    fn encode(&self, text: &str) -> Vec<i32> {
        text.bytes()
            .map(|byte| i32::from(byte - b'a') % VOCAB as i32)
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

pub(crate) type Task = NextToken<Tiny>;
pub(crate) type Builder = TrainerBuilder<Task>;

/// Returns two validation batches of [`ROWS`] rows.
pub(crate) fn val() -> Vec<TokenBatch> {
    vec![Rows::batch(1_000, ROWS), Rows::batch(2_000, ROWS)]
}

pub(crate) fn task() -> Task {
    NextToken::new().vocabulary(Letters)
}

/// Composes a run with `AdamW` at 0.01 and without dropout. All such runs begin equal.
pub(crate) fn run(steps: u64) -> Builder {
    run_with(0.0, steps)
}

pub(crate) fn run_with(dropout: f64, steps: u64) -> Builder {
    compose(ROWS, Tiny::new(dropout), steps).optimizer(AdamWConfig::new().build(), 0.01)
}

/// Composes a run on micro-batches of `rows` rows, without an optimizer.
pub(crate) fn compose(rows: usize, model: Tiny, steps: u64) -> Builder {
    bare(task(), Rows::of(rows), model, steps).eval_data("val", val())
}

/// Composes a run without an optimizer and without an eval set.
pub(crate) fn bare(
    task: Task,
    data: impl TrainData<Batch = TokenBatch>,
    model: Tiny,
    steps: u64,
) -> Builder {
    Trainer::builder(task, model)
        .train_data(data)
        .steps(steps)
        .stop_on_signals(false)
}

/// Returns the bits of all parameters.
pub(crate) fn weights(model: &Tiny) -> Vec<Vec<u32>> {
    let to_bits = |data: TensorData| data.iter::<f32>().map(f32::to_bits).collect();
    let bias = model.head.bias.as_ref().expect("the head has a bias");
    vec![
        to_bits(model.embed.weight.val().into_data()),
        to_bits(model.head.weight.val().into_data()),
        to_bits(bias.val().into_data()),
    ]
}

/// Waits until no other test of the process draws random numbers: burn has one generator for the whole CPU.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A list that a test shares with its callbacks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Seen<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn push(&self, item: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(item);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Seen<String> {
    pub(crate) fn text(&self) -> String {
        self.all().join(" ")
    }
}

/// A sink that collects messages as text.
pub(crate) struct Listener(pub(crate) Seen<String>);

impl Sink for Listener {
    fn name(&self) -> String {
        "listener".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }

    fn message(&mut self, message: &Message) {
        self.0.push(message.to_string());
    }
}

/// Writes a function for each hook that makes a callback from a closure, such as `on_step(|ctx| …)`.
macro_rules! closures {
    ($($hook:ident $name:ident $event:ident),+ $(,)?) => {$(
        pub(crate) struct $name<F>(F);

        #[callback]
        impl<F: FnMut(&$event<'_>) -> HookResult + Send> Callback for $name<F> {
            fn $hook(&mut self, ctx: &$event<'_>) -> HookResult {
                (self.0)(ctx)
            }
        }

        pub(crate) fn $hook<F: FnMut(&$event<'_>) -> HookResult + Send>(hook: F) -> $name<F> {
            $name(hook)
        }
    )+};
}

closures! {
    on_fit_start AtFitStart FitStart,
    on_step_start AtStepStart StepStart,
    on_micro_batch AtMicroBatch MicroBatch,
    after_backward AtBackward AfterBackward,
    before_optimizer_step AtOptimizer BeforeOptimizerStep,
    after_optimizer_step AtUpdate AfterOptimizerStep,
    on_step AtStep StepEnd,
    on_eval_batch AtEvalBatch EvalBatch,
    on_eval AtEval EvalEnd,
    on_checkpoint AtCheckpoint Checkpointed,
    on_fit_end AtFitEnd FitEnd,
}

/// Returns the size of a micro-batch of `rows` rows.
pub(crate) fn size(rows: usize) -> BatchSize {
    BatchSize {
        samples: rows,
        tokens: rows * SEQ_LEN,
    }
}
