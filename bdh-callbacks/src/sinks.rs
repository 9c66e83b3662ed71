//! Where records go, beside `metrics.jsonl`.

mod console;
pub use console::Console;

use bdh::{ConfigError, Jsonl, Sink};

/// Makes sinks by name: `tensorboard`, `wandb`, `jsonl`, `console`, with commas between them, or `none`.
///
/// `none` leaves what a run directory has anyway, `metrics.jsonl`, and so does `jsonl`.
///
/// # Errors
///
/// [`ConfigError::Invalid`] for a name that is unknown, given twice, or of a feature that is not compiled in.
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
    let wrong = |expected: &str| ConfigError::Invalid {
        field: "sinks",
        value: format!("`{names}`"),
        expected: expected.to_owned(),
    };
    if names == "none" {
        return Ok(Vec::new());
    }
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let sink: Box<dyn Sink> = match name {
            "console" => Box::new(Console::default()),
            "jsonl" => Box::new(Jsonl::default()),
            #[cfg(feature = "tensorboard")]
            "tensorboard" => Box::new(bdh_tensorboard::TensorBoard::default()),
            #[cfg(feature = "wandb")]
            "wandb" => Box::new(bdh_wandb::Wandb::from_env()),
            _ if ["tensorboard", "wandb"].contains(&name) => {
                return Err(wrong(
                    "and tensorboard and wandb need the features of their names",
                ));
            }
            _ => {
                return Err(wrong(
                    "where names of tensorboard, wandb, jsonl and console are known, or none",
                ));
            }
        };
        if sinks.iter().any(|other| other.name() == sink.name()) {
            return Err(wrong("where each name may stand once"));
        }
        sinks.push(sink);
    }
    Ok(sinks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_have_names_and_a_wrong_one_is_told_with_those_that_work() {
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
