//! Command line of `nanochat_sweep` for one run.
//!
//! The flags are nanochat's, each with nanochat's meaning, plus overrides for sweeps. Most have no fixed default: the
//! scaling laws ([`bdh_models::scaling`]) or the device (`defaults.rs`) decide missing values. A flag of nanochat that
//! has no effect here is accepted with a line of [`Args::notes`].
//!
//! Every user error ends with one sentence on stderr and exit code 2. A sweep agent may stop the sweep after such a
//! run, so the sentence must explain the error.

mod check;
mod choices;
pub mod command_line;
mod defaults;
mod early_save;
mod hardware;
mod normalize;
mod notes;
mod resolve;
mod saved;
mod time_budget;
mod tokenizer;
pub mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;
use clap::error::ErrorKind;
use serde::Serialize;

pub use self::choices::{LogStyle, MetricNames};
use self::choices::{for_all, is_default, is_never};
pub use self::command_line::may_change;
use self::command_line::{read, read_over};
use self::defaults::{BPE_VOCAB, BYTE_VOCAB, Defaults, ON_CPU, ON_GPU};
pub use self::early_save::EarlySave;
pub use self::hardware::Hardware;
pub use self::normalize::normalize;
pub use self::saved::from_saved;
pub use self::time_budget::TimeBudget;
pub use self::tokenizer::Tokenizer;
pub use self::values::{Every, ValueError};
use self::values::{
    count, count_or_all, fraction, log_backend, natural, not_negative, positive, run_name, steps,
};
use crate::nanochat_home::NanochatHome;
use bdh_callbacks::wandb::sweep_values;
use bdh_data::Packing;
use bdh_models::nanochat::NanochatVersion;
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
    /// Attention window of each layer, repeated: L is the whole context, S a short one
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "SSSL",
        help_heading = "Model"
    )]
    pub window_pattern: String,
    /// Short attention window in tokens, with --nanochat-version next [default: 512]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Model")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_seq_len: Option<usize>,
    /// Version of nanochat whose model and scaling laws are used: master or next
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "master",
        help_heading = "Model"
    )]
    #[serde(skip_serializing_if = "is_default")]
    pub nanochat_version: NanochatVersion,

    /// Data to train on: a file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, value_name = "DATA", help_heading = "Data")]
    pub data: Option<String>,
    /// Refuses data with files that cannot be read, which are otherwise left out with a note
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "is_default")]
    pub strict_data: bool,
    /// Number of token shards to train on, the first ones; -1 for all [default: all]
    #[arg(long, value_name = "SHARDS", value_parser = count, help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_shards: Option<usize>,
    /// Packing of documents into rows: best-fit cuts long documents into pieces, nanochat crops them
    #[arg(
        long,
        value_name = "PACKING",
        default_value = "best-fit",
        help_heading = "Data"
    )]
    #[serde(skip_serializing_if = "is_default")]
    pub packing: Packing,
    /// Tokenizer: `bytes`, `bpe`, or a tokenizer's file or directory [default: bpe, or bytes on the CPU]
    #[arg(long, value_name = "KIND|PATH", help_heading = "Data")]
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
    /// Tokens per scaling parameter, which decide learning rates even if the number of steps is given; -1 is 12
    #[arg(long, value_name = "RATIO", default_value = "12", value_parser = positive, help_heading = "Duration")]
    pub target_param_data_ratio: f64,

    /// Sequences in a forward pass; -1 is the default [default: up to 32, or 8 on the CPU]
    #[arg(
        long, value_name = "SEQUENCES", value_parser = count, help_heading = "Batch",
        visible_alias = "micro-batch"
    )]
    pub device_batch_size: Option<usize>,
    /// Tokens in one step, over all devices; -1 is the default [default: by law, or one micro-batch each on the CPU]
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
    /// Muon's weight decay at 12 layers and a batch of 524288 tokens, which the law scales [default: 0.28]
    #[arg(long, value_name = "DECAY", value_parser = not_negative, help_heading = "Optimization")]
    pub weight_decay: Option<f64>,
    /// Muon's weight decay, without scaling [default: by scaling law, from --weight-decay]
    #[arg(long, value_name = "DECAY", value_parser = not_negative, help_heading = "Optimization")]
    // Always saved: arguments without it have `weight_decay` in this meaning (`saved.rs`).
    pub weight_decay_override: Option<f64>,
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
    /// Steps between evaluations on CORE with --core-bundle, in addition to the last; -1 for none at all
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
    /// Largest number of items of each CORE task; -1 for all
    #[arg(
        long, value_name = "ITEMS", default_value = "500", value_parser = count_or_all, help_heading = "Evaluation",
        visible_alias = "core-metric-max-per-task"
    )]
    #[serde(serialize_with = "for_all")]
    pub core_max_per_task: usize,
    /// Steps between samples of generated text, in addition to the last; -1 for none at all
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "-1",
        help_heading = "Evaluation"
    )]
    #[serde(skip_serializing_if = "is_never")]
    pub sample_every: Every,
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
    /// Checkpoint to continue from, by its step: the run's own, or nanochat's; -1 for none [default: none]
    #[arg(long, value_name = "STEP", value_parser = natural, help_heading = "Checkpoints")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_from_step: Option<u64>,
    /// Weights to begin with: a directory of nanochat's checkpoints, a checkpoint or a safetensors file [default: none]
    #[arg(long, value_name = "PATH", help_heading = "Checkpoints")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// Step of the checkpoint in --init-from; -1 is the default [default: the newest]
    #[arg(long, value_name = "STEP", value_parser = natural, help_heading = "Checkpoints", requires = "init_from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_step: Option<u64>,
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
    /// Accepted for scripts of nanochat: fp8 is not available, and the run has the precision of --precision
    #[arg(long, help_heading = "Run")]
    #[serde(skip_serializing_if = "is_default")]
    pub fp8: bool,
    /// Scaling of fp8, tensorwise or rowwise, without effect [default: tensorwise]
    #[arg(long, value_name = "RECIPE", value_parser = ["tensorwise", "rowwise"], hide_possible_values = true, help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp8_recipe: Option<String>,
    /// TOML or YAML file with more callbacks, by name [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub callbacks: Option<PathBuf>,
    /// Lists the callbacks that such a file can name, with keys and settings, and exits
    #[arg(long, help_heading = "Run")]
    pub list_callbacks: bool,
    /// Peak operations per second of a device, for MFU, such as 989.4e12 [default: by the GPU's name, or no MFU]
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
    /// Name of the run in nanochat's spelling; --name is the same setting [default: none]
    #[arg(long, value_name = "NAME", value_parser = run_name, help_heading = "Run")]
    #[serde(skip)] // `name` has it
    pub model_tag: Option<String>,
    /// Name of the run on W&B, which turns W&B on; `dummy` is no W&B [default: dummy]
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Lines of the run on the console: plain, or those that nanochat's scripts look for
    #[arg(
        long,
        value_name = "STYLE",
        default_value = "plain",
        hide_possible_values = true,
        help_heading = "Run"
    )]
    #[serde(skip_serializing_if = "is_default")]
    pub log_style: LogStyle,
    /// Names of metrics in W&B and TensorBoard: bdh or nanochat; metrics.jsonl always has those of bdh
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "bdh",
        hide_possible_values = true,
        help_heading = "Run"
    )]
    #[serde(skip_serializing_if = "is_default")]
    pub metric_names: MetricNames,
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
         With NANOCHAT_BASE_DIR, --data, --tokenizer and --core-bundle default to what nanochat keeps there.\n\
         To evaluate a finished run on CORE, see  core --help\n\
         For a laptop, use  --depth 2 --n_embd_override 64 --device cpu --max-iterations 10",
    )
}

/// Parses the arguments of the process, or exits: code 2 with an error on stderr, or 0 after `--help`.
///
/// Values from the file of a W&B agent take precedence over the command line, which has them only as text. With
/// `NANOCHAT_BASE_DIR`, missing values come from [nanochat's home](Args::with_home).
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
    let parsed = try_parse_from(argv).unwrap_or_else(|error| error.exit());
    match NanochatHome::given() {
        Some(home) => parsed.with_home(&home),
        None => parsed,
    }
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
///
/// Saved arguments of earlier versions keep their meaning, as in [`from_saved`].
#[must_use]
pub fn parse_over(saved: &Value) -> Args {
    read_over(command(), &saved::renamed(saved))
        .and_then(Args::checked)
        .unwrap_or_else(|error| error.exit())
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

/// Returns whether a W&B agent started this process.
#[must_use]
pub fn is_agents_run() -> bool {
    std::env::var_os("WANDB_SWEEP_ID").is_some_and(|id| !id.is_empty())
}

#[cfg(test)]
mod tests;
