//! Command line: build-nanogpt's constants as flags, for a model that a laptop can train.

use bdh::BoxError;
use bdh::clock::RunLength;
use bdh_examples::args::values::{count, natural, not_negative, positive, steps};
use bdh_examples::args::{Hardware, TimeBudget, command_line};
use bdh_models::gpt2::Gpt2Config;
use clap::Command;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// Settings in which a resumed run may differ, besides those of all programs: the name of its directory.
pub(crate) const MAY_CHANGE: [&str; 1] = ["user.args.log_dir"];

/// Arguments of one run. Serializes as the names and values of the flags.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
pub(crate) struct Args {
    /// Directory with initial weights as *.safetensors, such as Hugging Face's gpt2 [default: random weights]
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub(crate) weights: Option<PathBuf>,
    /// Number of blocks of attention and MLP; the histograms show h.0, h.5 and h.11
    #[arg(long, value_name = "LAYERS", default_value = "12", value_parser = count, help_heading = "Model")]
    pub(crate) n_layer: usize,
    /// Number of attention heads
    #[arg(long, value_name = "HEADS", default_value = "4", value_parser = count, help_heading = "Model")]
    pub(crate) n_head: usize,
    /// Channels of the residual stream
    #[arg(long, value_name = "CHANNELS", default_value = "64", value_parser = count, help_heading = "Model")]
    pub(crate) n_embd: usize,
    /// Number of token ids of a model with random weights [default: the tokenizer's, or 50257 for shards]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Model")]
    pub(crate) vocab_size: Option<usize>,

    /// Text to train on: a file, a directory, `shakespeare` or `synthetic`; or a directory of token shards, such as
    /// build-nanogpt's edu_fineweb10B [default: burn's Rust sources]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub(crate) data: Option<String>,
    /// Tokenizer's file or directory, such as Hugging Face's gpt2 [default: that of --weights, or bytes for text]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value = "64", value_parser = count, help_heading = "Data")]
    pub(crate) block_size: usize,
    /// Windows of a micro-batch
    #[arg(long, value_name = "WINDOWS", default_value = "8", value_parser = count, help_heading = "Data")]
    pub(crate) batch_size: usize,
    /// Tokens of a step, by gradient accumulation over micro-batches [default: one micro-batch for each device]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Data")]
    pub(crate) total_batch_size: Option<usize>,

    /// Number of steps
    #[arg(long, value_name = "STEPS", default_value = "300", value_parser = steps, help_heading = "Optimization", visible_alias = "steps")]
    pub(crate) max_steps: u64,
    /// Training time, such as 90s, 5m or 2h, in place of a number of steps [default: none]
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Optimization",
        conflicts_with = "max_steps"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_budget: Option<TimeBudget>,
    /// Peak learning rate; the last one is a tenth of it
    #[arg(long, value_name = "LR", default_value = "0.003", value_parser = positive, help_heading = "Optimization")]
    pub(crate) max_lr: f64,
    /// Steps in which the learning rate rises
    #[arg(long, value_name = "STEPS", default_value = "20", value_parser = natural, help_heading = "Optimization")]
    pub(crate) warmup_steps: u64,
    /// Weight decay of matrices and tables
    #[arg(long, value_name = "DECAY", default_value = "0.1", value_parser = not_negative, help_heading = "Optimization")]
    pub(crate) weight_decay: f64,

    /// Steps between evaluations, in addition to the first and the last
    #[arg(long, value_name = "STEPS", default_value = "25", value_parser = steps, help_heading = "Watching")]
    pub(crate) eval_freq: u64,
    /// Batches of an evaluation, always the same
    #[arg(long, value_name = "BATCHES", default_value = "20", value_parser = count, help_heading = "Watching")]
    pub(crate) eval_iters: usize,
    /// Steps between histograms, in addition to the last
    #[arg(long, value_name = "STEPS", default_value = "100", value_parser = steps, help_heading = "Watching")]
    pub(crate) histogram_freq: u64,
    /// Largest number of parameters to show [default: all of h.0, h.5 and h.11; 8 would not reach h.11]
    #[arg(long, value_name = "NUMBER", value_parser = count, help_heading = "Watching")]
    pub(crate) max_histograms: Option<usize>,
    /// Steps between samples of text, in addition to the last; they need a tokenizer
    #[arg(long, value_name = "STEPS", default_value = "250", value_parser = steps, help_heading = "Watching")]
    pub(crate) sample_every: u64,
    /// HellaSwag's validation file, hellaswag_val.jsonl [default: no evaluation on it]
    #[arg(long, value_name = "FILE", help_heading = "Watching")]
    pub(crate) hellaswag: Option<PathBuf>,
    /// Steps between evaluations on HellaSwag, in addition to the first and the last
    #[arg(long, value_name = "STEPS", default_value = "250", value_parser = steps, help_heading = "Watching")]
    pub(crate) hellaswag_every: u64,

