//! The command line: the original's constants and the request's flags, with their defaults.

use crate::preset::{Preset, Sizes};
use bdh_examples::args::values::{
    count, fraction, log_backend, natural, not_negative, positive, run_name, steps,
};
use bdh_examples::args::{Hardware, command_line};
use bdh_models::hatchling::BdhConfig;
use clap::Command;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// What one run was asked to be. Serializes as the flags' names and values.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
pub(crate) struct Args {
    /// tiny (0.4M parameters), small (1.6M) or paper (25M) [default: tiny on the CPU, paper on a GPU]
    #[arg(
        long,
        value_name = "SIZE",
        hide_possible_values = true,
        help_heading = "Model"
    )]
    pub(crate) preset: Option<Preset>,
    /// How often the weights are gone through [default: by preset]
    #[arg(long, value_name = "LAYERS", value_parser = count, help_heading = "Model")]
    pub(crate) n_layer: Option<usize>,
    /// Channels of the residual stream [default: by preset]
    #[arg(long, value_name = "CHANNELS", value_parser = count, help_heading = "Model")]
    pub(crate) n_embd: Option<usize>,
    /// Heads that neurons are in
    #[arg(long, value_name = "HEADS", default_value = "4", value_parser = count, help_heading = "Model")]
    pub(crate) n_head: usize,
    /// Neurons for each channel [default: by preset]
    #[arg(long, value_name = "NEURONS", value_parser = count, help_heading = "Model")]
    pub(crate) mlp_internal_dim_multiplier: Option<usize>,
    /// Share of the neurons' products that is dropped in training
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = fraction, help_heading = "Model")]
    pub(crate) dropout: f64,

    /// A file, a directory, `shakespeare` or `synthetic` [default: burn's Rust sources]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub(crate) data: Option<String>,
    /// Tokens of a window, which are bytes [default: by preset]
    #[arg(long, value_name = "TOKENS", value_parser = count, help_heading = "Data")]
    pub(crate) block_size: Option<usize>,
    /// Windows in a step [default: by preset]
    #[arg(long, value_name = "WINDOWS", value_parser = count, help_heading = "Data")]
    pub(crate) batch_size: Option<usize>,

    /// Steps of the run [default: by preset]
    #[arg(long, value_name = "STEPS", value_parser = steps, help_heading = "Optimization", visible_alias = "steps")]
    pub(crate) max_iters: Option<u64>,
    /// Highest learning rate of AdamW
    #[arg(long, value_name = "LR", default_value = "0.001", value_parser = positive, help_heading = "Optimization")]
    pub(crate) learning_rate: f64,
    /// Steps over which the learning rate rises
    #[arg(long, value_name = "STEPS", default_value = "0", value_parser = natural, help_heading = "Optimization")]
    pub(crate) warmup_iters: u64,
    /// Last learning rate as a share of the highest, reached along a cosine; 1 keeps it constant
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = fraction, help_heading = "Optimization")]
    pub(crate) final_lr_frac: f64,
    /// Weight decay of all parameters
    #[arg(long, value_name = "DECAY", default_value = "0.1", value_parser = not_negative, help_heading = "Optimization")]
    pub(crate) weight_decay: f64,
    /// Norm that gradients are clipped to [default: none, as the original]
    #[arg(long, value_name = "NORM", value_parser = positive, help_heading = "Optimization")]
    pub(crate) grad_clip: Option<f64>,

    /// Where records go besides metrics.jsonl and the console: wandb, tensorboard, both with a comma, or none
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
    /// Steps between evaluations, weight and activation statistics; the last step has them always
    #[arg(long, value_name = "STEPS", default_value = "500", value_parser = steps, help_heading = "Logging")]
    pub(crate) eval_freq: u64,
    /// Validation batches of an evaluation, the same ones each time
    #[arg(long, value_name = "BATCHES", default_value = "100", value_parser = count, help_heading = "Logging")]
    pub(crate) eval_iters: usize,
    /// Steps between checkpoints, which are W&B's artifacts; the last step has one always
    #[arg(long, value_name = "STEPS", default_value = "1000", value_parser = steps, help_heading = "Logging")]
    pub(crate) save_freq: u64,

    /// Steps between samples of text; the last step has them always
    #[arg(long, value_name = "STEPS", default_value = "1000", value_parser = steps, help_heading = "Samples")]
    pub(crate) generate_freq: u64,
    /// What is continued; give it several times for several
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
    /// 1 samples from the model's own distribution, 0 takes the likeliest byte
    #[arg(long, value_name = "T", default_value = "1", value_parser = not_negative, help_heading = "Samples")]
    pub(crate) temperature: f64,
    /// Samples among so many likeliest bytes; 256 are all
    #[arg(long, value_name = "BYTES", default_value = "3", value_parser = top_k, help_heading = "Samples")]
    pub(crate) top_k: usize,

    /// Where it computes, and how.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) hardware: Hardware,
    /// Seed of weights, data order, dropout and samples
    #[arg(long, value_name = "SEED", default_value = "1337", value_parser = natural, help_heading = "Run")]
    pub(crate) seed: u64,
    /// Directory under which each run has its own
    #[arg(long, value_name = "DIR", default_value = "runs", help_heading = "Run")]
    pub(crate) runs: PathBuf,
    /// Name of the run [default: bdh-tiny, bdh-small or bdh-paper]
    #[arg(long, value_name = "NAME", value_parser = run_name, help_heading = "Run")]
    pub(crate) name: Option<String>,
    /// Continues the run of this name, with its flags, from its newest checkpoint
    #[arg(long, help_heading = "Run")]
    pub(crate) resume: bool,
    /// Lets a resumed run differ from its checkpoint in these settings, such as trainer.steps [default: none]
    #[arg(long, value_name = "KEYS", value_delimiter = ',', help_heading = "Run")]
    pub(crate) allow_changed: Vec<String>,
    /// Prints what the run would be, and stops
    #[arg(long, help_heading = "Run")]
    pub(crate) dry_run: bool,
}

