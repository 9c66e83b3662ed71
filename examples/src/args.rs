//! Command line of `nanochat_sweep` for one run.
//!
//! The flags are nanochat's, plus overrides for sweeps. Most have no fixed default: the scaling laws
//! ([`bdh_models::scaling`]) or the device (`defaults.rs`) decide missing values.
//!
//! Every user error ends with one sentence on stderr and exit code 2. A sweep agent may stop the sweep after such a
//! run, so the sentence must explain the error.

pub mod command_line;
mod defaults;
mod early_save;
mod hardware;
mod normalize;
mod time_budget;
pub mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;
use clap::error::ErrorKind;
use serde::Serialize;

pub use self::command_line::may_change;
use self::command_line::{flags, read, read_over};
pub use self::defaults::Tokenizer;
use self::defaults::{BPE_VOCAB, BYTE_VOCAB, Defaults, ON_CPU, ON_GPU};
pub use self::early_save::EarlySave;
pub use self::hardware::Hardware;
pub use self::normalize::normalize;
pub use self::time_budget::TimeBudget;
pub use self::values::{Every, ValueError};
use self::values::{
    count, fraction, log_backend, natural, not_negative, positive, run_name, steps,
};
use bdh::clock::RunLength;
use bdh_callbacks::wandb::sweep_values;
use bdh_models::nanochat::{LearningRates, LrSchedule};
use bdh_models::scaling::{MicroBatch, Request};
use serde_json::Value;

