//! Values of flags, given or by default, and what they ask of the scaling laws.

use super::command_line::may_change;
use super::{
    Args, BPE_VOCAB, BYTE_VOCAB, Defaults, EarlySave, Every, ON_CPU, ON_GPU, TimeBudget, Tokenizer,
    is_agents_run,
};
use crate::nanochat_home::NanochatHome;
use bdh::clock::RunLength;
use bdh_callbacks::DevicePeak;
use bdh_models::nanochat::{LearningRates, LrSchedule, NanochatVersion, SHORT_SEQ_LEN};
use bdh_models::scaling::{MicroBatch, REFERENCE_WEIGHT_DECAY, Request};
use std::path::Path;

/// Name of a run that is not logged to W&B, in nanochat's scripts.
const DUMMY: &str = "dummy";

/// Settings of `user.args` in which a resumed run may differ, because no result depends on them.
///
/// The weight decay is compared as part of the recipe, which has its final value.
const WITHOUT_EFFECT: [&str; 7] = [
    "run",
    "log_style",
    "metric_names",
    "fp8",
    "fp8_recipe",
    "weight_decay",
    "weight_decay_override",
];

impl Args {
    /// Fills in missing values from nanochat's home: data, tokenizer, and the tasks of CORE if these are evaluated.
    ///
    /// Only what exists there is filled in.
    #[must_use]
    pub fn with_home(mut self, home: &NanochatHome) -> Self {
        let [data, tokenizer, bundle] = [home.data_dir(), home.tokenizer_dir(), home.eval_bundle()];
        if self.data.is_none() && data.exists() {
            self.data = Some(data.to_string_lossy().into_owned());
        }
        let has_own = self.data.as_deref().is_some_and(has_tokenizer);
        if self.tokenizer.is_none() && self.vocab_size.is_none() && tokenizer.exists() && !has_own {
            self.tokenizer = Some(Tokenizer::Path(tokenizer));
        }
        let has_core = self.core_metric_every != Every::Never;
        if self.core_bundle.is_none() && has_core && bundle.exists() {
            self.core_bundle = Some(bundle);
        }
        self
    }

    /// Returns the steps of early checkpoints.
    #[must_use]
    pub fn early_save(&self) -> EarlySave {
        self.early_save.clone().unwrap_or_default()
    }

    /// Returns the names of the sinks, for [`bdh_callbacks::sinks`]; a run with a [W&B name](Self::wandb_run) has W&B in
    /// addition.
    #[must_use]
    pub fn log_backend(&self) -> &str {
        match &self.log_backend {
            Some(names) => names,
            None if is_agents_run() && self.run.as_deref() != Some(DUMMY) => "tensorboard,wandb",
            None => "tensorboard",
        }
    }

    /// Returns the name of the run on W&B; `None` if `--run` is not given, or is `dummy`.
    #[must_use]
    pub fn wandb_run(&self) -> Option<&str> {
        self.run.as_deref().filter(|name| *name != DUMMY)
    }

    /// Returns the settings in which a resumed run may differ, for [`bdh::TrainerBuilder::allow_changed`].
    #[must_use]
    pub fn may_change(&self) -> Vec<String> {
        let mut settings: Vec<_> = may_change(&self.allow_changed).collect();
        for flag in WITHOUT_EFFECT {
            settings.push(format!("user.args.{flag}"));
        }
        settings.push("callbacks.nanochat_train".to_owned()); // present with nanochat's lines or names only
        settings
    }

    /// Returns the length of a run whose recipe has this number of steps.
    #[must_use]
    pub fn length(&self, steps: u64) -> RunLength {
        TimeBudget::length_or(self.time_budget, steps)
    }

