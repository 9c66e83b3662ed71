//! The command line of `nanochat_sweep`, for one run.
//!
//! The flags are nanochat's own, plus the overrides that a sweep needs. Most have no default here: what is not
//! given is decided by the scaling laws ([`bdh_models::scaling`]) or by the device (`defaults.rs`).
//!
//! Everything that a user can get wrong ends in one sentence on stderr and exit code 2. A sweep agent reads a
//! run that stops at once as a reason to stop the sweep, so that sentence has to be enough.

pub mod command_line;
mod defaults;
mod early_save;
mod hardware;
mod normalize;
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
pub use self::values::{Every, ValueError};
use self::values::{
    count, fraction, log_backend, natural, not_negative, positive, run_name, steps,
};
use bdh_callbacks::wandb::sweep_values;
use bdh_models::nanochat::LearningRates;
use bdh_models::scaling::{MicroBatch, Request};
use serde_json::Value;

/// What one run was asked to be.
///
/// Serializes as the flags' names and values, for the record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Args {
    /// Transformer blocks. Decides everything that is not set below
    #[arg(long, value_name = "LAYERS", default_value = "12", value_parser = count, help_heading = "Model")]
    pub depth: usize,
    /// Width in channels, a multiple of the head size [default: depth x aspect ratio]
    #[arg(long, value_name = "CHANNELS", value_parser = count, help_heading = "Model")]
    pub n_embd_override: Option<usize>,
    /// Channels per layer, from which the width follows
    #[arg(long, value_name = "CHANNELS", default_value = "64", value_parser = count, help_heading = "Model")]
    pub aspect_ratio: usize,
    /// Channels of one attention head [default: 128, or 64 with --n-embd-override]
    #[arg(long, value_name = "CHANNELS", value_parser = count, help_heading = "Model")]
    pub head_dim: Option<usize>,
    /// Context length in tokens [default: 2048, or 256 on the CPU]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Model")]
    pub max_seq_len: Option<usize>,
    /// Attention window of each layer, tiled: L the whole context, S a quarter
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "SSSL",
        help_heading = "Model"
    )]
    pub window_pattern: String,

    /// A file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub data: Option<String>,
    /// How text becomes token ids: `bytes` or `bpe` [default: bpe, or bytes on the CPU]
    #[arg(
        long,
        value_name = "KIND",
        hide_possible_values = true,
        help_heading = "Data"
    )]
    pub tokenizer: Option<Tokenizer>,
    /// Token ids of the bpe tokenizer [default: 32768; bytes always have 257]
    #[arg(long, value_name = "IDS", value_parser = count, help_heading = "Data")]
    pub vocab_size: Option<usize>,

    /// Optimizer updates; -1 for the laws'
    #[arg(
        long, value_name = "STEPS", value_parser = steps, help_heading = "Horizon",
        visible_alias = "max-iterations", visible_alias = "steps"
    )]
    pub num_iterations: Option<u64>,
    /// FLOPs to spend, when the number of steps is not given; -1 for the laws'
    #[arg(long, value_name = "FLOPS", value_parser = positive, help_heading = "Horizon")]
    pub target_flops: Option<f64>,
    /// Tokens per scaling parameter; learning rates go by it, steps given or not
    #[arg(long, value_name = "RATIO", default_value = "12", value_parser = positive, help_heading = "Horizon")]
    pub target_param_data_ratio: f64,

    /// Sequences in a forward pass [default: up to 32, or 8 on the CPU]
    #[arg(
        long, value_name = "SEQUENCES", value_parser = count, help_heading = "Batch",
        visible_alias = "micro-batch"
    )]
    pub device_batch_size: Option<usize>,
    /// Tokens in one step, of all devices [default: by scaling law, or one micro-batch each on the CPU]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Batch")]
    pub total_batch_size: Option<usize>,

    /// Muon's learning rate as it is used; moves every other group by the same factor
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
    /// Muon's weight decay as it is used; nanochat scales its own [default: by scaling law]
    #[arg(long, value_name = "DECAY", value_parser = not_negative, help_heading = "Optimization")]
    pub weight_decay: Option<f64>,
    /// Steps over which the learning rates rise
    #[arg(long, value_name = "STEPS", default_value = "40", value_parser = natural, help_heading = "Optimization")]
    pub warmup_steps: u64,
    /// Share of the run over which the learning rates fall
    #[arg(long, value_name = "SHARE", default_value = "0.65", value_parser = fraction, help_heading = "Optimization")]
    pub warmdown_ratio: f64,
    /// Last learning rate, as a share of the peak
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = fraction, help_heading = "Optimization")]
    pub final_lr_frac: f64,

    /// Steps between evaluations, besides the first and the last; -1 for none
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "250",
        help_heading = "Evaluation"
    )]
    pub eval_every: Every,
    /// Tokens that one evaluation sees [default: 41943040, or 32768 on the CPU]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Evaluation")]
    pub eval_tokens: Option<usize>,
    /// Steps between evaluations on CORE, besides the last; takes --core-bundle; -1 for none
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
    /// Items of each CORE task at most
    #[arg(
        long, value_name = "ITEMS", default_value = "500", value_parser = count, help_heading = "Evaluation",
        visible_alias = "core-metric-max-per-task"
    )]
    pub core_max_per_task: usize,
    /// Steps between checkpoints, besides the last; -1 for none
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "-1",
        help_heading = "Checkpoints"
    )]
    pub save_every: Every,
    /// Checkpoints kept for good: steps, shares such as 10%,25%, or off [default: 250,500,1000]
    #[arg(long, value_name = "STEPS", help_heading = "Checkpoints")]
    pub early_save: Option<EarlySave>,
    /// Continues the run of this name, with its flags, from its newest checkpoint
    #[arg(long, help_heading = "Checkpoints")]
    pub resume: bool,
    /// Lets a resumed run differ from its checkpoint in these settings, such as trainer.steps [default: none]
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        help_heading = "Checkpoints"
    )]
    pub allow_changed: Vec<String>,

    /// Where it computes, and how.
    #[command(flatten)]
    #[serde(flatten)]
    pub hardware: Hardware,
    /// More callbacks, by name, from a TOML or YAML file [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub callbacks: Option<PathBuf>,
    /// Lists the callbacks that such a file can name, with keys and settings, and stops
    #[arg(long, help_heading = "Run")]
    pub list_callbacks: bool,
    /// Peak operations per second, for MFU: 989.4e12 for an H100 in bf16 [default: no MFU]
    #[arg(long, value_name = "FLOPS", value_parser = positive, help_heading = "Run")]
    pub peak_flops: Option<f64>,
    /// Seed of the weights and of the order of the data
    #[arg(long, value_name = "SEED", default_value = "42", value_parser = natural, help_heading = "Run")]
    pub seed: u64,
    /// Directory under which each run has its own
    #[arg(long, value_name = "DIR", default_value = "runs", help_heading = "Run")]
    pub runs: PathBuf,
    /// Name of the run [default: from depth and overrides, such as d8-w256-lr0.00012]
    #[arg(long, value_name = "NAME", value_parser = run_name, help_heading = "Run")]
    pub name: Option<String>,
    /// Prints what the run would be, and stops
    #[arg(long, help_heading = "Run")]
    pub dry_run: bool,
    /// Steps between records of loss, norms and speed
    #[arg(long, value_name = "STEPS", default_value = "1", value_parser = steps, help_heading = "Run")]
    pub log_every: u64,
    /// Where records go besides metrics.jsonl and the console: tensorboard, wandb, both with a comma, or none
    /// [default: tensorboard, and wandb for an agent's run]
    #[arg(long, value_name = "SINKS", value_parser = log_backend, help_heading = "Run")]
    pub log_backend: Option<String>,
    /// Prints errors only
    #[arg(long, help_heading = "Run")]
    pub quiet: bool,
}

