//! Console output, with a hint for errors of a changed configuration.

use bdh::ConfigError;
use std::error::Error;

pub use bdh_cli::page::{remark, say, warn};

/// Prints an error and its causes on stderr, and for a changed configuration the flag that allows it.
pub fn error(error: &(dyn Error + 'static)) {
    bdh_cli::page::error(error);
    let Some(ConfigError::Changed { changes, .. }) = error.downcast_ref() else {
        return;
    };
    let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
    // Weights do not fit a model with other parameters, so allowing that change would not help.
    if !keys.contains(&"parameters") {
        bdh_cli::page::to_stderr(format_args!(
            "On the command line: --allow-changed {}",
            keys.join(",")
        ));
    }
}
