//! Rows on all cores, with the widest vector instructions that the processor has.

use pulp::Arch;
use rayon::prelude::*;

/// Elements of a piece of work: enough that handing it to another thread costs little beside it, and few enough to stay
/// in a core's cache.
const PIECE: usize = 16 * 1024;

/// Rows of a piece, of `width` elements each; it does not depend on the number of threads, nor do results.
pub(crate) fn rows_of_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Does `work` on pieces of `out`, rows of `width`: it is given the number of a piece's first row.
pub(crate) fn on_rows(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = rows_of_piece(width);
    let pieces = |(piece, out): (usize, &mut [f32])| {
        Arch::new().dispatch(
            #[inline(always)]
            || work(piece * rows, out),
        );
    };
    if out.len() <= PIECE {
        return pieces((0, out));
    }
    out.par_chunks_mut(rows * width.max(1)).enumerate().for_each(pieces);
}

/// The same for work that also sums something over rows: what each piece returns, in order.
pub(crate) fn on_rows_with<T: Send>(
    out: &mut [f32],
    width: usize,
    work: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Vec<T> {
    let rows = rows_of_piece(width);
    let pieces = |(piece, out): (usize, &mut [f32])| {
        Arch::new().dispatch(
            #[inline(always)]
            || work(piece * rows, out),
        )
    };
    if out.len() <= PIECE {
        return vec![pieces((0, out))];
    }
    out.par_chunks_mut(rows * width.max(1)).enumerate().map(pieces).collect()
}

/// Does `work` for each of `0..tasks`, which are as large as a piece or larger; what they return, in order.
pub(crate) fn on_tasks<T: Send>(tasks: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let work = |task| {
        Arch::new().dispatch(
            #[inline(always)]
            || work(task),
        )
    };
    (0..tasks).into_par_iter().map(work).collect()
}

/// Sums the rows that pieces have summed, `width` each.
pub(crate) fn add_up(mut pieces: Vec<Vec<f32>>) -> Vec<f32> {
    let mut total = pieces.swap_remove(0);
    // `swap_remove` has put the last piece first; sums are taken in the order of rows all the same.
    if !pieces.is_empty() {
        pieces.rotate_left(1);
    }
    for piece in pieces {
        for (total, value) in total.iter_mut().zip(piece) {
            *total += value;
        }
    }
    total
}
