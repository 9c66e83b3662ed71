//! Command line: build-nanogpt's constants as flags, for a model that a laptop can train.

use bdh::clock::RunLength;
use bdh_examples::args::values::{count, natural, not_negative, positive, steps};
use bdh_examples::args::{Hardware, TimeBudget, command_line};
use bdh_models::gpt2::Gpt2Config;
use serde::Serialize;
use std::path::PathBuf;

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

    /// Text to train on: a file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub(crate) data: Option<String>,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value = "64", value_parser = count, help_heading = "Data")]
    pub(crate) block_size: usize,
    /// Windows of a step
    #[arg(long, value_name = "WINDOWS", default_value = "8", value_parser = count, help_heading = "Data")]
    pub(crate) batch_size: usize,

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

    /// Devices and precision.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hardware: Hardware,
    /// Seed of weights and data order
    #[arg(long, value_name = "SEED", default_value = "1337", value_parser = natural, help_heading = "Run")]
    pub(crate) seed: u64,
    /// Directory of the run; a number is added if it exists
    #[arg(long, value_name = "DIR", default_value = "log", help_heading = "Run")]
    pub(crate) log_dir: PathBuf,
    /// Prints the plan of the run, and exits
    #[arg(long, help_heading = "Run")]
    pub(crate) dry_run: bool,
}

/// Parses the arguments of the process, or exits: code 2 with an error on stderr, or 0 after `--help`.
pub(crate) fn parse() -> Args {
    let about = "Trains a small GPT-2, and shows histograms of its weights and gradients";
    let command = command_line::command::<Args>("gpt2_histograms", about)
        .after_help("Flags may be written with hyphens or underscores and as --flag=value.");
    command_line::read(command, std::env::args_os()).unwrap_or_else(|error| error.exit())
}

impl Args {
    /// Returns the length of the run.
    pub(crate) fn length(&self) -> RunLength {
        TimeBudget::length_or(self.time_budget, self.max_steps)
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
