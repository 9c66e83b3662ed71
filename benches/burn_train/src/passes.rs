//! Training passes of the model, counted inside the model, so that neither side's code measures itself.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Forward passes with gradients so far.
#[derive(Clone, Copy)]
pub struct Passes {
    count: usize,
    /// When the second pass began: the first step, its update included, was complete.
    pub first_step_ended: Option<Instant>,
    /// Images of the second pass and all later ones.
    pub images: usize,
}

/// Locked for a moment by each pass.
static PASSES: Mutex<Passes> = Mutex::new(Passes {
    count: 0,
    first_step_ended: None,
    images: 0,
});

/// Counts a pass that begins.
pub fn count(images: usize) {
    let mut passes = PASSES.lock().unwrap_or_else(PoisonError::into_inner);
    passes.count += 1;
    if passes.count > 1 {
        passes.first_step_ended.get_or_insert_with(Instant::now);
        passes.images += images;
    }
}

pub fn so_far() -> Passes {
    *PASSES.lock().unwrap_or_else(PoisonError::into_inner)
}
