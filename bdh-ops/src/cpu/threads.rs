//! Work on all cores, with the widest vector instructions of the processor.
//!
//! Vector code must be part of the one function that is compiled for these instructions. So the work consists of
//! `#[inline(always)]` closures that call only inlined functions and loop with `for`. The loops in methods of iterators
//! are separate functions, which are compiled for the oldest processors.

use pulp::{Arch, Simd, WithSimd};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use std::error::Error;
use std::io;
use std::sync::OnceLock;

/// Starts the threads of the process, unless they are running.
pub(crate) fn start() -> io::Result<()> {
    // rayon tries only once in a process, and panics later if that failed. So the first error is kept.
    static REFUSED: OnceLock<Option<(io::ErrorKind, String)>> = OnceLock::new();
    let refused = REFUSED.get_or_init(|| {
        let error = ThreadPoolBuilder::new().build_global().err()?;
        let cause = error.source()?; // without a cause, the threads are already running
        let kind = cause
            .downcast_ref()
            .map_or(io::ErrorKind::Other, io::Error::kind);
        Some((kind, cause.to_string()))
    });
    match refused {
        Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        None => Ok(()),
    }
}

/// Number of elements of a piece of work: large compared with the cost of another thread, small enough for a core's
/// cache.
pub(super) const PIECE: usize = 16 * 1024;

/// Returns the number of rows of a piece, for rows of `width` elements.
///
/// The number does not depend on the number of threads, so results do not either.
pub(super) fn rows_of_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Runs `work` on pieces of `out`, which has rows of `width`, with the index of each piece's first row.
///
/// Returns the results of all pieces in order.
pub(super) fn on_rows<T: Send>(
    out: &mut [f32],
    width: usize,
    work: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Vec<T> {
    let rows = rows_of_piece(width);
    let on_piece = |(piece, out)| {
        Arch::new().dispatch(Piece {
            work: &work,
            first: piece * rows,
            out,
        })
    };
    if out.len() <= PIECE {
        return vec![on_piece((0, out))];
    }
    out.par_chunks_mut(rows * width.max(1))
        .enumerate()
        .map(on_piece)
        .collect()
}

/// Runs `work` on pieces of two slices of equal length, with the index of each piece's first element.
pub(super) fn on_pairs(
    left: &mut [f32],
    right: &mut [f32],
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let pieces = left
        .par_chunks_mut(PIECE)
        .zip(right.par_chunks_mut(PIECE))
        .enumerate();
    pieces.for_each(|(piece, (left, right))| {
        Arch::new().dispatch(Pair {
            work: &work,
            first: piece * PIECE,
            left,
            right,
        });
    });
}

/// Runs `work` for each of `0..tasks`, which are at least as large as a piece. Returns the results in order.
pub(super) fn on_tasks<T: Send>(tasks: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    (0..tasks)
        .into_par_iter()
        .map(|task| Arch::new().dispatch(Task { work: &work, task }))
        .collect()
}

/// Work on one slice, inlined into a function that is compiled for this processor. A closure would be a separate
/// function.
struct Piece<'a, W> {
    work: &'a W,
    first: usize,
    out: &'a mut [f32],
}

impl<W: Fn(usize, &mut [f32]) -> T, T> WithSimd for Piece<'_, W> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> T {
        (self.work)(self.first, self.out)
    }
}

/// Work on two slices, inlined like [`Piece`].
struct Pair<'a, W> {
    work: &'a W,
    first: usize,
    left: &'a mut [f32],
    right: &'a mut [f32],
}

impl<W: Fn(usize, &mut [f32], &mut [f32])> WithSimd for Pair<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        (self.work)(self.first, self.left, self.right);
    }
}

/// Work without output memory, inlined like [`Piece`].
struct Task<'a, W> {
    work: &'a W,
    task: usize,
}

impl<W: Fn(usize) -> T, T> WithSimd for Task<'_, W> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> T {
        (self.work)(self.task)
    }
}

/// Adds the sums of all pieces, in order, so that rounding is always the same.
pub(super) fn add_up(pieces: Vec<Vec<f32>>) -> Vec<f32> {
    let mut pieces = pieces.into_iter();
    let mut total = pieces.next().unwrap_or_default();
    for piece in pieces {
        for (total, value) in total.iter_mut().zip(piece) {
            *total += value;
        }
    }
    total
}
