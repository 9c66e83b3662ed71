//! Documents that are packed into token shards, once for all runs.

use super::cache;
use crate::progress::Progress;
use bdh::BoxError;
use bdh_data::{Prepare, Prepared};
use std::path::{Path, PathBuf};

/// Returns the directory in the cache for the shards of a request.
pub(crate) fn dir(request: &Prepare) -> Result<PathBuf, BoxError> {
    Ok(cache::dir("prepared")?.join(request.key()))
}

/// Packs documents into shards in a directory, or opens them if they are there.
///
/// Of several processes one does the work, and the others wait for it.
pub(crate) fn make(request: &Prepare, dir: &Path, is_quiet: bool) -> Result<Prepared, BoxError> {
    let shown = dir.display();
    let mut progress = Progress::new(format!("token shards in {shown}"), is_quiet);
    let is_there = cache::is_made_elsewhere(dir, &progress) || Prepared::open(dir)?.is_some();
    let prepared = request.run(dir, &mut |done| {
        progress.show(done.done_bytes, done.total_bytes);
    })?;
    progress.finish(if is_there { "opened" } else { "prepared" });
    Ok(prepared)
}
