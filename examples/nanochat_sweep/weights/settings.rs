//! Settings of a run that begins with the weights of a checkpoint.

use crate::checkpoint::AnyCheckpoint;
use crate::given::is_given;
use bdh::BoxError;
use bdh_examples::args::{self, Args};
use bdh_models::nanochat::{GptConfig, NanochatVersion};

/// Flag of a setting, as given and as in the checkpoint.
struct Flag {
    name: &'static str,
    given: Option<String>,
    saved: String,
}

/// Sets the flags of the model to the settings of a checkpoint. A flag with another value is an error.
pub(super) fn take(found: &AnyCheckpoint, args: &mut Args) -> Result<(), BoxError> {
    let config = &found.config;
    for Flag { name, given, saved } in flags(args, config) {
        if let Some(given) = given.filter(|given| *given != saved) {
            let path = found.path.display();
            return Err(format!(
                "--{name} {given} contradicts `{path}`, a model with --{name} {saved}: leave the flag out"
            )
            .into());
        }
    }
    args.depth = config.n_layer;
    args.head_dim = Some(config.head_size());
    args.n_embd_override = (width(args) != config.n_embd).then_some(config.n_embd);
    args.max_seq_len = Some(config.sequence_len);
    args.window_pattern.clone_from(&config.window_pattern);
    args.nanochat_version = config.version;
    let is_next = config.version == NanochatVersion::Next;
    args.short_seq_len = is_next.then_some(config.short_seq_len);
    if args.tokenizer.is_none() {
        args.tokenizer = found.tokenizer_path().map(args::Tokenizer::Path);
    }
    Ok(())
}

/// Returns the width that follows from depth, aspect ratio and head size.
fn width(args: &Args) -> usize {
    let head_dim = args.head_dim.unwrap_or(1).max(1);
    (args.depth * args.aspect_ratio).next_multiple_of(head_dim)
}

/// Returns the flags that describe a model.
fn flags(args: &Args, config: &GptConfig) -> [Flag; 8] {
    let number = |value: Option<usize>| value.map(|value| value.to_string());
    let flag = |name, given, saved: usize| Flag {
        name,
        given: number(given),
        saved: saved.to_string(),
    };
    [
        flag(
            "depth",
            is_given("depth").then_some(args.depth),
            config.n_layer,
        ),
        flag("n-embd-override", args.n_embd_override, config.n_embd),
        flag("head-dim", args.head_dim, config.head_size()),
        flag("max-seq-len", args.max_seq_len, config.sequence_len),
        flag("vocab-size", args.vocab_size, config.vocab_size),
        flag("short-seq-len", args.short_seq_len, config.short_seq_len),
        Flag {
            name: "nanochat-version",
            given: is_given("nanochat-version").then(|| args.nanochat_version.to_string()),
            saved: config.version.to_string(),
        },
        Flag {
            name: "window-pattern",
            given: is_given("window-pattern").then(|| args.window_pattern.to_ascii_uppercase()),
            saved: config.window_pattern.to_ascii_uppercase(),
        },
    ]
}

/// Checks that a model of these settings has the shape of a checkpoint's.
pub(super) fn check(found: &AnyCheckpoint, config: &GptConfig) -> Result<(), BoxError> {
    let path = found.path.display();
    let (ids, known) = (config.vocab_size, found.config.vocab_size);
    if ids != known {
        return Err(format!(
            "the tokenizer has {ids} ids, and the model of `{path}` knows {known}: \
             give the tokenizer that it was trained with, --tokenizer PATH"
        )
        .into());
    }
    let expected = GptConfig {
        precision: config.precision,
        ..found.config.clone()
    };
    if expected == *config {
        return Ok(());
    }
    Err(format!(
        "`{path}` has {} key heads for {} query heads, and this program trains models with one each",
        expected.n_kv_head, expected.n_head
    )
    .into())
}
