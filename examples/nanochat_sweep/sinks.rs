//! Outputs of a run: the console, files and W&B.

use bdh::{BoxError, Sink};
use bdh_callbacks::{Console, Wandb};
use bdh_examples::args::{Args, LogStyle, MetricNames};
use bdh_examples::metric_names::nanochat_names;
use bdh_examples::nanochat_log::NanochatLog;
use bdh_models::scaling::Recipe;

/// Returns the sinks of `--log-backend` and `--run`, without the console, which depends on `--quiet`.
///
/// `metrics.jsonl` is not among them: the trainer adds it, always with the names of this project.
pub(crate) fn sinks(args: &Args) -> Result<Vec<Box<dyn Sink>>, BoxError> {
    let mut sinks = bdh_callbacks::sinks(args.log_backend())?;
    sinks.retain(|sink| !["console", "jsonl"].contains(&sink.name().as_str()));
    let wants_none = args.log_backend.as_deref() == Some("none");
    if let Some(name) = args.wandb_run().filter(|_| !wants_none) {
        sinks.retain(|sink| sink.name() != "wandb");
        sinks.push(Box::new(Wandb::from_env().name(name)));
    }
    Ok(match args.metric_names {
        MetricNames::Bdh => sinks,
        MetricNames::Nanochat => nanochat_names(sinks),
    })
}

/// Returns the console of a run, in the requested style.
pub(crate) fn console(args: &Args, recipe: &Recipe) -> Box<dyn Sink> {
    if args.log_style == LogStyle::Nanochat {
        let request = args.request(recipe.config.vocab_size);
        return Box::new(NanochatLog::new(recipe, &request, args.peak_flops()));
    }
    // Without a terminal, about twenty lines, at most a hundred steps apart.
    let apart = (recipe.num_iterations / 20).clamp(1, 100);
    Box::new(Console::default().line_every(apart.max(args.log_every)))
}