/// Arguments of one run.
///
/// Serializes as the names and values of the flags, for the run's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Args {
    /// Number of transformer blocks, which decides everything that is not set below
    #[arg(long, value_name = "LAYERS", default_value = "12", value_parser = count, help_heading = "Model")]
    pub depth: usize,
    /// Width in channels, a multiple of the head size [default: depth x aspect ratio]
    #[arg(long, value_name = "CHANNELS", value_parser = count, help_heading = "Model")]
    pub n_embd_override: Option<usize>,
    /// Channels per layer, which decide the width
    #[arg(long, value_name = "CHANNELS", default_value = "64", value_parser = count, help_heading = "Model")]
    pub aspect_ratio: usize,
    /// Channels of one attention head [default: 128, or 64 with --n-embd-override]
    #[arg(long, value_name = "CHANNELS", value_parser = count, help_heading = "Model")]
    pub head_dim: Option<usize>,
    /// Context length in tokens [default: 2048, or 256 on the CPU]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Model")]
    pub max_seq_len: Option<usize>,
    /// Attention window of each layer, repeated: L is the whole context, S a quarter
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "SSSL",
        help_heading = "Model"
    )]
    pub window_pattern: String,

    /// Text to train on: a file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub data: Option<String>,
    /// Tokenizer: `bytes` or `bpe` [default: bpe, or bytes on the CPU]
    #[arg(
        long,
        value_name = "KIND",
        hide_possible_values = true,
        help_heading = "Data"
    )]
    pub tokenizer: Option<Tokenizer>,
    /// Number of token ids of the bpe tokenizer [default: 32768; bytes always have 257]
    #[arg(long, value_name = "IDS", value_parser = count, help_heading = "Data")]
    pub vocab_size: Option<usize>,

    /// Number of steps; -1 is the default [default: by scaling law]
    #[arg(
        long, value_name = "STEPS", value_parser = steps, help_heading = "Duration",
        visible_alias = "max-iterations", visible_alias = "steps"
    )]
    pub num_iterations: Option<u64>,
    /// Training time, such as 90s, 5m or 2h, in place of a number of steps [default: none]
    #[arg(
        long, value_name = "TIME", help_heading = "Duration", conflicts_with_all = ["num_iterations", "target_flops"]
    )]
    // Absent if unset, as in the arguments that were saved before the flag existed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_budget: Option<TimeBudget>,
    /// FLOPs to spend, which decide the number of steps if it is not given; -1 for none [default: none]
    #[arg(long, value_name = "FLOPS", value_parser = positive, help_heading = "Duration")]
    pub target_flops: Option<f64>,
    /// Tokens per scaling parameter, which decide learning rates even if the number of steps is given
    #[arg(long, value_name = "RATIO", default_value = "12", value_parser = positive, help_heading = "Duration")]
    pub target_param_data_ratio: f64,

    /// Sequences in a forward pass [default: up to 32, or 8 on the CPU]
    #[arg(
        long, value_name = "SEQUENCES", value_parser = count, help_heading = "Batch",
        visible_alias = "micro-batch"
    )]
    pub device_batch_size: Option<usize>,
    /// Tokens in one step, over all devices [default: by scaling law, or one micro-batch each on the CPU]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Batch")]
    pub total_batch_size: Option<usize>,

    /// Muon's peak learning rate, without scaling; all other groups scale with it [default: by scaling law]
    #[arg(long, value_name = "LR", value_parser = positive, help_heading = "Optimization")]
    pub lr_override: Option<f64>,
    /// Learning rate of the embeddings, at width 768 and a batch of 524288 tokens
    #[arg(long, value_name = "LR", default_value = "0.3", value_parser = positive, help_heading = "Optimization")]
    pub embedding_lr: f64,
    /// Learning rate of the head, at width 768 and a batch of 524288 tokens
    #[arg(long, value_name = "LR", default_value = "0.008", value_parser = positive, help_heading = "Optimization")]
    pub unembedding_lr: f64,
    /// Learning rate of the matrices (Muon), at a batch of 524288 tokens
    #[arg(
        long, value_name = "LR", default_value = "0.02", value_parser = positive,
        help_heading = "Optimization", conflicts_with = "lr_override"
    )]
    pub matrix_lr: f64,
    /// Learning rate of the residual scalars, at a batch of 524288 tokens
    #[arg(long, value_name = "LR", default_value = "0.5", value_parser = positive, help_heading = "Optimization")]
    pub scalar_lr: f64,
    /// Muon's weight decay, without scaling [default: by scaling law]
    #[arg(long, value_name = "DECAY", value_parser = not_negative, help_heading = "Optimization")]
    pub weight_decay: Option<f64>,
    /// Steps in which the learning rates rise
    #[arg(long, value_name = "STEPS", default_value = "40", value_parser = natural, help_heading = "Optimization")]
    pub warmup_steps: u64,
    /// Share of the run in which the learning rates fall
    #[arg(long, value_name = "SHARE", default_value = "0.65", value_parser = fraction, help_heading = "Optimization")]
    pub warmdown_ratio: f64,
    /// Last learning rate, as a share of the peak
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = fraction, help_heading = "Optimization")]
    pub final_lr_frac: f64,

    /// Steps between evaluations, in addition to the first and the last; -1 for no others
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "250",
        help_heading = "Evaluation"
    )]
    pub eval_every: Every,
    /// Tokens of one evaluation [default: 41943040, or 32768 on the CPU]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Evaluation")]
    pub eval_tokens: Option<usize>,
    /// Steps between evaluations on CORE, in addition to the last; needs --core-bundle; -1 for none at all
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "-1",
        help_heading = "Evaluation"
    )]
    pub core_metric_every: Every,
    /// Directory with CORE's tasks: nanochat's eval_bundle, or the folders in its eval_data [default: none]
    #[arg(long, value_name = "DIR", help_heading = "Evaluation")]
    pub core_bundle: Option<PathBuf>,
    /// Largest number of items of each CORE task
    #[arg(
        long, value_name = "ITEMS", default_value = "500", value_parser = count, help_heading = "Evaluation",
        visible_alias = "core-metric-max-per-task"
    )]
    pub core_max_per_task: usize,
    /// Steps between checkpoints, in addition to the last; -1 for no others
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "-1",
        help_heading = "Checkpoints"
    )]
    pub save_every: Every,
    /// Early checkpoints, which are kept: steps, shares such as 10%,25%, or off [default: 250,500,1000]
    #[arg(long, value_name = "STEPS", help_heading = "Checkpoints")]
    pub early_save: Option<EarlySave>,
    /// Continues the run of this name, with its flags, from its newest checkpoint
    #[arg(long, help_heading = "Checkpoints")]
    pub resume: bool,
    /// Settings that may differ from the checkpoint of a resumed run, such as trainer.steps [default: none]
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        help_heading = "Checkpoints"
    )]
    pub allow_changed: Vec<String>,

    /// Devices and precision.
    #[command(flatten)]
    #[serde(flatten)]
    pub hardware: Hardware,
    /// TOML or YAML file with more callbacks, by name [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub callbacks: Option<PathBuf>,
    /// Lists the callbacks that such a file can name, with keys and settings, and exits
    #[arg(long, help_heading = "Run")]
    pub list_callbacks: bool,
    /// Peak operations per second of a device, for MFU, such as 989.4e12 for an H100 in bf16 [default: no MFU]
    #[arg(long, value_name = "FLOPS", value_parser = positive, help_heading = "Run")]
    pub peak_flops: Option<f64>,
    /// Seed of the weights and of the data order
    #[arg(long, value_name = "SEED", default_value = "42", value_parser = natural, help_heading = "Run")]
    pub seed: u64,
    /// Directory in which each run gets its own directory
    #[arg(long, value_name = "DIR", default_value = "runs", help_heading = "Run")]
    pub runs: PathBuf,
    /// Name of the run [default: from depth and overrides, such as d8-w256-lr0.00012]
    #[arg(long, value_name = "NAME", value_parser = run_name, help_heading = "Run")]
    pub name: Option<String>,
    /// Prints the plan of the run, and exits
    #[arg(long, help_heading = "Run")]
    pub dry_run: bool,
    /// Steps between records of loss, norms and speed
    #[arg(long, value_name = "STEPS", default_value = "1", value_parser = steps, help_heading = "Run")]
    pub log_every: u64,
    /// Sinks in addition to metrics.jsonl and the console: tensorboard, wandb, both with a comma, or none
    /// [default: tensorboard, and wandb for an agent's run]
    #[arg(long, value_name = "SINKS", value_parser = log_backend, help_heading = "Run")]
    pub log_backend: Option<String>,
    /// Prints only warnings and errors
    #[arg(long, help_heading = "Run")]
    pub quiet: bool,
}

