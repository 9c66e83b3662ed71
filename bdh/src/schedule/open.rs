//! Schedules of the user's own: functions of progress.

use super::{Progress, Schedule};
use serde_json::{Map, Value};

/// A learning rate schedule of your own, for [`Schedule::of`]. For a closure, [`Schedule::new`] is shorter.
///
/// The rate must depend on the progress alone: a resumed run asks for the rates of its own updates only, and a plan asks
/// for any of them in any order.
///
/// # Examples
///
/// ```
/// use bdh::Schedule;
/// use bdh::schedule::{LrSchedule, Progress};
/// use serde_json::{Value, json};
///
/// /// Halves the rate every `epochs` epochs.
/// struct Halving {
///     peak: f64,
///     epochs: f64,
/// }
///
/// impl LrSchedule for Halving {
///     fn name(&self) -> String {
///         "halving".to_owned()
///     }
///
///     fn config(&self) -> Value {
///         json!({ "peak": self.peak, "epochs": self.epochs })
///     }
///
///     fn lr(&self, progress: &Progress) -> f64 {
///         let epoch = progress.epoch.unwrap_or_default();
///         self.peak * 0.5_f64.powf((epoch / self.epochs).floor())
///     }
/// }
///
/// let schedule = Schedule::of(Halving { peak: 0.1, epochs: 2.0 });
/// let mut progress = Progress::new(500, 1_000);
/// progress.epoch = Some(5.0);
/// assert_eq!(schedule.lr_at(&progress), 0.025);
/// ```
pub trait LrSchedule: Send + Sync {
    /// Returns the name for `run.json` and the plan.
    fn name(&self) -> String;

    /// Returns all settings that decide the rates. A run resumes only with an equal name and equal settings, unless
    /// [`allow_changed`](crate::TrainerBuilder::allow_changed) permits the change. The default, `null`, is no settings.
    fn config(&self) -> Value {
        Value::Null
    }

    /// Returns the learning rate of the update that comes next: a finite number, 0 or more.
    fn lr(&self, progress: &Progress) -> f64;
}

/// Returns name and settings as they are in `run.json`.
pub(super) fn described(schedule: &dyn LrSchedule) -> Value {
    let mut entries = Map::new();
    entries.insert("name".to_owned(), schedule.name().into());
    let config = schedule.config();
    if !config.is_null() {
        entries.insert("config".to_owned(), config);
    }
    entries.into()
}

/// A function with a name.
pub(super) struct Named<F> {
    pub(super) name: String,
    pub(super) function: F,
}

impl<F: Fn(&Progress) -> f64 + Send + Sync> LrSchedule for Named<F> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn lr(&self, progress: &Progress) -> f64 {
        (self.function)(progress)
    }
}

/// Another schedule's rates times a factor.
pub(super) struct Scaled {
    pub(super) schedule: Schedule,
    pub(super) factor: f64,
}

impl LrSchedule for Scaled {
    fn name(&self) -> String {
        "scaled".to_owned()
    }

    fn config(&self) -> Value {
        serde_json::json!({ "factor": self.factor, "schedule": self.schedule })
    }

    fn lr(&self, progress: &Progress) -> f64 {
        self.schedule.lr_at(progress) * self.factor
    }
}
