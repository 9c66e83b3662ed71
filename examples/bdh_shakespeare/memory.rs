//! Whether a run fits the machine, told before it begins.

use crate::args::Args;
use bdh::BoxError;

const GIB: f64 = (1_u64 << 30) as f64;

/// What the run will take; an error where it cannot have that.
///
/// How much a GPU has is not known, so there the figure is all.
pub(crate) fn check(args: &Args) -> Result<String, BoxError> {
    let (config, sizes) = (args.config(), args.sizes());
    let needs = |rows| config.training_bytes(rows, sizes.block_size) / GIB;
    let needed = needs(sizes.batch_size);
    let has = if args.hardware.is_cpu() {
        available()
    } else {
        None
    };
    let Some(has) = has.map(|bytes| bytes / GIB) else {
        return Ok(format!("about {needed:.1} GiB"));
    };
    if needed <= has {
        return Ok(format!(
            "about {needed:.1} GiB of the {has:.1} that are free"
        ));
    }
    let fitting = (1..sizes.batch_size).rev().find(|rows| needs(*rows) <= has);
    let instead = match fitting {
        Some(rows) => format!("--batch-size {rows} would fit, or a smaller --preset"),
        None => "a smaller --preset or --block-size may".to_owned(),
    };
    Err(format!(
        "a step of {} windows of {} tokens needs about {needed:.1} GiB, and {has:.1} GiB are free: {instead}",
        sizes.batch_size, sizes.block_size
    )
    .into())
}

/// Bytes of memory that a new program can have; `None` where the system does not say.
fn available() -> Option<f64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    Some(system.available_memory() as f64).filter(|bytes| *bytes > 0.0)
}
