//! The command line: build-nanogpt's constants, for a model that a laptop trains.

use bdh_examples::args::values::{count, natural, not_negative, positive, steps};
use bdh_examples::args::{Hardware, command_line};
use bdh_models::gpt2::Gpt2Config;
use serde::Serialize;
use std::path::PathBuf;

/// What one run was asked to be. Serializes as the flags' names and values.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
pub(crate) struct Args {
    /// A directory with GPT-2's weights as *.safetensors, such as Hugging Face's, to begin with [default: none]
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub(crate) weights: Option<PathBuf>,
    /// Blocks of attention and MLP; the histograms show h.0, h.5 and h.11
    #[arg(long, value_name = "LAYERS", default_value = "12", value_parser = count, help_heading = "Model")]
    pub(crate) n_layer: usize,
    /// Attention heads
    #[arg(long, value_name = "HEADS", default_value = "4", value_parser = count, help_heading = "Model")]
    pub(crate) n_head: usize,
    /// Channels of the residual stream
    #[arg(long, value_name = "CHANNELS", default_value = "64", value_parser = count, help_heading = "Model")]
    pub(crate) n_embd: usize,

    /// A file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub(crate) data: Option<String>,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value = "64", value_parser = count, help_heading = "Data")]
    pub(crate) block_size: usize,
    /// Windows in a step
    #[arg(long, value_name = "WINDOWS", default_value = "8", value_parser = count, help_heading = "Data")]
    pub(crate) batch_size: usize,

    /// Steps of the run
    #[arg(long, value_name = "STEPS", default_value = "300", value_parser = steps, help_heading = "Optimization", visible_alias = "steps")]
    pub(crate) max_steps: u64,
    /// Highest learning rate; a tenth of it is the last
    #[arg(long, value_name = "LR", default_value = "0.003", value_parser = positive, help_heading = "Optimization")]
    pub(crate) max_lr: f64,
    /// Steps over which the learning rate rises
    #[arg(long, value_name = "STEPS", default_value = "20", value_parser = natural, help_heading = "Optimization")]
    pub(crate) warmup_steps: u64,
    /// Weight decay of matrices and tables
    #[arg(long, value_name = "DECAY", default_value = "0.1", value_parser = not_negative, help_heading = "Optimization")]
    pub(crate) weight_decay: f64,

    /// Steps between validations, besides the first and the last
    #[arg(long, value_name = "STEPS", default_value = "25", value_parser = steps, help_heading = "Watching")]
    pub(crate) eval_freq: u64,
    /// Batches of a validation, the same ones each time
    #[arg(long, value_name = "BATCHES", default_value = "20", value_parser = count, help_heading = "Watching")]
    pub(crate) eval_iters: usize,
    /// Steps between histograms, besides the last
    #[arg(long, value_name = "STEPS", default_value = "100", value_parser = steps, help_heading = "Watching")]
    pub(crate) histogram_freq: u64,
    /// Most parameters to show [default: all that are chosen; 8 would never reach h.11]
    #[arg(long, value_name = "NUMBER", value_parser = count, help_heading = "Watching")]
    pub(crate) max_histograms: Option<usize>,

    /// Where it computes, and how.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hardware: Hardware,
    /// Seed of weights and data order
    #[arg(long, value_name = "SEED", default_value = "1337", value_parser = natural, help_heading = "Run")]
    pub(crate) seed: u64,
    /// Directory of the run; if it is there already, the next number is added
    #[arg(long, value_name = "DIR", default_value = "log", help_heading = "Run")]
    pub(crate) log_dir: PathBuf,
    /// Prints what the run would be, and stops
    #[arg(long, help_heading = "Run")]
    pub(crate) dry_run: bool,
}

/// Reads the program's own arguments, or ends it: code 2 and a sentence on stderr, or 0 after `--help`.
pub(crate) fn parse() -> Args {
    let about = "Trains a small GPT-2, and shows how its weights and gradients are distributed";
    let command = command_line::command::<Args>("gpt2_histograms", about)
        .after_help("Flags may be written with hyphens or underscores and as --flag=value.");
    command_line::read(command, std::env::args_os()).unwrap_or_else(|error| error.exit())
}

impl Args {
    /// The settings of a model of its own, for this many token ids.
    pub(crate) fn config(&self, vocab_size: usize) -> Gpt2Config {
        let sized = Gpt2Config::sized(self.n_layer, self.n_head, self.n_embd);
        let precision = self.hardware.precision();
        Gpt2Config {
            block_size: self.block_size,
            vocab_size,
            precision,
            ..sized
        }
    }
}
