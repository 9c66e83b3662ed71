//! Names that most programs need: `use bdh::prelude::*;`.
//!
//! # Examples
//!
//! ```
//! use bdh::prelude::*;
//!
//! let eval = every(250) | last();
//! let rate = schedule::constant(1e-3);
//! # let _ = (eval, rate);
//! ```

pub use crate::cadence::{self, at, every, first, last};
pub use crate::callback::{Callback, CallbackExt};
pub use crate::context::Context;
pub use crate::device::{device, devices};
pub use crate::failure::HookResult;
pub use crate::hooks::{self, AfterBackward, EvalEnd, StepEnd};
pub use crate::lm::{CausalLm, NextToken};
pub use crate::optim::Group;
pub use crate::probe::Probe;
pub use crate::schedule::{self, warmup_cosine};
pub use crate::seed::seed;
pub use crate::sink::Sink;
pub use crate::task::Task;
pub use crate::trainer::Trainer;
pub use bdh_macros::callback;
