//! Lines of the programs, and the hint that errors of a changed run get.

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
    // Weights of another shape fit no other model, whatever is allowed.
    if !keys.contains(&"parameters") {
        bdh_cli::page::to_stderr(format_args!(
            "On the command line: --allow-changed {}",
            keys.join(",")
        ));
    }
}
