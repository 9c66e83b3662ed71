//! Lines before the run: the model, its parameters, and what the scaling laws decided.

use super::text::{fixed, grouped, scientific};
use bdh_models::nanochat::{GptConfig, NanochatVersion};
use bdh_models::scaling::{REFERENCE_BATCH, Recipe, Request};
use serde_json::{Map, json};

/// Width at which the learning rates of AdamW's parameters are not scaled.
const REFERENCE_WIDTH: f64 = 768.0;

/// Returns nanochat's lines about a recipe, which follows from the request, without a line break at the end.
#[must_use]
pub fn header(recipe: &Recipe, request: &Request) -> String {
    let mut lines = model(&recipe.config);
    lines.extend(parameters(&recipe.config));
    lines.push(format!(
        "Estimated FLOPs per token: {}",
        scientific(recipe.flops_per_token())
    ));
    lines.extend(scaling(recipe, request));
    lines.extend(horizon(recipe, request));
    lines.extend(batch(recipe, request));
    lines.join("\n")
}

fn model(config: &GptConfig) -> Vec<String> {
    let mut settings = Map::new();
    for (name, value) in [
        ("sequence_len", config.sequence_len),
        ("vocab_size", config.vocab_size),
        ("n_layer", config.n_layer),
        ("n_head", config.n_head),
        ("n_kv_head", config.n_kv_head),
        ("n_embd", config.n_embd),
    ] {
        settings.insert(name.to_owned(), json!(value));
    }
    settings.insert("window_pattern".to_owned(), json!(config.window_pattern));
    if config.version == NanochatVersion::Next {
        settings.insert("short_seq_len".to_owned(), json!(config.short_seq_len));
    }
    let settings = serde_json::Value::Object(settings);
    vec![
        format!("Vocab size: {}", grouped(config.vocab_size as u64)),
        format!("Model config:\n{settings:#}"),
    ]
}

fn parameters(config: &GptConfig) -> Vec<String> {
    let params = config.num_params();
    let mut lines = vec!["Parameter counts:".to_owned()];
    for (name, count) in [
        ("wte", params.wte),
        ("value_embeds", params.value_embeds),
        ("lm_head", params.lm_head),
        ("transformer_matrices", params.transformer),
        ("scalars", params.scalars),
        ("total", params.total()),
    ] {
        lines.push(format!("{name:24}: {}", grouped(count as u64)));
    }
    lines.push(format!(
        "Number of parameters: {} (scaling: {})",
        grouped(params.total() as u64),
        grouped(params.scaling() as u64)
    ));
    lines
}

/// Returns the lines about batch, learning rates and weight decay.
fn scaling(recipe: &Recipe, request: &Request) -> Vec<String> {
    let tokens = grouped(recipe.total_batch_size as u64);
    let mut lines = Vec::new();
    if request.total_batch_size.is_none() {
        lines.push(format!("Auto-computed optimal batch size: {tokens} tokens"));
    }
    let factor = recipe.lr_multiplier;
    if let Some(lr) = request.lr_override {
        lines.push(format!(
            "Scaling LRs by {factor:.4} for a matrix learning rate of {lr}"
        ));
    } else if factor != 1.0 {
        lines.push(format!(
            "Scaling LRs by {factor:.4} for batch size {tokens} (reference: {})",
            grouped(REFERENCE_BATCH as u64)
        ));
    }
    lines.extend(weight_decay(recipe, request));
    if request.version == NanochatVersion::Master {
        let width = recipe.config.n_embd;
        let factor = (width as f64 / REFERENCE_WIDTH).powf(-0.5);
        lines.push(format!(
            "Scaling the LR for the AdamW parameters ∝1/√({width}/768) = {factor:.6}"
        ));
    }
    lines
}

fn weight_decay(recipe: &Recipe, request: &Request) -> Option<String> {
    if request.weight_decay_override.is_some() {
        return Some(format!(
            "Weight decay {:.6}, without scaling",
            recipe.weight_decay
        ));
    }
    (recipe.weight_decay != request.weight_decay).then(|| {
        format!(
            "Scaling weight decay from {:.6} to {:.6} for depth {}",
            request.weight_decay, recipe.weight_decay, request.depth
        )
    })
}

/// Returns the lines about the length of the run.
fn horizon(recipe: &Recipe, request: &Request) -> Vec<String> {
    let steps = grouped(recipe.num_iterations);
    let tokens = recipe.total_tokens();
    let ratio = tokens / recipe.config.num_params().scaling() as f64;
    let given = match (request.num_iterations, request.target_flops) {
        (Some(_), _) => format!("Using user-provided number of iterations: {steps}"),
        (None, Some(_)) => format!("Calculated number of iterations from target FLOPs: {steps}"),
        (None, None) => {
            format!("Calculated number of iterations from target data:param ratio: {steps}")
        }
    };
    vec![
        given,
        format!(
            "Total number of training tokens: {}",
            grouped(tokens as u64)
        ),
        format!("Tokens : Scaling params ratio: {}", fixed(ratio, 2)),
        format!(
            "Total training FLOPs estimate: {}",
            scientific(recipe.total_flops())
        ),
    ]
}

/// Returns the lines about micro-batches.
fn batch(recipe: &Recipe, request: &Request) -> [String; 3] {
    let (rows, context) = (recipe.micro_batch, recipe.config.sequence_len);
    let each = rows * context;
    let all = each * request.devices;
    [
        format!(
            "Tokens / micro-batch / rank: {rows} x {context} = {}",
            grouped(each as u64)
        ),
        format!("Tokens / micro-batch: {}", grouped(all as u64)),
        format!(
            "Total batch size {} => gradient accumulation steps: {}",
            grouped(recipe.total_batch_size as u64),
            recipe.total_batch_size / all.max(1)
        ),
    ]
}
