//! Rows on all cores, with the widest vector instructions that the processor has.
//!
//! What is to become vector code has to be part of the one function that is compiled for those instructions: so the work is
//! given as `#[inline(always)]` closures, calls such functions alone, and loops with `for` (the loops within iterators' own
//! methods are functions by themselves, for which the compiler may assume nothing but the oldest processors).

use pulp::{Arch, Simd, WithSimd};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use std::error::Error;
use std::io;
use std::sync::OnceLock;

/// Starts the threads of the process, unless there are some.
pub(crate) fn start() -> io::Result<()> {
    // rayon tries once in a process, and panics later if that failed: what it said is kept.
    static REFUSED: OnceLock<Option<(io::ErrorKind, String)>> = OnceLock::new();
    let refused = REFUSED.get_or_init(|| {
        let error = ThreadPoolBuilder::new().build_global().err()?;
        let cause = error.source()?; // none where they were started before
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

/// Elements of a piece of work: enough that handing it to another thread costs little beside it, and few enough to stay
/// in a core's cache.
pub(super) const PIECE: usize = 16 * 1024;

/// Rows of a piece, of `width` elements each; it does not depend on the number of threads, nor do results.
pub(super) fn rows_of_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Does `work` on pieces of `out`, rows of `width`: it is given the number of a piece's first row. What it returns for
/// each piece comes back in order.
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

/// Does `work` on pieces of two slices of one length: it is given the number of their first element.
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

/// Does `work` for each of `0..tasks`, which are as large as a piece or larger; what they return, in order.
pub(super) fn on_tasks<T: Send>(tasks: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    (0..tasks)
        .into_par_iter()
        .map(|task| Arch::new().dispatch(Task { work: &work, task }))
        .collect()
}

/// A call that is to be part of a function compiled for this processor; a closure would be a function by itself.
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

/// The same with two pieces of memory.
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

/// The same without memory to write to.
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

/// Sums the rows that pieces have summed, in order.
pub(super) fn add_up(pieces: Vec<Vec<f32>>) -> Vec<f32> {
    let add = |mut total: Vec<f32>, piece: Vec<f32>| {
        for (total, value) in total.iter_mut().zip(piece) {
            *total += value;
        }
        total
    };
    pieces.into_iter().reduce(add).unwrap_or_default()
}
