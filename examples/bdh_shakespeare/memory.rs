//! Check of the memory that a run needs, before it starts.

use crate::args::Args;
use bdh::BoxError;

const GIB: f64 = (1_u64 << 30) as f64;

/// Describes the memory that the run needs. On a GPU, whose memory is unknown, there is no check.
///
/// # Errors
///
/// If the run needs more memory than the CPU has available.
pub(crate) fn check(args: &Args) -> Result<String, BoxError> {
    let (config, sizes) = (args.config(), args.sizes());
    let needs = |rows| config.training_bytes(rows, sizes.block_size) / GIB;
    let needed = needs(sizes.batch_size);
    if !args.hardware.is_cpu() {
        return Ok(format!("about {needed:.1} GiB"));
    }
    let Some(free) = available_gib() else {
        return Ok(format!("about {needed:.1} GiB"));
    };
    if needed <= free {
        return Ok(format!("about {needed:.1} GiB of {free:.1} GiB available"));
    }
    let fitting = (1..sizes.batch_size)
        .rev()
        .find(|rows| needs(*rows) <= free);
    let suggestion = match fitting {
        Some(rows) => format!("use --batch-size {rows}, or a smaller --preset"),
        None => "use a smaller --preset or --block-size".to_owned(),
    };
    Err(format!(
        "a step of {} windows of {} tokens needs about {needed:.1} GiB, and {free:.1} GiB are available: {suggestion}",
        sizes.batch_size, sizes.block_size
    )
    .into())
}

/// Returns the memory available to a new program in GiB, or `None` if the system does not report it.
fn available_gib() -> Option<f64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    match system.available_memory() {
        0 => None,
        bytes => Some(bytes as f64 / GIB),
    }
}