/// Returns the clap command of one run.
#[must_use]
pub fn command() -> Command {
    let about = "Trains one nanochat model: --depth decides all settings that are not given";
    command_line::command::<Args>("nanochat_sweep", about).after_help(
        "Flags may be written with underscores and as --flag=value, with Python's True, False and None.\n\
         Without flags, the program trains and ranks eight small trials on the CPU.\n\
         To evaluate a finished run on CORE, see  core --help\n\
         For a laptop, use  --depth 2 --n_embd_override 64 --device cpu --max-iterations 10",
    )
}

/// Parses the arguments of the process, or exits: code 2 with an error on stderr, or 0 after `--help`.
///
/// Values from the file of a W&B agent take precedence over the command line, which has them only as text.
#[must_use]
pub fn parse() -> Args {
    let values = match sweep_values() {
        Ok(values) => values.unwrap_or_default(),
        Err(error) => command()
            .error(ErrorKind::InvalidValue, error.to_string())
            .exit(),
    };
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    for (flag, value) in &values {
        if !(value.is_null() && is_flag(flag)) {
            argv.push(as_python(flag, value).into());
        }
    }
    try_parse_from(argv).unwrap_or_else(|error| error.exit())
}

/// Returns whether there is a flag of this name, with hyphens or underscores.
fn is_flag(name: &str) -> bool {
    let name = name.replace('_', "-");
    command().get_arguments().any(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(&name) || aliases.contains(&name.as_str())
    })
}

