//! Our side of the comparison with PyTorch: trains a preset of `benches/torch/presets.json`, some steps at a time.
//!
//! ```text
//! benches/torch/run.sh                                                     # the whole comparison
//! cargo bench --profile dev -p bdh-examples --bench pytorch -- worker gpt2   # this side, by hand
//! ```
//!
//! A worker takes one step and answers; then, for each line `run 10` that it reads, it takes ten more and answers. An
//! answer is a line of JSON: the seconds of each step, and the last loss that was recorded, which is every tenth. At the
//! end of its input it ends. `benches/torch/worker.py` speaks the same.

#![expect(clippy::print_stdout, reason = "a bench answers on its standard output")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run shall say so at once")]

use bdh::lm::RandomCrops;
use bdh::ops::AdamW;
use bdh::{
    BatchSize, BoxError, CausalLm, Group, MemorySink, NextToken, Source, Trainer, TrainerBuilder,
    constant, every,
};
use bdh_examples::gpt2::{self, Gelu, Gpt2Config};
use bdh_examples::hatchling::BdhConfig;
use bdh_examples::nanochat::{self, GptConfig, LearningRates, Schedule};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

const PRESETS: &str = include_str!("../../benches/torch/presets.json");
const SEED: u64 = 1337;
/// Steps of the run, as far as schedules go by it: more than anybody takes.
const HORIZON: u64 = 100_000;
/// Tokens of the text.
const TEXT: u64 = 100_000;
const LOSS_EVERY: u64 = 10;

/// What both sides train.
#[derive(Deserialize)]
struct Preset {
    model: String,
    rows: usize,
    seq_len: usize,
    config: Value,
}

fn main() {
    // cargo adds `--bench`.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let presets: BTreeMap<String, Preset> = serde_json::from_str(PRESETS).unwrap();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", name] if presets.contains_key(name) => train(&presets[name]),
        _ => println!("usage: worker PRESET, one of {:?}", presets.keys().collect::<Vec<_>>()),
    }
}

fn train(preset: &Preset) {
    let (device, config) = (bdh::device("cpu").unwrap(), preset.config.clone());
    match preset.model.as_str() {
        "gpt2" => {
            let config: Gpt2Config = serde_json::from_value(config).unwrap();
            let config = Gpt2Config { gelu: Gelu::Erf, ..config }; // nanoGPT's
            let groups = gpt2::groups(0.1, gpt2::schedule(1e-3, 100));
            let run = |run: Run<_>| groups.into_iter().fold(run, Run::group).clip_grad_norm(1.0);
            fit(preset, config.vocab_size, config.init(SEED, &device).unwrap(), run);
        }
        "nanochat" => {
            let config: GptConfig = serde_json::from_value(config).unwrap();
            let tokens = (preset.rows * preset.seq_len) as f64;
            let rates = LearningRates::default().scaled((tokens / f64::from(1 << 19)).sqrt());
            let groups = nanochat::groups(&config, rates, 0.1, Some(Schedule::new(HORIZON)));
            let lr = |peak| bdh::warmup_stable_decay(peak, 40, 0.65).to(0.05);
            let groups = groups.into_iter().map(|group| group.scheduled(lr));
            let run = |run| groups.fold(run, Run::group);
            fit(preset, config.vocab_size, config.init(SEED, &device).unwrap(), run);
        }
        "hatchling" => {
            let config: BdhConfig = serde_json::from_value(config).unwrap();
            let adamw = AdamW { weight_decay: 0.1, ..AdamW::default() };
            let run = |run: Run<_>| run.group(Group::new("all", |_| true, adamw, constant(1e-3)));
            fit(preset, config.vocab_size, config.init(SEED, &device).unwrap(), run);
        }
        other => unreachable!("presets.json has a model `{other}`"),
    }
}

type Run<M> = TrainerBuilder<NextToken<M, Commanded>>;

fn fit<M: CausalLm>(preset: &Preset, vocab: usize, model: M, add: impl FnOnce(Run<M>) -> Run<M>) {
    let records = MemorySink::default();
    let text: Vec<_> = (0..TEXT).map(|at| ((at * at + at / 7) % vocab as u64) as i32).collect();
    let source = RandomCrops::new(text, preset.rows, preset.seq_len, SEED).unwrap();
    let source =
        Commanded { source, left: 1, began: None, took: Vec::new(), records: records.clone() };
    let run = Trainer::builder(NextToken::new(source, Vec::new()), model)
        .steps(HORIZON)
        .log(every(LOSS_EVERY))
        .stop_on_signals(false)
        .sink(records);
    add(run).build().unwrap().fit().unwrap();
}

/// A source whose run goes on only as far as it was told to.
///
/// A step begins with its batch: between two batches lies all that a step costs.
struct Commanded {
    source: RandomCrops,
    /// Steps to take before the next command is read.
    left: u64,
    began: Option<Instant>,
    /// Seconds of each step since the last command.
    took: Vec<f64>,
    records: MemorySink,
}

impl Commanded {
    /// Answers, and waits for the next command. At the end of the input the program ends.
    fn obey(&mut self) -> Result<u64, BoxError> {
        let loss = self.records.series("train/loss").last().map(|(_, loss)| *loss);
        println!("{}", json!({ "seconds": std::mem::take(&mut self.took), "loss": loss }));
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            std::process::exit(0);
        }
        let steps = line.trim().strip_prefix("run ").ok_or("a command is `run STEPS`")?;
        Ok(steps.parse()?)
    }
}

impl Source for Commanded {
    type Batch = <RandomCrops as Source>::Batch;

    fn next_batch(&mut self) -> Result<Self::Batch, BoxError> {
        self.took.extend(self.began.map(|began| began.elapsed().as_secs_f64()));
        while self.left == 0 {
            self.left = self.obey()?;
        }
        self.left -= 1;
        self.began = Some(Instant::now());
        self.source.next_batch()
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.source.batch_size()
    }

    fn position(&self) -> Value {
        self.source.position()
    }

    fn seek(&mut self, position: &Value) -> Result<(), BoxError> {
        self.source.seek(position)
    }
}
