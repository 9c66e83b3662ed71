//! Flags that the user has typed, as opposed to those with their defaults.

use bdh_examples::args::{self, normalize};

/// Returns whether the command line has a flag with a value, such as `depth`.
pub(crate) fn is_given(flag: &str) -> bool {
    let start = format!("--{flag}=");
    let words = normalize(std::env::args_os().collect(), args::command());
    let mut words = words.iter();
    words.any(|word| word.to_string_lossy().starts_with(&start))
}
