//! A training framework on [burn](https://burn.dev): a loop one can read in a sitting, hooks one can
//! write in a minute.
//!
//! A [`Trainer`] runs the loop, [`Callback`]s watch it at named hooks, [`Sink`]s carry what they record to
//! files, dashboards and the terminal. Callbacks and sinks for daily use are in `bdh-callbacks`.
//!
//! # The loop
//!
//! ```text
//! fit:  on_fit_start
//!       step 0 is the untrained model: evaluated and saved when a cadence says so
//!       each step:
//!         grad_accum_steps micro-batches are fetched; who is due?        -> on_step_start
//!         each of them: loss, backward                                   -> on_micro_batch
//!         the mean of their gradients                                    -> after_backward
//!         interventions: may change gradients or learning rates, or skip the update
//!         global-norm clipping                                           -> before_optimizer_step
//!         optimizer step                                                 -> after_optimizer_step
//!         the clock has moved: step = completed updates                  -> on_step
//!         eval if due or asked: each batch, then the report              -> on_eval_batch, on_eval
//!         requests are heard: stop, checkpoint
//!         checkpoint if due or asked: capture, write, rename             -> on_checkpoint
//!         one device read for all that was logged, one record            -> sinks
//!       on_fit_end, always, told how it ended
//! ```
//!
//! # Features
//!
//! | feature   | brings                            | default |
//! |-----------|-----------------------------------|---------|
//! | `flex`    | the CPU, in pure Rust             | yes     |
//! | `wgpu`    | GPUs through WebGPU               |         |
//! | `vulkan`  | GPUs through Vulkan               |         |
//! | `metal`   | Apple GPUs                        |         |
//! | `cuda`    | NVIDIA GPUs                       |         |
//! | `pytorch` | weights from `.pt` files          |         |

#![forbid(unsafe_code)]

// What `#[callback]` writes says `::bdh`, in this crate's own tests too.
extern crate self as bdh;

mod cadence;
mod callback;
mod checkpoint;
mod clip;
mod clock;
mod config_change;
mod context;
mod deferred;
mod device;
mod error;
mod event;
mod failure;
mod feedback;
mod flushing;
mod histogram;
mod hook;
mod intervention;
mod names;
mod optim;
mod outcome;
mod overhead;
mod params;
mod pass;
mod plan;
mod printable;
mod probe;
mod read;
mod record;
mod registry;
mod replicas;
mod run;
mod run_lock;
mod schedule;
mod seed;
mod signal;
mod sink;
mod source;
mod stats;
mod step_log;
mod task;
mod text;
mod trainer;
mod weights;

pub mod files;
pub mod lines;
pub mod lm;
pub mod number;
pub mod run_dir;
pub mod testing;

pub use bdh_macros::callback;
pub use bdh_ops as ops;
pub use burn;
pub use cadence::{
    Cadence, CadenceError, at, between, every, first, last, log_spaced, never, start,
};
pub use callback::{Attach, Attached, Callback, OnError};
pub use callback::{
    after_backward, after_optimizer_step, before_optimizer_step, on_checkpoint, on_eval,
    on_eval_batch, on_fit_end, on_fit_start, on_micro_batch, on_step, on_step_start,
};
pub use checkpoint::{
    Checkpoint, CheckpointRequest, State, delete_checkpoint, latest_checkpoint, list_checkpoints,
};
pub use clock::{Clock, Span, fraction, minutes, now, samples, secs, steps, tokens};
pub use config_change::ConfigChange;
pub use context::Cx;
pub use deferred::{Deferred, DeferredHistogram};
pub use device::{DeviceSpec, device, devices};
pub use error::{CheckpointError, ConfigError, DirLoss, Report, Result, TrainError};
pub use event::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, Checkpointed, EvalBatch, EvalEnd,
    EvalReport, FitEnd, FitStart, MicroBatch, StepEnd, StepStart, Timing,
};
pub use failure::{BoxError, HookResult, with_causes};
pub use feedback::Feedback;
pub use histogram::Histogram;
pub use hook::{Hook, Hooks};
pub use intervention::{Intervene, Intervention, Verdict};
#[doc(hidden)]
pub use inventory;
pub use lm::{CausalLm, NextToken, TokenBatch};
pub use optim::{Group, GroupSummary};
pub use outcome::{Fitted, Outcome, Problem, StopReason};
pub use overhead::{Overhead, OverheadRow};
pub use params::{ParamInfo, ParamTable, Tensors};
pub use plan::{Outlook, Plan, PlanRow};
pub use printable::printable;
pub use probe::{Probe, Tap};
pub use record::{Logged, Picture, Record, Value};
pub use registry::{CallbackEntry, callbacks_from_toml, callbacks_from_yaml, registered_callbacks};
pub use run::RunInfo;
pub use run_dir::holds_run;
pub use schedule::{
    Schedule, constant, warmup_constant, warmup_cosine, warmup_linear, warmup_stable_decay,
};
pub use seed::seed;
pub use signal::SignalWatch;
pub use sink::{Jsonl, MemorySink, Sink};
pub use source::Source;
pub use stats::{ParamStats, Stats};
pub use task::{BatchSize, Task, Totals};
pub use trainer::{Replay, ReplayBuilder, Resume, Trainer, TrainerBuilder};
pub use weights::{load_weights, load_weights_except};

/// The code of the README and of docs/reliability.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../docs/reliability.md")]
struct Pages;