    /// Returns the flag that sets the length of the run.
    #[must_use]
    pub fn length_flag(&self) -> &'static str {
        match self.time_budget {
            Some(_) => "--time-budget",
            None => "--num-iterations",
        }
    }

    /// Returns the defaults of the device.
    pub(super) fn defaults(&self) -> Defaults {
        if self.hardware.is_cpu() {
            ON_CPU
        } else {
            ON_GPU
        }
    }

    /// Returns the tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> Tokenizer {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.clone(),
            None if self.defaults().has_bytes => Tokenizer::Bytes,
            None => Tokenizer::Bpe,
        }
    }

    /// Returns the requested number of token ids. A tokenizer trained on little text may have fewer, and one from a file
    /// has its own number.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self.tokenizer() {
            Tokenizer::Bytes => BYTE_VOCAB,
            Tokenizer::Bpe | Tokenizer::Path(_) => self.vocab_size.unwrap_or(BPE_VOCAB),
        }
    }

    /// Returns the context length in tokens.
    #[must_use]
    pub fn max_seq_len(&self) -> usize {
        self.max_seq_len.unwrap_or(self.defaults().max_seq_len)
    }

    /// Returns the number of tokens of one evaluation.
    #[must_use]
    pub fn eval_tokens(&self) -> usize {
        self.eval_tokens.unwrap_or(self.defaults().eval_tokens)
    }

    /// Returns the peak of one device in operations per second: as given, or of this machine's GPUs in bf16.
    ///
    /// `None` on other devices, and for GPUs that are not [known by name](DevicePeak::of_name).
    #[must_use]
    pub fn peak_flops(&self) -> Option<f64> {
        if self.peak_flops.is_some() || !self.hardware.is_cuda() {
            return self.peak_flops;
        }
        DevicePeak::of_this_machine().map(DevicePeak::flops)
    }

    /// Returns the name of the run's directory.
    #[must_use]
    pub fn run_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let mut name = format!("d{}", self.depth);
        if let Some(width) = self.n_embd_override {
            name += &format!("-w{width}");
        }
        if let Some(lr) = self.lr_override {
            name += &format!("-lr{lr}");
        }
        name
    }

    /// Returns the request to the scaling laws, for a tokenizer with `vocab_size` ids.
    #[must_use]
    pub fn request(&self, vocab_size: usize) -> Request {
        Request {
            version: self.nanochat_version,
            depth: self.depth,
            vocab_size,
            sequence_len: self.max_seq_len(),
            window_pattern: self.window_pattern.clone(),
            short_seq_len: self.short_seq_len.unwrap_or(SHORT_SEQ_LEN),
            aspect_ratio: self.aspect_ratio,
            head_dim: self.head_dim,
            precision: self.hardware.precision(),
            target_param_data_ratio: self.target_param_data_ratio,
            n_embd: self.n_embd_override,
            lr_override: self.lr_override,
            rates: self.rates(),
            micro_batch: self.micro_batch(),
            devices: self.hardware.count(),
            total_batch_size: self.total_batch_size(),
            num_iterations: self.num_iterations,
            target_flops: self.target_flops,
            weight_decay: self.weight_decay.unwrap_or(REFERENCE_WEIGHT_DECAY),
            weight_decay_override: self.weight_decay_override,
        }
    }

    fn rates(&self) -> LearningRates {
        LearningRates {
            embedding: self.embedding_lr,
            unembedding: self.unembedding_lr,
            matrix: self.matrix_lr,
            scalar: self.scalar_lr,
            ..LearningRates::default()
        }
    }

    /// Returns the sequences in a forward pass, as given or up to the default.
    fn micro_batch(&self) -> MicroBatch {
        match self.device_batch_size {
            Some(sequences) => MicroBatch::Exactly(sequences),
            None => MicroBatch::AtMost(self.defaults().micro_batch.min(self.by_depth())),
        }
    }

    /// Returns the sequences in a forward pass that the version of nanochat takes at this depth.
    ///
    /// Source: `scripts/base_train.py` of nanochat's next version.
    fn by_depth(&self) -> usize {
        match (self.nanochat_version, self.depth) {
            (NanochatVersion::Next, 28..) => 8,
            (NanochatVersion::Next, 20..) => 16,
            _ => 32,
        }
    }

    /// Returns the tokens in one step, as given or by the device's default; `None` for the scaling law's.
    fn total_batch_size(&self) -> Option<usize> {
        if self.total_batch_size.is_some() || !self.defaults().one_micro_batch {
            return self.total_batch_size;
        }
        let tokens = self
            .micro_batch()
            .sequences()
            .saturating_mul(self.max_seq_len());
        Some(tokens.saturating_mul(self.hardware.count()))
    }

    /// Returns the schedule of the learning rates.
    #[must_use]
    pub fn lr_schedule(&self) -> LrSchedule {
        LrSchedule {
            warmup_steps: self.warmup_steps,
            warmdown_ratio: self.warmdown_ratio,
            final_lr_frac: self.final_lr_frac,
        }
    }
}

/// Returns whether a directory of data brings its tokenizer, as prepared data does.
fn has_tokenizer(data: &str) -> bool {
    Path::new(data).join(bdh_data::Tokenizer::FILE).is_file()
}
