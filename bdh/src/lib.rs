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
//!         mean of the gradients, without those of frozen parameters      -> after_backward
//!         interventions: may change gradients or learning rates, or skip the update
//!         global-norm clipping                                           -> before_optimizer_step
//!         optimizer step                                                 -> after_optimizer_step
//!         advance the clock: step = completed updates                    -> on_step
//!         each eval set that is due or requested: batches, then report   -> on_eval_batch, on_eval
//!         handle requests: stop, checkpoint
//!         checkpoint if due or requested: capture, write, rename         -> on_checkpoint
//!         one device read for everything logged, one record              -> sinks
//!       on_fit_end, always, with the outcome
//! ```
//!
//! The record of a step has the training loss, the learning rates, the metrics of its evals, and what callbacks and
//! [losses](LossContext::log) logged. [`Trainer::start`] returns a [`Run`] that takes these steps one by one, for a loop of
//! your own.
//!
//! # Modules
//!
//! | module | contains |
//! |---|---|
//! | [`prelude`] | the names that most programs use |
//! | [`hooks`] | the events of hooks, and callbacks made of closures |
//! | [`cadence`], [`clock`] | the steps on which to act, and how far a run is |
//! | [`data`] | training and evaluation data, adapters |
//! | [`metrics`] | metrics of an eval: means, classes, ranks, errors, your own |
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
//! At the root: [`Trainer`] and its builder, [`Run`], [`Task`], [`LossContext`], [`Callback`], [`Intervention`], [`Sink`];
//! [`evaluate`] without a run, [`freeze`], and files of weights: [`load_weights`], [`load_matching`], [`save_weights`],
//! [`average_weights`].
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
//! | `dataset` | burn's datasets and data loaders  |         |
//! | `pytorch` | weights from and to `.pt` files   |         |

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
pub mod data;
mod deferred;
pub mod device;
mod device_read;
pub mod error;
mod evaluate;
mod event;
mod failure;
mod feedback;
pub mod files;
mod flushing;
mod freeze;
mod histogram;
mod hook;
pub mod hooks;
mod intervention;
pub mod lines;
pub mod lm;
mod loss_context;
mod message;
pub mod metrics;
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
pub mod stats;
mod step_log;
mod task;
pub mod testing;
pub mod text;
mod trainer;
mod turn;
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
pub use evaluate::evaluate;
pub use failure::{BoxError, HookResult};
pub use freeze::{Freeze, freeze};
pub use intervention::{Intervention, InterventionContext, UpdateDecision};
#[doc(hidden)]
pub use inventory;
pub use lm::{CausalLm, NextToken, TokenBatch};
pub use loss_context::LossContext;
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
pub use stats::Stats;
pub use task::{BatchSize, Task};
pub use trainer::{Replay, ReplayBuilder, Resume, Run, Step, Trainer, TrainerBuilder};
pub use weights::{
    Average, LoadReport, average_weights, load_matching, load_matching_prefixes, load_weights,
    load_weights_except, save_weights,
};

/// The code of the README and of docs/reliability.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../docs/reliability.md")]
struct Pages;