/// The command as clap knows it.
#[must_use]
pub fn command() -> Command {
    let about =
        "Trains one nanochat model: --depth decides the rest, overrides decide the exceptions";
    command_line::command::<Args>("nanochat_sweep", about).after_help(
        "Flags may be written with underscores and as --flag=value; True, False and None are understood.\n\
         Without any flag: eight small trials on the CPU, ranked.\n\
         A run that is there, evaluated on CORE:  core --help\n\
         On a laptop:  --depth 2 --n_embd_override 64 --device cpu --max-iterations 10",
    )
}

/// Reads the program's own arguments, or ends it: code 2 and a sentence on stderr, or 0 after `--help`.
///
/// What an agent of W&B's has chosen wins: its file has the values with their types, the command line only texts.
#[must_use]
pub fn parse() -> Args {
    let chosen = sweep_values().unwrap_or_else(|error| {
        command()
            .error(ErrorKind::InvalidValue, error.to_string())
            .exit()
    });
    let chosen = chosen.unwrap_or_default();
    let chosen = chosen
        .iter()
        .filter(|(flag, value)| !(value.is_null() && is_flag(flag)))
        .map(|(flag, value)| OsString::from(as_python(flag, value)));
    try_parse_from(std::env::args_os().chain(chosen)).unwrap_or_else(|error| error.exit())
}

