//! Command line: the constants of the original as flags.

use crate::preset::{Preset, Sizes};
use bdh::clock::RunLength;
use bdh_examples::args::values::{
    ValueError, count, fraction, log_backend, natural, not_negative, positive, run_name, steps,
};
use bdh_examples::args::{Hardware, TimeBudget, command_line};
use bdh_models::bdh_model::BdhConfig;
use clap::Command;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// Arguments of one run. Serializes as the names and values of the flags.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
pub(crate) struct Args {
    /// Sizes: tiny (0.4M parameters), small (1.6M) or paper (25M) [default: tiny on the CPU, paper on a GPU]
    #[arg(
        long,
        value_name = "SIZE",
        hide_possible_values = true,
        help_heading = "Model"
    )]
    pub(crate) preset: Option<Preset>,
    /// Number of layers, which share their weights [default: by preset]
    #[arg(long, value_name = "LAYERS", value_parser = count, help_heading = "Model")]
    pub(crate) n_layer: Option<usize>,
    /// Channels of the residual stream [default: by preset]
    #[arg(long, value_name = "CHANNELS", value_parser = count, help_heading = "Model")]
    pub(crate) n_embd: Option<usize>,
    /// Number of heads
    #[arg(long, value_name = "HEADS", default_value = "4", value_parser = count, help_heading = "Model")]
    pub(crate) n_head: usize,
    /// Neurons per channel [default: by preset]
    #[arg(long, value_name = "NEURONS", value_parser = count, help_heading = "Model")]
    pub(crate) mlp_internal_dim_multiplier: Option<usize>,
    /// Share of neurons that dropout sets to 0 in training
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = fraction, help_heading = "Model")]
    pub(crate) dropout: f64,

    /// Text to train on: a file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub(crate) data: Option<String>,
    /// Bytes of a window [default: by preset]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Data")]
    pub(crate) block_size: Option<usize>,
    /// Windows of a step [default: by preset]
    #[arg(long, value_name = "WINDOWS", value_parser = count, help_heading = "Data")]
    pub(crate) batch_size: Option<usize>,

    /// Number of steps [default: by preset]
    #[arg(long, value_name = "STEPS", value_parser = steps, help_heading = "Optimization", visible_alias = "steps")]
    pub(crate) max_iters: Option<u64>,
    /// Training time, such as 90s, 5m or 2h, in place of a number of steps [default: none]
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Optimization",
        conflicts_with = "max_iters"
    )]
    // Absent if unset, as in the arguments that were saved before the flag existed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_budget: Option<TimeBudget>,
    /// Peak learning rate of AdamW
    #[arg(long, value_name = "LR", default_value = "0.001", value_parser = positive, help_heading = "Optimization")]
    pub(crate) learning_rate: f64,
    /// Steps in which the learning rate rises
    #[arg(long, value_name = "STEPS", default_value = "0", value_parser = natural, help_heading = "Optimization")]
    pub(crate) warmup_iters: u64,
    /// Last learning rate of the cosine schedule, as a share of the peak; 1 keeps it constant
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = fraction, help_heading = "Optimization")]
    pub(crate) final_lr_frac: f64,
    /// Weight decay of all parameters
    #[arg(long, value_name = "DECAY", default_value = "0.1", value_parser = not_negative, help_heading = "Optimization")]
    pub(crate) weight_decay: f64,
    /// Largest norm of the gradients, which are clipped to it [default: no clipping, like the original]
    #[arg(long, value_name = "NORM", value_parser = positive, help_heading = "Optimization")]
    pub(crate) grad_clip: Option<f64>,

    /// Sinks in addition to metrics.jsonl and the console: wandb, tensorboard, both with a comma, or none
    #[arg(long, value_name = "SINKS", default_value = "wandb", value_parser = log_backend, help_heading = "Logging")]
    pub(crate) log_backend: String,
    /// W&B's project [default: WANDB_PROJECT, or bdh-training]
    #[arg(long, value_name = "PROJECT", help_heading = "Logging")]
    pub(crate) wandb_project: Option<String>,
    /// W&B's user or team [default: WANDB_ENTITY, or the key's own]
    #[arg(long, value_name = "ENTITY", help_heading = "Logging")]
    pub(crate) wandb_entity: Option<String>,
    /// Steps between records of loss, learning rate, gradient norms and speed; 1 for every step
    #[arg(long, value_name = "STEPS", default_value = "10", value_parser = steps, help_heading = "Logging")]
    pub(crate) log_train_freq: u64,
    /// Steps between evaluations and statistics of weights and activations, in addition to the last
    #[arg(long, value_name = "STEPS", default_value = "500", value_parser = steps, help_heading = "Logging")]
    pub(crate) eval_freq: u64,
    /// Batches of an evaluation, always the same
    #[arg(long, value_name = "BATCHES", default_value = "100", value_parser = count, help_heading = "Logging")]
    pub(crate) eval_iters: usize,
    /// Steps between checkpoints, which W&B gets as artifacts, in addition to the last
    #[arg(long, value_name = "STEPS", default_value = "1000", value_parser = steps, help_heading = "Logging")]
    pub(crate) save_freq: u64,

    /// Steps between samples of text, in addition to the last
    #[arg(long, value_name = "STEPS", default_value = "1000", value_parser = steps, help_heading = "Samples")]
    pub(crate) generate_freq: u64,
    /// Text to continue; repeat the flag for several texts
    #[arg(
        long = "prompt", id = "prompt", value_name = "TEXT", help_heading = "Samples", visible_alias = "prompts",
        value_parser = prompt,
        default_values = ["To be or not to be", "Once upon a time", "In a galaxy far, far away"]
    )]
    #[serde(rename = "prompt")]
    pub(crate) prompts: Vec<String>,
    /// Bytes to add to each prompt
    #[arg(long, value_name = "TOKENS", default_value = "100", value_parser = count, help_heading = "Samples")]
    pub(crate) max_new_tokens: usize,
    /// Temperature of sampling: 1 for the model's own distribution, 0 for the likeliest byte
    #[arg(long, value_name = "T", default_value = "1", value_parser = not_negative, help_heading = "Samples")]
    pub(crate) temperature: f64,
    /// Number of likeliest bytes to sample from; 256 for all
    #[arg(long, value_name = "BYTES", default_value = "3", value_parser = top_k, help_heading = "Samples")]
    pub(crate) top_k: usize,

    /// Devices and precision.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hardware: Hardware,
    /// Seed of weights, data order, dropout and samples
    #[arg(long, value_name = "SEED", default_value = "1337", value_parser = natural, help_heading = "Run")]
    pub(crate) seed: u64,
    /// Directory in which each run gets its own directory
    #[arg(long, value_name = "DIR", default_value = "runs", help_heading = "Run")]
    pub(crate) runs: PathBuf,
    /// Name of the run [default: bdh-tiny, bdh-small or bdh-paper]
    #[arg(long, value_name = "NAME", value_parser = run_name, help_heading = "Run")]
    pub(crate) name: Option<String>,
    /// Continues the run of this name, with its flags, from its newest checkpoint
    #[arg(long, help_heading = "Run")]
    pub(crate) resume: bool,
    /// Settings that may differ from the checkpoint of a resumed run, such as trainer.steps [default: none]
    #[arg(long, value_name = "KEYS", value_delimiter = ',', help_heading = "Run")]
    pub(crate) allow_changed: Vec<String>,
    /// Prints the plan of the run, and exits
    #[arg(long, help_heading = "Run")]
    pub(crate) dry_run: bool,
}