/// Returns a flag in an agent's spelling. Unset flags are included, so that an unknown one is an error.
fn as_python(flag: &str, value: &Value) -> String {
    match value {
        Value::Null => format!("--{flag}=None"),
        Value::Bool(true) => format!("--{flag}=True"),
        Value::Bool(false) => format!("--{flag}=False"),
        Value::String(text) => format!("--{flag}={text}"),
        value => format!("--{flag}={value}"),
    }
}

/// Parses the arguments of the process on top of those of the run that they resume, or exits.
#[must_use]
pub fn parse_over(saved: &Value) -> Args {
    read_over(command(), saved)
        .and_then(Args::checked)
        .unwrap_or_else(|error| error.exit())
}

/// Parses the saved arguments of a run.
///
/// # Errors
///
/// clap's error if the arguments are from another version of the program.
pub fn from_saved(saved: &Value) -> Result<Args, clap::Error> {
    let defaults = serde_json::to_value(try_parse_from(["nanochat_sweep"])?).unwrap_or_default();
    let program = std::iter::once("nanochat_sweep".to_owned());
    try_parse_from(program.chain(flags(saved, &defaults)))
}

/// Parses an argument list that starts with the program name.
///
/// # Errors
///
/// clap's error, which names the argument and what is expected; also for `--help` and `--version`.
pub fn try_parse_from(
    argv: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Args, clap::Error> {
    read(command(), argv).and_then(Args::checked)
}

impl Args {
    fn checked(self) -> Result<Self, clap::Error> {
        self.check()?;
        Ok(self)
    }

    /// Checks combinations of flags.
    fn check(&self) -> Result<(), clap::Error> {
        match (self.tokenizer(), self.vocab_size) {
            (Tokenizer::Bytes, Some(ids)) => Err(command().error(
                ErrorKind::ArgumentConflict,
                format!(
                    "--vocab-size {ids} needs --tokenizer bpe; bytes always have {BYTE_VOCAB} ids"
                ),
            )),
            _ => self
                .hardware
                .check(command)
                .and_then(|()| self.check_core()),
        }
    }

    /// Checks that both flags of CORE are given, or neither.
    fn check_core(&self) -> Result<(), clap::Error> {
        let text = match (self.core_metric_every, &self.core_bundle) {
            (Every::Steps(steps), None) => format!(
                "--core-metric-every {steps} needs --core-bundle DIR, a directory with CORE's tasks"
            ),
            (Every::Never, Some(dir)) => format!(
                "--core-bundle {} needs --core-metric-every STEPS; to evaluate a finished run, see \
                 `nanochat_sweep core --help`",
                dir.display()
            ),
            _ => return Ok(()),
        };
        Err(command().error(ErrorKind::MissingRequiredArgument, text))
    }

    /// Returns the steps of early checkpoints.
    #[must_use]
    pub fn early_save(&self) -> EarlySave {
        self.early_save.clone().unwrap_or_default()
    }

    /// Returns the names of the sinks, for [`bdh_callbacks::sinks`].
    #[must_use]
    pub fn log_backend(&self) -> &str {
        match &self.log_backend {
            Some(names) => names,
            None if is_agents_run() => "tensorboard,wandb",
            None => "tensorboard",
        }
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

    /// Checks flags that depend on the number of steps. If the run is limited by time, there is nothing to check.
    ///
    /// # Errors
    ///
    /// [`ValueError::NeverFires`] for given steps after the end of the run. Default early checkpoints may be after the
    /// end: a short run has none.
    pub fn check_steps(&self, length: impl Into<RunLength>) -> Result<(), ValueError> {
        let Some(steps) = length.into().steps() else {
            return Ok(());
        };
        if let Some(early) = &self.early_save
            && !early.beyond(steps).is_empty()
            && early.cadence(steps).is_none()
        {
            return Err(ValueError::NeverFires {
                flag: "--early-save",
                given: early.to_string(),
                steps,
                instead: format!("steps up to {steps}, shares such as 10%,25%,50%, or off"),
            });
        }
        if self.log_every > steps {
            return Err(ValueError::NeverFires {
                flag: "--log-every",
                given: self.log_every.to_string(),
                steps,
                instead: format!("{steps} or less"),
            });
        }
        Ok(())
    }

    /// Returns the defaults of the device.
    fn defaults(&self) -> Defaults {
        if self.hardware.is_cpu() {
            ON_CPU
        } else {
            ON_GPU
        }
    }

    /// Returns the kind of tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> Tokenizer {
        self.tokenizer.unwrap_or(self.defaults().tokenizer)
    }

    /// Returns the requested number of token ids. A tokenizer trained on little text may have fewer.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self.tokenizer() {
            Tokenizer::Bytes => BYTE_VOCAB,
            Tokenizer::Bpe => self.vocab_size.unwrap_or(BPE_VOCAB),
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
            depth: self.depth,
            vocab_size,
            sequence_len: self.max_seq_len(),
            window_pattern: self.window_pattern.clone(),
            aspect_ratio: self.aspect_ratio,
            head_dim: self.head_dim,
            precision: self.hardware.precision(),
            target_param_data_ratio: self.target_param_data_ratio,
            n_embd: self.n_embd_override,
            lr_override: self.lr_override,
            rates: LearningRates {
                embedding: self.embedding_lr,
                unembedding: self.unembedding_lr,
                matrix: self.matrix_lr,
                scalar: self.scalar_lr,
                ..LearningRates::default()
            },
            micro_batch: self.micro_batch(),
            devices: self.hardware.count(),
            total_batch_size: self.total_batch_size(),
            num_iterations: self.num_iterations,
            target_flops: self.target_flops,
            weight_decay: self.weight_decay,
        }
    }

    /// Returns the sequences in a forward pass, as given or up to the device's default.
    fn micro_batch(&self) -> MicroBatch {
        match self.device_batch_size {
            Some(sequences) => MicroBatch::Exactly(sequences),
            None => MicroBatch::AtMost(self.defaults().micro_batch),
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

    /// Returns a note about defaults that are smaller than nanochat's on this device, with the flags for nanochat's.
    #[must_use]
    pub fn reduced(&self) -> Option<String> {
        let (here, nanochat) = (self.defaults(), ON_GPU);
        let mut lines = Vec::new();
        if self.max_seq_len.is_none() && here.max_seq_len < nanochat.max_seq_len {
            lines.push(format!(
                "context {} (--max-seq-len {})",
                here.max_seq_len, nanochat.max_seq_len
            ));
        }
        if self.total_batch_size.is_none() && here.one_micro_batch {
            lines
                .push("one micro-batch per device and step (--total-batch-size 524288)".to_owned());
        }
        if self.tokenizer.is_none() && here.tokenizer != nanochat.tokenizer {
            lines.push("bytes as tokens (--tokenizer bpe)".to_owned());
        }
        if self.eval_tokens.is_none() && here.eval_tokens < nanochat.eval_tokens {
            lines.push(format!(
                "evaluation on {} tokens (--eval-tokens {})",
                here.eval_tokens, nanochat.eval_tokens
            ));
        }
        if lines.is_empty() {
            return None;
        }
        Some(format!(
            "defaults on the CPU are smaller than nanochat's: {}",
            lines.join(", ")
        ))
    }
}

/// Returns whether a W&B agent started this process.
#[must_use]
pub fn is_agents_run() -> bool {
    std::env::var_os("WANDB_SWEEP_ID").is_some_and(|id| !id.is_empty())
}

#[cfg(test)]
mod tests;
