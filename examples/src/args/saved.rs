//! Saved arguments of a run, also of earlier versions of the program.

use super::command_line::flags;
use super::{Args, try_parse_from};
use serde_json::Value;

/// Parses the saved arguments of a run.
///
/// Arguments from before `--weight-decay-override` have that setting as `weight_decay`, and keep this meaning.
///
/// # Errors
///
/// clap's error if the arguments are from another version of the program.
pub fn from_saved(saved: &Value) -> Result<Args, clap::Error> {
    let defaults = serde_json::to_value(try_parse_from(["nanochat_sweep"])?).unwrap_or_default();
    let program = std::iter::once("nanochat_sweep".to_owned());
    try_parse_from(program.chain(flags(&renamed(saved), &defaults)))
}

/// Returns saved arguments with the names that their values have now.
pub(super) fn renamed(saved: &Value) -> Value {
    let mut saved = saved.clone();
    if let Some(args) = saved.as_object_mut()
        && !args.contains_key("weight_decay_override")
        && let Some(absolute) = args.shift_remove("weight_decay")
    {
        args.insert("weight_decay_override".to_owned(), absolute);
    }
    saved
}
