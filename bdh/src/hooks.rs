//! Hooks of a run: their names, their events, and callbacks made from a closure.
//!
//! # Examples
//!
//! ```
//! use bdh::CallbackExt;
//! use bdh::hooks::on_step;
//!
//! let tokens = on_step(|ctx| Ok(ctx.log("tokens", ctx.clock().tokens as f64))).on(100);
//! ```

pub use crate::callback::{
    after_backward, after_optimizer_step, before_optimizer_step, on_checkpoint, on_eval,
    on_eval_batch, on_fit_end, on_fit_start, on_micro_batch, on_step, on_step_start,
};
pub use crate::event::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, Checkpointed, EvalBatch, EvalEnd,
    EvalReport, FitEnd, FitStart, MicroBatch, StepEnd, StepStart, Timing,
};
pub use crate::hook::{Hook, Hooks};
