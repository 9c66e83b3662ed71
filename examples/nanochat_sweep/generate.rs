//! `nanochat_sweep generate`: continuations of prompts by a trained model.

use crate::checkpoint::{Source, Trained};
use crate::page::say;
use bdh::text::{Generated, Sampling};
use bdh::{BoxError, CausalLm, NextToken, Task};
use bdh_cli::page::to_stderr;
use bdh_examples::args::values::{count, natural, not_negative};
use bdh_models::nanochat::Gpt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Continues prompts with the model of a checkpoint, and prints each text with its prompt
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    source: Source,
    /// Text to continue; may be given several times
    #[arg(long, value_name = "TEXT", required = true)]
    prompt: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// Settings of the generation.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Largest number of tokens to add to each prompt
    #[arg(long, value_name = "TOKENS", default_value = "64", value_parser = count)]
    max_tokens: usize,
    /// Temperature: 0 always takes the likeliest token, 1 samples from the model's own distribution
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = not_negative)]
    temperature: f64,
    /// Number of likeliest tokens to sample from [default: all]
    #[arg(long, value_name = "TOKENS", value_parser = count)]
    top_k: Option<usize>,
    /// Seed of the samples
    #[arg(long, value_name = "SEED", default_value = "42", value_parser = natural)]
    seed: u64,
}

impl How {
    /// Returns settings that always take the likeliest token.
    pub(crate) fn greedy(max_tokens: usize) -> Self {
        Self {
            max_tokens,
            temperature: 0.0,
            top_k: None,
            seed: 0,
        }
    }
}

/// Model that continues prompts.
pub(crate) struct Writer<'a> {
    trained: &'a Trained,
    task: NextToken<Gpt>,
    sampling: Sampling,
}

/// Continues the prompts of the arguments.
pub(crate) fn main(args: &GenerateArgs) -> Result<ExitCode, BoxError> {
    let trained = args.source.load()?;
    let writer = Writer::new(&trained, &args.how);
    let (mut tokens, began) = (0, Instant::now());
    for (index, prompt) in args.prompt.iter().enumerate() {
        let written = writer.write(prompt)?;
        tokens += written.tokens.len();
        if index > 0 {
            say("");
        }
        say(format_args!("{prompt}{}", written.text));
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
    to_stderr(format_args!(
        "{tokens} tokens in {seconds:.2} s, {rate:.1} tokens/s"
    ));
    Ok(ExitCode::SUCCESS)
}

impl<'a> Writer<'a> {
    /// Prepares a model for generation by these settings.
    pub(crate) fn new(trained: &'a Trained, how: &How) -> Self {
        let sequence_len = trained.model.config().sequence_len;
        Self {
            trained,
            task: NextToken::new().vocabulary(Arc::clone(&trained.tokenizer)),
            sampling: Sampling {
                max_tokens: how.max_tokens,
                temperature: how.temperature,
                top_k: how.top_k,
                seed: how.seed,
                max_context: trained.model.max_context().unwrap_or(sequence_len),
                ..Sampling::default()
            },
        }
    }

    /// Continues a prompt.
    pub(crate) fn write(&self, prompt: &str) -> Result<Generated, BoxError> {
        let text = self.task.text().ok_or("the model writes no text")?;
        let prompts = [(prompt, self.sampling.clone())];
        let mut written = text.generate(&self.trained.model, &prompts)?;
        Ok(written.pop().unwrap_or_default()) // one for each prompt
    }
}