    /// Devices and precision.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hardware: Hardware,
    /// Seed of weights and data order
    #[arg(long, value_name = "SEED", default_value = "1337", value_parser = natural, help_heading = "Run")]
    pub(crate) seed: u64,
    /// Directory of the run; a number is added if it exists and the run is a new one
    #[arg(long, value_name = "DIR", default_value = "log", help_heading = "Run")]
    pub(crate) log_dir: PathBuf,
    /// Steps between checkpoints, in addition to the last
    #[arg(long, value_name = "STEPS", default_value = "5000", value_parser = steps, help_heading = "Run")]
    pub(crate) save_every: u64,
    /// Continues the run in --log-dir, with its flags, from its newest checkpoint
    #[arg(long, help_heading = "Run")]
    pub(crate) resume: bool,
    /// Settings that may differ from the checkpoint of a resumed run, such as trainer.steps [default: none]
    #[arg(long, value_name = "KEYS", value_delimiter = ',', help_heading = "Run")]
    pub(crate) allow_changed: Vec<String>,
    /// Prints the plan of the run, and exits
    #[arg(long, help_heading = "Run")]
    pub(crate) dry_run: bool,
}

/// Returns the clap command.
fn command() -> Command {
    let about = "Trains a small GPT-2, and shows histograms of its weights and gradients";
    command_line::command::<Args>("gpt2_histograms", about)
        .after_help("Flags may be written with hyphens or underscores and as --flag=value.")
}

/// Parses the arguments of the process, or exits: code 2 with an error on stderr, or 0 after `--help`.
pub(crate) fn parse() -> Args {
    command_line::read(command(), std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Parses the arguments of the process on top of those of the run that they resume, or exits.
pub(crate) fn parse_over(saved: &Value) -> Args {
    command_line::read_over(command(), saved).unwrap_or_else(|error| error.exit())
}

impl Args {
    /// Returns the length of the run.
    pub(crate) fn length(&self) -> RunLength {
        TimeBudget::length_or(self.time_budget, self.max_steps)
    }

    /// Returns the flag that sets the length of the run.
    pub(crate) fn length_flag(&self) -> &'static str {
        match self.time_budget {
            Some(_) => "--time-budget",
            None => "--max-steps",
        }
    }

    /// Returns the number of micro-batches of a step, over all devices together.
    ///
    /// # Errors
    ///
    /// If `--total-batch-size` is not a multiple of what the devices train on at once.
    pub(crate) fn grad_accum_steps(&self) -> Result<usize, BoxError> {
        let devices = self.hardware.count();
        let Some(total) = self.total_batch_size else {
            return Ok(devices);
        };
        let (rows, seq_len) = (self.batch_size, self.block_size);
        let at_once = rows.saturating_mul(seq_len).saturating_mul(devices);
        if total.is_multiple_of(at_once) {
            return Ok(total / at_once * devices);
        }
        let text = format!(
            "--total-batch-size {total} is not a multiple of {at_once}, the tokens at once of --batch-size {rows} and \
             --block-size {seq_len} (devices: {devices}): use {}",
            total.div_ceil(at_once).saturating_mul(at_once)
        );
        Err(text.into())
    }

    /// Returns the settings of a model with the sizes of the flags and `vocab_size` token ids.
    pub(crate) fn config(&self, vocab_size: usize) -> Gpt2Config {
        Gpt2Config {
            block_size: self.block_size,
            vocab_size,
            precision: self.hardware.precision(),
            ..Gpt2Config::sized(self.n_layer, self.n_head, self.n_embd)
        }
    }
}