/// Whether there is a flag of this name, in either spelling.
fn is_flag(name: &str) -> bool {
    let name = name.replace('_', "-");
    let command = command();
    let is_it = |arg: &clap::Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(&name) || aliases.contains(&name.as_str())
    };
    command.get_arguments().any(is_it)
}

/// A flag as an agent writes it, unset ones too, so that one that nobody has is refused.
fn as_python(flag: &str, value: &Value) -> String {
    match value {
        Value::Null => format!("--{flag}=None"),
        Value::Bool(true) => format!("--{flag}=True"),
        Value::Bool(false) => format!("--{flag}=False"),
        Value::String(text) => format!("--{flag}={text}"),
        value => format!("--{flag}={value}"),
    }
}

/// Reads the program's own arguments on top of those of the run that they resume, or ends it.
#[must_use]
pub fn parse_over(saved: &Value) -> Args {
    read_over(command(), saved)
        .and_then(Args::checked)
        .unwrap_or_else(|error| error.exit())
}

/// The arguments of a run, as it saved them.
///
/// # Errors
///
/// clap's, if they are of another version of the program.
pub fn from_saved(saved: &Value) -> Result<Args, clap::Error> {
    let defaults = serde_json::to_value(try_parse_from(["nanochat_sweep"])?).unwrap_or_default();
    let program = std::iter::once("nanochat_sweep".to_owned());
    try_parse_from(program.chain(flags(saved, &defaults)))
}