/// Parses a prompt, which must not be empty.
fn prompt(text: &str) -> Result<String, ValueError> {
    if text.is_empty() {
        return Err(ValueError::EmptyPrompt);
    }
    Ok(text.to_owned())
}

/// Parses a number of bytes to sample from.
fn top_k(text: &str) -> Result<usize, ValueError> {
    let bytes = count(text)?;
    if bytes > VOCABULARY {
        return Err(ValueError::TooLarge { most: VOCABULARY });
    }
    Ok(bytes)
}

/// Number of different bytes.
const VOCABULARY: usize = 256;

/// Returns the clap command.
fn command() -> Command {
    let about = "Trains BDH, the Baby Dragon Hatchling, on the bytes of a text";
    command_line::command::<Args>("bdh_shakespeare", about).after_help(
        "Flags may be written with hyphens or underscores and as --flag=value. None unsets a flag without a default;\n\
         a prompt has a default, and may be the text None.\n\
         Without flags, the program trains the tiny preset on the CPU, on burn's Rust sources; --data shakespeare \
         downloads Shakespeare once.",
    )
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
    pub(crate) fn preset(&self) -> Preset {
        match self.preset {
            Some(preset) => preset,
            None => Preset::default_on(self.hardware.is_cpu()),
        }
    }

    /// Returns the given sizes, and those of the preset for the others.
    pub(crate) fn sizes(&self) -> Sizes {
        let preset = self.preset().sizes();
        let multiplier = self.mlp_internal_dim_multiplier;
        Sizes {
            n_layer: self.n_layer.unwrap_or(preset.n_layer),
            n_embd: self.n_embd.unwrap_or(preset.n_embd),
            multiplier: multiplier.unwrap_or(preset.multiplier),
            block_size: self.block_size.unwrap_or(preset.block_size),
            batch_size: self.batch_size.unwrap_or(preset.batch_size),
            max_iters: self.max_iters.unwrap_or(preset.max_iters),
        }
    }

    /// Returns the length of the run.
    pub(crate) fn length(&self) -> RunLength {
        TimeBudget::length_or(self.time_budget, self.sizes().max_iters)
    }

    /// Returns the flag that sets the length of the run.
    pub(crate) fn length_flag(&self) -> &'static str {
        match self.time_budget {
            Some(_) => "--time-budget",
            None => "--max-iters",
        }
    }

    /// Returns the settings of the model.
    pub(crate) fn config(&self) -> BdhConfig {
        let sizes = self.sizes();
        BdhConfig {
            n_layer: sizes.n_layer,
            n_embd: sizes.n_embd,
            dropout: self.dropout,
            n_head: self.n_head,
            mlp_internal_dim_multiplier: sizes.multiplier,
            vocab_size: VOCABULARY,
            context: sizes.block_size,
            precision: self.hardware.precision(),
        }
    }

    /// Returns the name of the run's directory.
    pub(crate) fn run_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let preset = format!("{:?}", self.preset()).to_lowercase();
        format!("bdh-{preset}")
    }
}
