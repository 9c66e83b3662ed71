//! Sinks for records, in addition to `metrics.jsonl`.

mod console;
pub use console::Console;

use bdh::{ConfigError, Jsonl, Sink};

/// Makes sinks by name: `tensorboard`, `wandb`, `jsonl`, `console`, separated by commas, or `none`.
///
/// A run directory has `metrics.jsonl` in any case, so `none` and `jsonl` are the same there.
///
/// # Errors
///
/// [`ConfigError::Invalid`] if a name is unknown, given twice, or of a feature that is not compiled in.
///
/// # Examples
///
/// ```
/// let both = bdh_callbacks::sinks("jsonl,console")?;
/// assert_eq!(both.len(), 2);
/// assert!(bdh_callbacks::sinks("tensorbord").is_err());
/// # Ok::<(), bdh::ConfigError>(())
/// ```
pub fn sinks(names: &str) -> Result<Vec<Box<dyn Sink>>, ConfigError> {
    if names == "none" {
        return Ok(Vec::new());
    }
    match make_all(names) {
        Ok(sinks) => Ok(sinks),
        Err(problem) => {
            let value = format!("`{names}`");
            Err(ConfigError::invalid("sinks", value, problem))
        }
    }
}

fn make_all(names: &str) -> Result<Vec<Box<dyn Sink>>, &'static str> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for name in names.split(',') {
        let sink = make(name.trim())?;
        if sinks.iter().any(|other| other.name() == sink.name()) {
            return Err("a name is given twice");
        }
        sinks.push(sink);
    }
    Ok(sinks)
}

fn make(name: &str) -> Result<Box<dyn Sink>, &'static str> {
    match name {
        "console" => Ok(Box::new(Console::default())),
        "jsonl" => Ok(Box::new(Jsonl::default())),
        #[cfg(feature = "tensorboard")]
        "tensorboard" => Ok(Box::new(bdh_tensorboard::TensorBoard::default())),
        #[cfg(feature = "wandb")]
        "wandb" => Ok(Box::new(bdh_wandb::Wandb::from_env())),
        #[cfg(not(feature = "tensorboard"))]
        "tensorboard" => Err("build with the feature `tensorboard` of bdh-callbacks"),
        #[cfg(not(feature = "wandb"))]
        "wandb" => Err("build with the feature `wandb` of bdh-callbacks"),
        _ => Err("use tensorboard, wandb, jsonl and console, separated by commas, or none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_made_by_name_and_unknown_names_are_refused() {
        let names = |list| {
            sinks(list).map(|sinks| sinks.iter().map(|sink| sink.name()).collect::<Vec<_>>())
        };
        assert_eq!(names("none").expect("no sinks"), Vec::<String>::new());
        assert_eq!(
            names("console, jsonl").expect("two sinks"),
            ["console", "jsonl"]
        );
        for wrong in ["", "tensorbord", "none,jsonl", "jsonl,jsonl", "jsonl,"] {
            let error = names(wrong).expect_err("not a list of sinks").to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
