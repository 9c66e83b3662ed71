//! Presets of the comparison with PyTorch, which both sides read.

use bdh::burn::tensor::Device;
use bdh::cadence::every;
use bdh::data::TrainData;
use bdh::lm::RandomCrops;
use bdh::ops::{AdamW, Precision};
use bdh::schedule::constant;
use bdh::{BoxError, CausalLm, Group, MemorySink, NextToken, TokenBatch, Trainer, TrainerBuilder};
use bdh_models::bdh_model::BdhConfig;
use bdh_models::gpt2::{self, Gelu, Gpt2Config};
use bdh_models::nanochat::{self, GptConfig, LearningRates, MuonSchedule};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

const PRESETS: [&str; 2] = [
    include_str!("../../../benches/torch/presets.json"),
    include_str!("../../../benches/torch/presets-gpu.json"),
];
const SEED: u64 = 1337;
/// Number of steps for schedules, more than any run takes.
const HORIZON: u64 = 100_000;
/// Number of tokens of the text.
const TEXT: u64 = 100_000;
/// Steps between records of the loss. Each record costs a device read.
pub(crate) const LOSS_EVERY: u64 = 10;

/// Preset that both sides train.
#[derive(Clone, Deserialize)]
pub(crate) struct Preset {
    model: String,
    rows: usize,
    seq_len: usize,
    config: Value,
}

/// Work on a preset with any model.
pub(crate) trait Job {
    /// Trains models that `model` creates, one for each run.
    fn run<M: CausalLm>(
        self,
        preset: &Preset,
        model: impl Fn() -> Result<M, BoxError>,
    ) -> Result<(), BoxError>;
}

impl Preset {
    /// Finds the preset of this name, and sets its precision.
    pub(crate) fn named(name: &str, precision: Precision) -> Result<Self, BoxError> {
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        for presets in PRESETS {
            all.extend(serde_json::from_str::<BTreeMap<_, _>>(presets)?);
        }
        let Some(mut preset) = all.remove(name) else {
            let known: Vec<_> = all.into_keys().collect();
            return Err(format!("unknown preset `{name}`: use {}", known.join(", ")).into());
        };
        preset.config["precision"] = serde_json::to_value(precision)?;
        Ok(preset)
    }

    /// Runs `job` with the preset's model on `device`.
    pub(crate) fn with(&self, device: &Device, job: impl Job) -> Result<(), BoxError> {
        match self.model.as_str() {
            "gpt2" => {
                let config = self.gpt2()?;
                job.run(self, || Ok(config.init(SEED, device)?))
            }
            "nanochat" => {
                let config: GptConfig = self.config()?;
                job.run(self, || Ok(config.init(SEED, device)?))
            }
            _ => {
                let config: BdhConfig = self.config()?;
                job.run(self, || Ok(config.init(SEED, device)?))
            }
        }
    }

    /// Creates a run on `source` that records its loss in memory.
    pub(crate) fn trainer<M: CausalLm>(
        &self,
        model: M,
        data: impl TrainData<Batch = TokenBatch>,
        records: MemorySink,
    ) -> Result<TrainerBuilder<NextToken<M>>, BoxError> {
        let run = Trainer::builder(NextToken::new(), model)
            .train_data(data)
            .steps(HORIZON)
            .log(every(LOSS_EVERY))
            .stop_on_signals(false)
            .sink(records);
        let run = if self.model == "gpt2" {
            run.clip_grad_norm(1.0)
        } else {
            run
        };
        Ok(self.groups()?.into_iter().fold(run, TrainerBuilder::group))
    }

    /// Returns random windows of the text.
    pub(crate) fn crops(&self) -> Result<RandomCrops, BoxError> {
        let ids = self.config["vocab_size"]
            .as_u64()
            .ok_or("a preset without a vocab_size")?;
        let text: Vec<_> = (0..TEXT)
            .map(|at| ((at * at + at / 7) % ids) as i32)
            .collect();
        Ok(RandomCrops::new(text, self.rows, self.seq_len, SEED)?)
    }

    /// Returns the tokens of each sequence.
    pub(crate) fn seq_len(&self) -> usize {
        self.seq_len
    }

    fn groups(&self) -> Result<Vec<Group>, BoxError> {
        Ok(match self.model.as_str() {
            "gpt2" => gpt2::groups(0.1, gpt2::schedule(1e-3, 100)).into(),
            "nanochat" => {
                let tokens = (self.rows * self.seq_len) as f64;
                let rates = LearningRates::default().scaled((tokens / f64::from(1 << 19)).sqrt());
                let schedule = Some(MuonSchedule::new(HORIZON));
                let groups = nanochat::groups(&self.config()?, rates, 0.1, schedule);
                let lr = |peak| bdh::schedule::warmup_stable_decay(peak, 40, 0.65).to(0.05);
                groups
                    .into_iter()
                    .map(|group| group.scheduled(lr))
                    .collect()
            }
            _ => {
                let adamw = AdamW {
                    weight_decay: 0.1,
                    ..AdamW::default()
                };
                vec![Group::new("all", |_| true, adamw, constant(1e-3))]
            }
        })
    }

    fn gpt2(&self) -> Result<Gpt2Config, BoxError> {
        Ok(Gpt2Config {
            gelu: Gelu::Erf,
            ..self.config()?
        }) // nanoGPT's
    }

    fn config<C: for<'de> Deserialize<'de>>(&self) -> Result<C, BoxError> {
        Ok(C::deserialize(&self.config)?)
    }
}
