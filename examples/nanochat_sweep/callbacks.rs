//! Callbacks of a run.

use crate::compose::Plan;
use bdh::cadence::{every, last};
use bdh::hooks::EvalEnd;
use bdh::{BoxError, Cadence, Callback, HookResult, callback};
use bdh_callbacks::{Samples, Throughput};
use bdh_examples::args::{Args, Every, LogStyle, MetricNames};
use bdh_examples::nanochat_log::{DataPlace, LoopState, NanochatTrain};
use bdh_models::core_eval::{Bundle, CoreMetric};
use bdh_models::nanochat::{GptConfig, NanochatCheckpoint};
use std::sync::Arc;

/// Prompts of `--sample-every` and of `evaluate --samples`.
pub(crate) const PROMPTS: [&str; 6] = [
    "The largest city of Italy is",
    "Water boils at a temperature of",
    "Three times seven is",
    "My grandmother lived in a house by the",
    "Once there was a fox who",
    "To make bread you need",
];

/// Tokens that are added to each of these prompts.
pub(crate) const SAMPLE_TOKENS: usize = 16;

/// Callback that records `val/bpb`, which nanochat's dashboards use, as `val_bpb` for W&B's sweep.
pub(crate) struct ValBpb;

#[callback]
impl Callback for ValBpb {
    fn keys(&self) -> Vec<String> {
        vec!["val_bpb".to_owned()]
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        if let Some(bpb) = ctx.report.get("bpb") {
            ctx.log("val_bpb", bpb);
        }
        Ok(())
    }
}

/// Returns the cadence of a flag, and the last step in any case.
pub(crate) fn and_last(steps: Every) -> Cadence {
    match steps {
        Every::Never => last(),
        Every::Steps(steps) => every(steps.get()) | last(),
    }
}

/// Creates the callbacks of the file of `--callbacks`.
pub(crate) fn from_file(args: &Args) -> Result<Vec<Box<dyn Callback>>, BoxError> {
    let Some(path) = &args.callbacks else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    let extension = path.extension().unwrap_or_default();
    if extension == "yaml" || extension == "yml" {
        return Ok(bdh::registry::from_yaml(&text)?);
    }
    Ok(bdh::registry::from_toml(&text)?)
}

pub(crate) fn throughput(args: &Args) -> Throughput {
    let throughput = Throughput::default().on(every(args.log_every));
    match args.peak_flops() {
        Some(peak) => throughput.peak_flops(peak),
        None => throughput,
    }
}

/// Returns the callback that evaluates CORE during training, if the flags request it.
pub(crate) fn core_metric(plan: &Plan<'_>) -> Result<Option<CoreMetric>, BoxError> {
    let args = plan.args;
    let (Every::Steps(_), Some(dir)) = (args.core_metric_every, &args.core_bundle) else {
        return Ok(None);
    };
    let bundle = Bundle::open(dir, args.core_max_per_task)?;
    let config = &plan.recipe.config;
    Ok(Some(CoreMetric::new(
        bundle,
        Arc::clone(&plan.data.tokenizer),
        config.max_context(),
        plan.recipe.micro_batch * config.sequence_len,
        and_last(args.core_metric_every),
    )))
}

/// Returns the callback that writes samples during training, if the flags request it.
pub(crate) fn samples(args: &Args, config: &GptConfig) -> Option<Samples> {
    let Every::Steps(_) = args.sample_every else {
        return None;
    };
    let samples = Samples::default()
        .on(and_last(args.sample_every))
        .prompts(PROMPTS)
        .max_tokens(SAMPLE_TOKENS)
        .temperature(0.0)
        .max_context(config.sequence_len);
    Some(samples)
}

/// Returns whether nanochat's lines or names are requested, which need values of its training loop.
pub(crate) fn is_like_nanochat(args: &Args) -> bool {
    args.log_style == LogStyle::Nanochat || args.metric_names == MetricNames::Nanochat
}

/// Returns the callback that measures the values of nanochat's training loop, if they are needed.
pub(crate) fn nanochat_train(plan: &Plan<'_>, place: DataPlace) -> Option<NanochatTrain> {
    if !is_like_nanochat(plan.args) {
        return None;
    }
    let train = NanochatTrain::new(plan.recipe).on(every(plan.args.log_every));
    let train = train.place(place);
    match plan.weights.continued().and_then(loop_state) {
        Some((state, step)) => Some(train.continuing(&state, step)),
        None => Some(train),
    }
}

/// Returns the state of nanochat's training loop and its step, if the checkpoint has it.
fn loop_state(found: &NanochatCheckpoint) -> Option<(LoopState, u64)> {
    let saved = found.meta.loop_state;
    let state = LoopState {
        min_val_bpb: saved.min_val_bpb.unwrap_or(f64::INFINITY),
        smooth_train_loss: saved.smooth_train_loss?,
        total_training_time: saved.total_training_time.unwrap_or_default(),
        updates: None,
    };
    Some((state, found.step))
}