/// Reads an argument list, program name first.
///
/// # Errors
///
/// clap's, which names the argument and says what was expected; also for `--help` and `--version`.
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

    /// What two flags may be wrong about together.
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

    /// Whether CORE has both its flags, or neither.
    fn check_core(&self) -> Result<(), clap::Error> {
        let text = match (self.core_metric_every, &self.core_bundle) {
            (Every::Steps(steps), None) => format!(
                "--core-metric-every {steps} needs --core-bundle DIR, a directory with CORE's tasks"
            ),
            (Every::Never, Some(dir)) => format!(
                "--core-bundle {} needs --core-metric-every STEPS; for a run that is there, see \
                 `nanochat_sweep core --help`",
                dir.display()
            ),
            _ => return Ok(()),
        };
        Err(command().error(ErrorKind::MissingRequiredArgument, text))
    }

    /// When early checkpoints are saved.
    #[must_use]
    pub fn early_save(&self) -> EarlySave {
        self.early_save.clone().unwrap_or_default()
    }

    /// Names of the sinks, for [`bdh_callbacks::sinks`].
    #[must_use]
    pub fn log_backend(&self) -> &str {
        let is_agents = std::env::var_os("WANDB_SWEEP_ID").is_some_and(|id| !id.is_empty());
        let usual = if is_agents {
            "tensorboard,wandb"
        } else {
            "tensorboard"
        };
        self.log_backend.as_deref().unwrap_or(usual)
    }

    /// What turns out to be wrong when the number of steps is known.
    ///
    /// # Errors
    ///
    /// [`ValueError::NeverFires`] for steps that were asked for and lie beyond the run. The default early
    /// checkpoints may: a short run has none.
    pub fn check_steps(&self, steps: u64) -> Result<(), ValueError> {
        let never = |flag, given, instead| {
            Err(ValueError::NeverFires {
                flag,
                given,
                steps,
                instead,
            })
        };
        match &self.early_save {
            Some(early) if !early.beyond(steps).is_empty() && early.cadence(steps).is_none() => {
                let instead = format!("steps up to {steps}, shares such as 10%,25%,50%, or off");
                never("--early-save", early.to_string(), instead)
            }
            _ if self.log_every > steps => never(
                "--log-every",
                self.log_every.to_string(),
                format!("{steps} or less"),
            ),
            _ => Ok(()),
        }
    }

    /// What the device decides.
    fn defaults(&self) -> Defaults {
        if self.hardware.is_cpu() {
            ON_CPU
        } else {
            ON_GPU
        }
    }

    /// How text becomes token ids.
    #[must_use]
    pub fn tokenizer(&self) -> Tokenizer {
        self.tokenizer.unwrap_or(self.defaults().tokenizer)
    }

    /// Token ids to aim for; a tokenizer trained on little text may end up with fewer.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self.tokenizer() {
            Tokenizer::Bytes => BYTE_VOCAB,
            Tokenizer::Bpe => self.vocab_size.unwrap_or(BPE_VOCAB),
        }
    }

    /// Context length in tokens.
    #[must_use]
    pub fn max_seq_len(&self) -> usize {
        self.max_seq_len.unwrap_or(self.defaults().max_seq_len)
    }

    /// Tokens that one evaluation sees.
    #[must_use]
    pub fn eval_tokens(&self) -> usize {
        self.eval_tokens.unwrap_or(self.defaults().eval_tokens)
    }

    /// The name of the run's directory.
    #[must_use]
    pub fn run_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let width = self
            .n_embd_override
            .map(|width| format!("-w{width}"))
            .unwrap_or_default();
        let lr = self
            .lr_override
            .map(|lr| format!("-lr{lr}"))
            .unwrap_or_default();
        format!("d{}{width}{lr}", self.depth)
    }

    /// What the scaling laws are asked, for a tokenizer with this many ids.
    #[must_use]
    pub fn request(&self, vocab_size: usize) -> Request {
        let defaults = self.defaults();
        let sequence_len = self.max_seq_len();
        let micro_batch = self.device_batch_size.map_or(
            MicroBatch::AtMost(defaults.micro_batch),
            MicroBatch::Exactly,
        );
        let devices = self.hardware.count();
        let at_once = || {
            micro_batch
                .sequences()
                .saturating_mul(sequence_len)
                .saturating_mul(devices)
        };
        Request {
            depth: self.depth,
            vocab_size,
            sequence_len,
            window_pattern: self.window_pattern.clone(),
            aspect_ratio: self.aspect_ratio,
            head_dim: self.head_dim,
            precision: self.hardware.precision(),
            target_param_data_ratio: self.target_param_data_ratio,
            n_embd: self.n_embd_override,
            lr: self.lr_override,
            rates: LearningRates {
                embedding: self.embedding_lr,
                unembedding: self.unembedding_lr,
                matrix: self.matrix_lr,
                scalar: self.scalar_lr,
                ..LearningRates::default()
            },
            micro_batch,
            devices,
            total_batch_size: self
                .total_batch_size
                .or_else(|| defaults.one_micro_batch.then(at_once)),
            num_iterations: self.num_iterations,
            target_flops: self.target_flops,
            weight_decay: self.weight_decay,
        }
    }

    /// What was made smaller than nanochat's because the device is small, and how to get nanochat's.
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
            lines.push("one micro-batch a step and device (--total-batch-size 524288)".to_owned());
        }
        if self.tokenizer.is_none() && here.tokenizer != nanochat.tokenizer {
            lines.push("bytes for tokens (--tokenizer bpe)".to_owned());
        }
        if self.eval_tokens.is_none() && here.eval_tokens < nanochat.eval_tokens {
            lines.push(format!(
                "evaluation on {} tokens (--eval-tokens {})",
                here.eval_tokens, nanochat.eval_tokens
            ));
        }
        (!lines.is_empty()).then(|| {
            format!(
                "smaller on the CPU than nanochat's own: {}",
                lines.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests;
