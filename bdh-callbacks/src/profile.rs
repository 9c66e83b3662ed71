//! Where the time of a step goes, over a window of steps.
//!
//! | key                        | unit    | recorded, on every step of the window                           |
//! |----------------------------|---------|------------------------------------------------------------------|
//! | `profile/data`             | seconds | waiting for the batches                                          |
//! | `profile/forward_backward` | seconds | losses and gradients of all micro-batches                        |
//! | `profile/clipping`         | seconds | interventions and clipping                                       |
//! | `profile/optimizer`        | seconds | the update                                                       |
//! | `profile/other`            | seconds | other callbacks' hooks, and records: the wait for the device too |
//! | `profile`                  | table   | means and shares, on the last step of the window                 |
//!
//! A GPU works behind the host's back: without `sync` these are the times of the host, and what waits for the
//! device is `other`.

use crate::settings::within;
use bdh::{
    AfterBackward, BeforeOptimizerStep, BoxError, Cadence, Callback, ConfigError, Cx, HookResult,
    Outlook, StepEnd, StepStart, Value, between, callback,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Measures the phases of some steps, and shows them in a table.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh_callbacks::Profile;
///
/// let profile = Profile::builder().first_step(100).steps(20).sync(true).build()?;
/// assert_eq!(profile.cadence().to_string(), "between 100 and 119 steps");
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    setter(into),
    build_fn(error = "ConfigError")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// The first step of the window. Defaults to 10, when kernels have been compiled and tuned.
    #[builder(setter(into = false))]
    first_step: u64,
    /// How many steps it has. Defaults to 20.
    #[builder(setter(into = false))]
    steps: u64,
    /// Whether to wait for the device after each phase, so that its time is in the phase that it worked for. That
    /// slows the steps of the window down, by four waits each. Defaults to no.
    sync: bool,
    /// When this step's phases ended so far.
    #[builder(setter(skip))]
    #[serde(skip)]
    marks: Vec<Instant>,
    /// Sums over the window.
    #[builder(setter(skip))]
    #[serde(skip)]
    sums: Sums,
}

/// How often, and how long each phase took in all.
#[derive(Debug, Clone, Default)]
struct Sums {
    steps: u32,
    phases: [Duration; 5],
}

const PHASES: [&str; 5] = ["data", "forward_backward", "clipping", "optimizer", "other"];

impl Default for Profile {
    fn default() -> Self {
        let (marks, sums) = (Vec::new(), Sums::default());
        Self {
            first_step: 10,
            steps: 20,
            sync: false,
            marks,
            sums,
        }
    }
}

impl Profile {
    /// Begins with the defaults.
    pub fn builder() -> ProfileBuilder {
        ProfileBuilder::default()
    }

    fn last_step(&self) -> u64 {
        self.first_step.saturating_add(self.steps.max(1) - 1)
    }

    fn mark(&mut self, at: &Cx<'_>) -> HookResult {
        if self.sync {
            at.device().sync()?;
        }
        self.marks.push(Instant::now());
        Ok(())
    }

    /// The phases of a step whose marks are complete; the first one is not between marks.
    fn phases(&self, at: &StepEnd<'_>) -> Option<[Duration; 5]> {
        let [start, backward, clipped, updated] = self.marks[..] else {
            return None;
        };
        let (data, whole) = (at.timing.data, at.timing.step);
        let known = [
            data,
            backward - start,
            clipped - backward,
            updated - clipped,
        ];
        let other = whole.saturating_sub(known.iter().sum());
        let [data, backward, clipping, optimizer] = known;
        Some([data, backward, clipping, optimizer, other])
    }

    fn table(&self) -> Value {
        let all: f64 = self.sums.phases.iter().map(Duration::as_secs_f64).sum();
        let row = |(name, sum): (&&str, &Duration)| {
            let seconds = sum.as_secs_f64();
            let mean = 1e3 * seconds / f64::from(self.sums.steps.max(1));
            let share = 100.0 * seconds / all.max(f64::MIN_POSITIVE);
            vec![
                (*name).to_owned(),
                format!("{mean:.3}"),
                format!("{share:.1}"),
            ]
        };
        Value::Table {
            columns: ["phase", "ms a step", "% of the time"]
                .map(str::to_owned)
                .into(),
            rows: PHASES.iter().zip(&self.sums.phases).map(row).collect(),
        }
    }
}

#[callback("profile")]
impl Callback for Profile {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        between(self.first_step, self.last_step())
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        within("steps", self.steps, 1.., "use 1 or more")
    }

    fn keys(&self) -> Vec<String> {
        let phases = PHASES.map(|phase| format!("profile/{phase}"));
        phases.into_iter().chain(["profile".to_owned()]).collect()
    }

    fn on_step_start(&mut self, at: &StepStart<'_>) -> HookResult {
        self.marks.clear();
        self.mark(at)
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        self.mark(at)
    }

    fn before_optimizer_step(&mut self, at: &BeforeOptimizerStep<'_>) -> HookResult {
        self.mark(at)
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.mark(at)?;
        let Some(phases) = self.phases(at) else {
            return Ok(());
        };
        for (index, (name, phase)) in PHASES.iter().zip(phases).enumerate() {
            at.log(format!("profile/{name}"), phase.as_secs_f64());
            self.sums.phases[index] += phase;
        }
        self.sums.steps += 1;
        if at.step() == self.last_step().min(at.steps()) {
            at.log("profile", self.table());
        }
        Ok(())
    }
}
