//! The checkpoints in a directory.

use super::ImportError;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Lists the steps whose weights are in a directory, in ascending order.
pub(super) fn steps(dir: &Path) -> Result<Vec<u64>, ImportError> {
    let mut steps = Vec::new();
    for name in names(dir).map_err(|source| unreadable(dir, source))? {
        steps.extend(step_of(&name));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Returns the error for a directory that does not have the wanted step, or none at all.
pub(super) fn not_found(dir: &Path, steps: &[u64], wanted: Option<u64>) -> ImportError {
    let why = match (steps, wanted) {
        ([], _) => no_step(dir),
        (_, wanted) => {
            let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
            let (wanted, steps) = (wanted.unwrap_or_default(), steps.join(", "));
            format!("there is none of step {wanted}: use one of {steps}")
        }
    };
    ImportError::NotFound {
        dir: dir.to_owned(),
        why,
    }
}

/// Explains that a directory has no weights; those of several models are in folders of their own.
fn no_step(dir: &Path) -> String {
    let mut tags = Vec::new();
    for name in names(dir).unwrap_or_default() {
        if steps(&dir.join(&name)).is_ok_and(|steps| !steps.is_empty()) {
            tags.push(format!("`{name}`"));
        }
    }
    tags.sort();
    match tags.as_slice() {
        [] => "it has no file such as `model_000040.pt`".to_owned(),
        [one] => format!("use its folder {one}"),
        _ => format!("use one of its folders: {}", tags.join(", ")),
    }
}

/// Returns the names of the files and folders in a directory.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Returns the step of a file of weights, such as 40 of `model_000040.pt`; `None` for other names.
fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("model_")?.strip_suffix(".pt")?;
    let step: u64 = digits.parse().ok()?;
    (digits == format!("{step:06}")).then_some(step)
}

fn unreadable(dir: &Path, source: io::Error) -> ImportError {
    let why = match source.kind() {
        ErrorKind::NotFound => {
            "there is no such directory; nanochat has one for each model in `base_checkpoints`"
        }
        ErrorKind::NotADirectory => "it is a file; use its directory",
        _ => {
            return ImportError::Io {
                path: dir.to_owned(),
                source,
            };
        }
    };
    ImportError::NotFound {
        dir: dir.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_in_a_name_of_exactly_nanochats_form() {
        assert_eq!(step_of("model_000040.pt"), Some(40));
        assert_eq!(step_of("model_1234567.pt"), Some(1_234_567));
        for other in [
            "model_40.pt",
            "model_0000040.pt",
            "model_+00040.pt",
            "model_000040_backup.pt",
            "model_000040.pt.tmp",
            "meta_000040.json",
        ] {
            assert_eq!(step_of(other), None, "{other}");
        }
    }
}