/// Takes a prompt with something in it.
fn prompt(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(
            "there is nothing to continue: give at least one byte, such as a line break".into(),
        );
    }
    Ok(text.to_owned())
}

/// Takes a number of bytes that there are.
fn top_k(text: &str) -> Result<usize, String> {
    let bytes = count(text).map_err(|error| error.to_string())?;
    if bytes > VOCABULARY {
        return Err(format!(
            "there are {VOCABULARY} bytes to sample from: give 1 to {VOCABULARY}"
        ));
    }
    Ok(bytes)
}

/// Bytes there are.
const VOCABULARY: usize = 256;

/// The command as clap knows it.
fn command() -> Command {
    let about = "Trains BDH, the Baby Dragon Hatchling, on the bytes of a text";
    command_line::command::<Args>("bdh_shakespeare", about).after_help(
        "Flags may be written with hyphens or underscores and as --flag=value. None unsets a flag that has no default;\n\
         a prompt has one, and may be the text None.\n\
         Without any flag: the tiny preset on the CPU, on burn's Rust sources; --data shakespeare downloads \
         Shakespeare once.",
    )
}

/// Reads the program's own arguments, or ends it: code 2 and a sentence on stderr, or 0 after `--help`.
pub(crate) fn parse() -> Args {
    command_line::read(command(), std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Reads the program's own arguments on top of those of the run that they resume, or ends it.
pub(crate) fn parse_over(saved: &Value) -> Args {
    command_line::read_over(command(), saved).unwrap_or_else(|error| error.exit())
}

impl Args {
    pub(crate) fn preset(&self) -> Preset {
        self.preset
            .unwrap_or_else(|| Preset::usual(self.hardware.is_cpu()))
    }

    /// The sizes of the preset, under those given.
    pub(crate) fn sizes(&self) -> Sizes {
        let usual = self.preset().sizes();
        Sizes {
            n_layer: self.n_layer.unwrap_or(usual.n_layer),
            n_embd: self.n_embd.unwrap_or(usual.n_embd),
            multiplier: self.mlp_internal_dim_multiplier.unwrap_or(usual.multiplier),
            block_size: self.block_size.unwrap_or(usual.block_size),
            batch_size: self.batch_size.unwrap_or(usual.batch_size),
            max_iters: self.max_iters.unwrap_or(usual.max_iters),
        }
    }

    /// The settings of the model.
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

    /// The name of the run's directory.
    pub(crate) fn run_name(&self) -> String {
        let preset = format!("{:?}", self.preset()).to_lowercase();
        self.name.clone().unwrap_or_else(|| format!("bdh-{preset}"))
    }
}
