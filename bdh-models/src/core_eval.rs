//! CORE, a benchmark of 22 tasks for language models, evaluated like in nanochat.
//!
//! ```text
//! directory ──Bundle::open──> items ──Evaluator──> TaskScore ──Report──> CORE, or CORE-18 if four tasks are missing
//!              (strict)         │        ↑
//!             few-shot examples └ prompts, ids, scored range; the model's scores of these ids
//! ```
//!
//! | file               | contents                                                             |
//! |--------------------|----------------------------------------------------------------------|
//! | `tasks.rs`         | the 22 tasks: files, shots, baselines, delimiters                    |
//! | `bundle.rs`        | reads a directory of items; `item.rs`: one line of a file            |
//! | `python_random.rs` | CPython's `random`, for the order and the few-shot examples          |
//! | `prompt.rs`        | items as texts and ids                                               |
//! | `evaluate.rs`      | runs batches through a model, and marks its answers                  |
//! | `report.rs`        | accuracies, centered accuracies, standard errors                     |
//! | `callback.rs`      | CORE during training                                                 |
//! | `from_bpb.rs`      | expected CORE of a validation loss                                   |
//!
//! The accuracy of a task is centered: 0 is chance, 1 is perfect. CORE is the mean over the tasks.
//! Source: Li et al., 2024, *DataComp-LM* (arXiv:2406.11794); karpathy/nanochat, `nanochat/core_eval.py`.

mod bundle;
mod callback;
mod error;
mod evaluate;
mod from_bpb;
mod item;
mod prompt;
mod python_random;
mod report;
mod tasks;

pub use bundle::{Bundle, TaskItems};
pub use callback::CoreMetric;
pub use error::CoreError;
pub use evaluate::Evaluator;
pub use from_bpb::{CoreFromBpb, NoPrediction, core_from_bpb};
pub use item::{Item, ItemError};
pub use prompt::{Row, render, rows};
pub use python_random::PythonRandom;
pub use report::{Report, TaskScore};
pub use tasks::{CoreTask, Kind, TASKS};
