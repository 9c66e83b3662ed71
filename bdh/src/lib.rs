//! Training framework for [burn](https://burn.dev): a loop that you can read in a sitting, and hooks that you can write in
//! a minute.
//!
//! A [`Trainer`] runs the loop. [`Callback`]s watch it at named [hooks], and [`Sink`]s write what they record to files,
//! dashboards and the terminal. Callbacks and sinks for daily use are in `bdh-callbacks`. The [prelude] has the names that
//! most programs use.
//!
//! # The loop
//!
//! ```text
//! fit:  on_fit_start
//!       step 0 is the untrained model: evaluated and saved if a cadence is due
//!       each step:
//!         fetch grad_accum_steps micro-batches; select due callbacks     -> on_step_start
//!         each micro-batch: loss, backward                               -> on_micro_batch
//!         mean of the gradients                                          -> after_backward
//!         interventions: may change gradients or learning rates, or skip the update
//!         global-norm clipping                                           -> before_optimizer_step
//!         optimizer step                                                 -> after_optimizer_step
//!         advance the clock: step = completed updates                    -> on_step
//!         eval if due or requested: each batch, then the report          -> on_eval_batch, on_eval
//!         handle requests: stop, checkpoint
//!         checkpoint if due or requested: capture, write, rename         -> on_checkpoint
//!         one device read for everything logged, one record              -> sinks
//!       on_fit_end, always, with the outcome
//! ```
//!
//! # Modules
//!
//! | module | contains |
//! |---|---|
//! | [`prelude`] | the names that most programs use |
//! | [`hooks`] | the events of hooks, and callbacks made of closures |
//! | [`cadence`], [`clock`] | the steps on which to act, and how far a run is |
//! | [`schedule`], [`optim`] | learning rates, parameter groups |
//! | [`lm`], [`text`] | language models: batches, tasks, generation, scoring |
//! | [`stats`], [`record`] | statistics of parameters and gradients, and recorded values |
//! | [`sink`], [`registry`] | outputs of a run, and callbacks from TOML and YAML |
//! | [`checkpoint`], [`run_dir`] | files of a run |
//! | [`plan`], [`overhead`] | the run before it starts, and the cost of callbacks after it |
//! | [`error`] | errors of the library |
//! | [`mod@device`], [`signal`], [`files`], [`lines`], [`number`] | devices by name, Ctrl-C, safe file access, console lines, JSON numbers |
//! | [`testing`] | checks for your own callbacks, sinks and tasks |
//!
//! # Tracing
//!
//! A run opens `tracing` spans `run`, `step` (level DEBUG), `eval` and `checkpoint`. Notices and requests to stop are events
//! at the level INFO, warnings at WARN. bdh installs no subscriber.
//!
//! # Features
//!
//! | feature   | adds                              | default |
//! |-----------|-----------------------------------|---------|
//! | `flex`    | the CPU, in pure Rust             | yes     |
//! | `wgpu`    | GPUs through WebGPU               |         |
//! | `vulkan`  | GPUs through Vulkan               |         |
//! | `metal`   | Apple GPUs                        |         |
//! | `cuda`    | NVIDIA GPUs                       |         |
//! | `pytorch` | weights from `.pt` files          |         |

#![forbid(unsafe_code)]

// `#[callback]` writes paths that begin with `::bdh`, also in this crate's own tests.
extern crate self as bdh;

pub mod cadence;
mod callback;
pub mod checkpoint;
mod clip;
pub mod clock;
mod config_change;
mod context;
mod deferred;
pub mod device;
mod device_read;
pub mod error;
mod event;
mod failure;
mod feedback;
pub mod files;
mod flushing;
mod histogram;
mod hook;
pub mod hooks;
mod intervention;
pub mod lines;
pub mod lm;
mod message;
mod names;
pub mod number;
pub mod optim;
mod outcome;
pub mod overhead;
mod params;
mod pass;
pub mod plan;
pub mod prelude;
mod printable;
mod probe;
pub mod record;
pub mod registry;
mod replicas;
mod run;
pub mod run_dir;
mod run_lock;
pub mod schedule;
mod seed;
pub mod signal;
pub mod sink;
mod source;
pub mod stats;
mod step_log;
mod task;
pub mod testing;
pub mod text;
mod trainer;
mod weights;

pub use bdh_macros::callback;
pub use bdh_ops as ops;
pub use burn;
pub use cadence::Cadence;
pub use callback::{Callback, CallbackExt, Configured, ErrorPolicy};
pub use clock::Clock;
pub use context::Context;
pub use deferred::Deferred;
pub use device::{device, devices};
pub use error::{ConfigError, Result, TrainError};
pub use failure::{BoxError, HookResult};
pub use intervention::{Intervention, InterventionContext, UpdateDecision};
#[doc(hidden)]
pub use inventory;
pub use lm::{CausalLm, NextToken, TokenBatch};
pub use message::Message;
pub use optim::Group;
pub use outcome::{Outcome, StopReason, TrainResult, Warning};
pub use plan::{Outlook, Plan};
pub use probe::Probe;
pub use record::{Record, Value};
pub use run::RunInfo;
pub use schedule::Schedule;
pub use seed::seed;
pub use sink::{Jsonl, MemorySink, Sink};
pub use source::Source;
pub use stats::Stats;
pub use task::{BatchSize, Task, Totals};
pub use trainer::{Replay, ReplayBuilder, Resume, Trainer, TrainerBuilder};
pub use weights::{load_weights, load_weights_except};

/// The code of the README and of docs/reliability.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../docs/reliability.md")]
struct Pages;
