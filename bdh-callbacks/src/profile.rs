//! Time of each phase of a step, over a window of steps.
//!
//! | key                        | unit    | recorded, on every step of the window                           |
//! |----------------------------|---------|------------------------------------------------------------------|
//! | `profile/data`             | seconds | waiting for the batches                                          |
//! | `profile/forward_backward` | seconds | computing losses and gradients of all micro-batches              |
//! | `profile/clipping`         | seconds | running interventions and clipping                               |
//! | `profile/optimizer`        | seconds | updating the parameters                                          |
//! | `profile/other`            | seconds | hooks of callbacks, and records, with the wait for the device    |
//! | `profile`                  | table   | means and shares, on the last step of the window                 |
//!
//! A GPU runs asynchronously. Without `sync` these are the times of the host, and the wait for the device is in `other`.

use crate::settings::within;
use bdh::cadence::between;
use bdh::hooks::{AfterBackward, BeforeOptimizerStep, StepEnd, StepStart};
use bdh::{BoxError, Cadence, Callback, Context, HookResult, Outlook, Value, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Measures the phases of the steps in a window, and records a table of them.
///
/// With `sync` it costs four waits for the device on each step of the window.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh_callbacks::StepProfiler;
///
/// let profile = StepProfiler::default().first_step(100).steps(20).sync(true);
/// assert_eq!(profile.cadence().to_string(), "between 100 and 119 steps");
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct StepProfiler {
    /// First step of the window. Defaults to 10, when kernels have been compiled and tuned.
    #[setters(into = false)]
    first_step: u64,
    /// Number of steps in the window. Defaults to 20.
    #[setters(into = false)]
    steps: u64,
    /// Whether to wait for the device after each phase, so that the device's time counts for the right phase. Slows
    /// each step of the window by four waits. Defaults to no.
    sync: bool,
    /// Ends of this step's phases so far.
    #[setters(skip)]
    #[serde(skip)]
    marks: Vec<Instant>,
    /// Sums over the window.
    #[setters(skip)]
    #[serde(skip)]
    sums: Sums,
}

/// Number of steps, and the total time of each phase.
#[derive(Debug, Clone, Default)]
struct Sums {
    steps: u32,
    phases: [Duration; 5],
}

const PHASES: [&str; 5] = ["data", "forward_backward", "clipping", "optimizer", "other"];

impl Default for StepProfiler {
    fn default() -> Self {
        Self {
            first_step: 10,
            steps: 20,
            sync: false,
            marks: Vec::new(),
            sums: Sums::default(),
        }
    }
}

impl StepProfiler {
    fn last_step(&self) -> u64 {
        self.first_step.saturating_add(self.steps.max(1) - 1)
    }

    fn mark(&mut self, ctx: &Context<'_>) -> HookResult {
        if self.sync {
            ctx.device().sync()?;
        }
        self.marks.push(Instant::now());
        Ok(())
    }

    /// Returns the times of the phases, in the order of [`PHASES`]. `None` without all four marks, as in a replay.
    fn phases(&self, ctx: &StepEnd<'_>) -> Option<[Duration; 5]> {
        let [start, backward, clipped, updated] = self.marks[..] else {
            return None;
        };
        let data = ctx.timing.data;
        let forward_backward = backward - start;
        let clipping = clipped - backward;
        let optimizer = updated - clipped;
        let known = data + forward_backward + clipping + optimizer;
        let other = ctx.timing.step.saturating_sub(known);
        Some([data, forward_backward, clipping, optimizer, other])
    }

    fn table(&self) -> Value {
        let all: f64 = self.sums.phases.iter().map(Duration::as_secs_f64).sum();
        let mut rows = Vec::new();
        for (name, sum) in PHASES.iter().zip(&self.sums.phases) {
            rows.push(self.row(name, sum.as_secs_f64(), all));
        }
        let columns = ["phase", "ms a step", "% of the time"].map(str::to_owned);
        Value::Table {
            columns: columns.into(),
            rows,
        }
    }

    /// Returns the row of a phase that took `seconds` of `all` seconds.
    fn row(&self, name: &str, seconds: f64, all: f64) -> Vec<String> {
        let mean = 1e3 * seconds / f64::from(self.sums.steps.max(1));
        let share = 100.0 * seconds / all.max(f64::MIN_POSITIVE);
        vec![name.to_owned(), format!("{mean:.3}"), format!("{share:.1}")]
    }
}

#[callback("profile")]
impl Callback for StepProfiler {
    fn cadence(&self) -> Cadence {
        between(self.first_step, self.last_step())
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        within("steps", self.steps, 1.., "use 1 or more")
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = PHASES.map(|phase| format!("profile/{phase}")).to_vec();
        keys.push("profile".to_owned());
        keys
    }

    fn on_step_start(&mut self, ctx: &StepStart<'_>) -> HookResult {
        self.marks.clear();
        self.mark(ctx)
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        self.mark(ctx)
    }

    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        self.mark(ctx)
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.mark(ctx)?;
        let Some(phases) = self.phases(ctx) else {
            return Ok(());
        };
        for (index, (name, phase)) in PHASES.iter().zip(phases).enumerate() {
            ctx.log(format!("profile/{name}"), phase.as_secs_f64());
            self.sums.phases[index] += phase;
        }
        self.sums.steps += 1;
        let is_last = ctx.length().is_reached(ctx.clock());
        if is_last || ctx.step() == self.last_step() {
            ctx.log("profile", self.table());
        }
        Ok(())
    }
}
