//! Learning rate schedules: pure functions of a run's [`Progress`], so a resumed run has nothing to restore.
//!
//! | schedule | made by |
//! |---|---|
//! | a constant rate | a number, or [`constant`] |
//! | warmup, then constant, linear, cosine, or stable and decay | [`warmup_constant`], [`warmup_linear`], [`warmup_cosine`], [`warmup_stable_decay`] |
//! | a function of your own | [`Schedule::new`], or a closure from [`&Progress`](Progress) to `f64` |
//! | a type of your own | [`LrSchedule`], by [`Schedule::of`] |
//! | a scheduler of burn | [`burn()`], [`burn_scheduler`] |
//! | any of these, times a factor | [`Schedule::scaled`], as for layer-wise decay |
//!
//! Each [`Group`](crate::Group) has its own schedule. A rate that depends on the evals is no function of progress: that
//! is an [`Intervention`](crate::Intervention), such as `ReduceOnPlateau` of `bdh-callbacks`.
//!
//! A rate must be a finite number, 0 or more. Rates of many updates are checked before the run; a wrong rate that
//! appears later ends the run.

mod adapter;
mod open;
mod outline;
mod progress;
mod shape;

pub use open::LrSchedule;
pub use progress::Progress;

use crate::clock::{Clock, RunLength};
use crate::names::short_type_name;
use ::burn::lr_scheduler::LrSchedulerConfig;
use ::burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use adapter::Adapter;
use open::{Named, Scaled, described};
use serde::{Serialize, Serializer};
use serde_json::Value;
use shape::{Decay, Shape};
use std::fmt;
use std::sync::Arc;

/// Number of updates, spread over the run, whose rates are checked before it.
const NUM_CHECKED: u64 = 1_000;

/// Number of updates that are checked where a run's length is not known. Small, because the run may be as short.
const NUM_CHECKED_UNKNOWN: u64 = 16;

/// The learning rate of a parameter group over the run.
///
/// A built-in shape, a function of your own, or a scheduler of burn; see the [module](crate::schedule). Cloning is
/// cheap. Two schedules are equal if `run.json` describes them equally: name and settings, not the code of a function.
///
/// In a run whose number of updates is not known, such as one limited by time, a built-in shape counts its warmup in
/// updates and decays by the [share](Progress::share) of the run: linear and cosine from the share 0, so that the rate
/// falls to the curve at the end of the warmup, and a warmdown over the last share.
///
/// # Examples
///
/// ```
/// use bdh::Schedule;
/// use bdh::schedule::warmup_cosine;
///
/// let schedule = warmup_cosine(3e-4, 100).to(0.1);
/// assert_eq!(schedule.lr(99, 2_000), 3e-4); // the 100th update is the first at the peak
/// assert!((schedule.lr(1_999, 2_000) - 3e-5).abs() < 1e-9);
///
/// let inverse_root = Schedule::new("inverse_root", |progress| 1e-3 / ((progress.step + 1) as f64).sqrt());
/// assert_eq!(inverse_root.lr(3, 2_000), 5e-4);
/// ```
#[derive(Clone)]
pub struct Schedule(Form);

#[derive(Clone)]
enum Form {
    Shape(Shape),
    Open(Arc<dyn LrSchedule>),
    /// Cannot work, for a reason that is reported before the run.
    Faulty(Arc<str>),
}

/// Keeps the learning rate at `lr` for the whole run.
#[must_use]
pub fn constant(lr: f64) -> Schedule {
    shaped(lr, 0, Decay::None)
}

/// Rises linearly to `peak` over `warmup` updates and stays there.
#[must_use]
pub fn warmup_constant(peak: f64, warmup: u64) -> Schedule {
    shaped(peak, warmup, Decay::None)
}

/// Rises linearly to `peak` over `warmup` updates, then falls linearly to zero at the end of the run.
#[must_use]
pub fn warmup_linear(peak: f64, warmup: u64) -> Schedule {
    shaped(peak, warmup, Decay::Linear)
}

/// Rises linearly to `peak` over `warmup` updates, then falls along half a cosine to zero at the end.
#[must_use]
pub fn warmup_cosine(peak: f64, warmup: u64) -> Schedule {
    shaped(peak, warmup, Decay::Cosine)
}

/// Rises linearly over `warmup` updates, holds `peak`, and falls linearly to zero at the end (WSD).
///
/// The fall takes the last `warmdown` of the run, a fraction from 0 to 1.
///
/// Source: nanochat's `get_lr_multiplier`, with `warmdown` 0.65 and a final fraction of 0.05.
#[must_use]
pub fn warmup_stable_decay(peak: f64, warmup: u64, warmdown: f64) -> Schedule {
    shaped(peak, warmup, Decay::Warmdown(warmdown))
}

fn shaped(peak: f64, warmup: u64, decay: Decay) -> Schedule {
    Schedule(Form::Shape(Shape {
        peak,
        warmup,
        decay,
        final_fraction: 0.0,
    }))
}

/// Returns a scheduler of burn, from its configuration, as a schedule.
///
/// The learning rates are those of burn, bit for bit, and a resumed run continues them exactly: nothing of a scheduler is
/// saved, because a rate is a function of the number of updates. A scheduler of burn does not know the length of the run.
/// `run.json` has its name and its settings. Settings that burn refuses are reported by [`build`](crate::TrainerBuilder::build).
///
/// # Examples
///
/// ```
/// use bdh::burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
/// use bdh::burn::lr_scheduler::noam::NoamLrSchedulerConfig;
/// use bdh::schedule;
///
/// let cosine = schedule::burn(CosineAnnealingLrSchedulerConfig::new(1e-3, 2_000).with_min_lr(1e-5));
/// assert_eq!(cosine.lr(0, 2_000), 1e-3);
///
/// let noam = schedule::burn(NoamLrSchedulerConfig::new(1.0).with_warmup_steps(100).with_model_size(64));
/// assert_eq!(noam.lr(99, 2_000), 0.0125); // the peak: 1 / √(64 · 100)
/// ```
#[must_use]
pub fn burn<C: Into<LrSchedulerConfig>>(config: C) -> Schedule {
    let config = config.into();
    let settings = serde_json::to_value(&config).unwrap_or_default();
    let name = short_type_name::<C>();
    let name = name.strip_suffix("Config").unwrap_or(&name);
    match adapter::build(config) {
        Ok(scheduler) => Schedule::of(Adapter::new(name.to_owned(), settings, scheduler)),
        Err(why) => Schedule::faulty(format!("burn refuses the {name}: {why}")),
    }
}

/// Returns a scheduler that implements burn's [`LrScheduler`](burn::lr_scheduler::LrScheduler), or one that burn has
/// initialized, as a schedule.
///
/// The scheduler must be at its start, and its rates must depend on the number of its steps alone; then a resumed run
/// continues them exactly. Of a `ModuleLrScheduler` only the base counts: each [`Group`](crate::Group) has its own
/// schedule. `run.json` has the name of the type without settings, so prefer [`burn()`] for burn's own schedulers.
///
/// # Examples
///
/// ```
/// use bdh::burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
/// use bdh::schedule;
///
/// #[derive(Clone)]
/// struct Halving(f64);
///
/// impl LrScheduler for Halving {
///     fn step(&mut self) -> f64 {
///         self.0 /= 2.0;
///         self.0
///     }
///
///     fn to_record(&self) -> LrSchedulerRecord {
///         LrSchedulerRecord::new()
///     }
///
///     fn load_record(&mut self, _: LrSchedulerRecord) {}
/// }
///
/// let halving = schedule::burn_scheduler(Halving(1.0));
/// assert_eq!([halving.lr(2, 10), halving.lr(0, 10)], [0.125, 0.5]);
/// ```
#[must_use]
pub fn burn_scheduler<S: Into<ModuleLrScheduler>>(scheduler: S) -> Schedule {
    let name = short_type_name::<S>();
    Schedule::of(Adapter::new(name, Value::Null, scheduler.into()))
}

impl Schedule {
    /// Creates a schedule of a function from progress to the learning rate.
    ///
    /// The rate must depend on the progress alone. `run.json` has the name: give a changed function another one, so
    /// that a resume notices the change. For settings in `run.json`, implement [`LrSchedule`].
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::Schedule;
    ///
    /// let triangle = Schedule::new("triangle", |progress| 1e-3 * (1.0 - (2.0 * progress.share - 1.0).abs()));
    /// assert_eq!(triangle.lr(250, 1_000), 5e-4);
    /// ```
    pub fn new(
        name: impl Into<String>,
        function: impl Fn(&Progress) -> f64 + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        Self::of(Named { name, function })
    }

    /// Creates a schedule of a type that implements [`LrSchedule`].
    pub fn of(schedule: impl LrSchedule + 'static) -> Self {
        Self(Form::Open(Arc::new(schedule)))
    }

    fn faulty(why: impl Into<Arc<str>>) -> Self {
        Self(Form::Faulty(why.into()))
    }

    /// Sets the final learning rate of a built-in shape, as a fraction of the peak. Defaults to 0.
    ///
    /// For any other schedule, [`build`](crate::TrainerBuilder::build) reports an error.
    #[must_use]
    pub fn to(self, final_fraction: f64) -> Self {
        match self.0 {
            Form::Shape(shape) => Self(Form::Shape(Shape {
                final_fraction,
                ..shape
            })),
            Form::Open(open) => Self::faulty(format!(
                "`to` sets the final rate of a built-in shape, and `{}` is none; let it return that rate itself",
                open.name()
            )),
            faulty @ Form::Faulty(_) => Self(faulty),
        }
    }

    /// Returns the schedule with all rates multiplied by `factor`.
    ///
    /// # Examples
    ///
    /// Layer-wise decay, with one group for each of 12 layers: the last has the full rate, each earlier one 0.9 of the
    /// rate of the layer after it.
    ///
    /// ```
    /// use bdh::Group;
    /// use bdh::burn::optim::AdamWConfig;
    /// use bdh::schedule::warmup_cosine;
    ///
    /// let schedule = warmup_cosine(3e-4, 100);
    /// let mut groups = Vec::new();
    /// for layer in 0..12 {
    ///     let prefix = format!("blocks.{layer}.");
    ///     groups.push(Group::new(
    ///         format!("layer{layer}"),
    ///         move |param| param.name.starts_with(&prefix),
    ///         AdamWConfig::new().build(),
    ///         schedule.scaled(0.9_f64.powi(11 - layer)),
    ///     ));
    /// }
    /// ```
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        match &self.0 {
            Form::Shape(shape) => Self(Form::Shape(Shape {
                peak: shape.peak * factor,
                ..*shape
            })),
            Form::Open(_) => Self::of(Scaled {
                schedule: self.clone(),
                factor,
            }),
            Form::Faulty(_) => self.clone(),
        }
    }

    /// Returns the learning rate of update `update` (0 is the first) in a run of `steps` updates.
    ///
    /// The [epoch](Progress::epoch) is not known here; with it, use [`lr_at`](Self::lr_at).
    #[must_use]
    pub fn lr(&self, update: u64, steps: u64) -> f64 {
        self.lr_at(&Progress::new(update, steps))
    }

    /// Returns the learning rate of the update that comes next.
    ///
    /// A scheduler of burn answers in constant time if it is asked in order; an earlier update takes all its steps from
    /// the start again.
    #[must_use]
    pub fn lr_at(&self, progress: &Progress) -> f64 {
        match &self.0 {
            Form::Shape(shape) => shape.lr(progress),
            Form::Open(open) => open.lr(progress),
            Form::Faulty(_) => f64::NAN,
        }
    }

    /// Returns the number of warmup updates of a built-in shape; 0 for any other schedule.
    #[must_use]
    pub fn warmup(&self) -> u64 {
        match &self.0 {
            Form::Shape(shape) => shape.warmup,
            Form::Open(_) | Form::Faulty(_) => 0,
        }
    }

    /// Returns the highest learning rate of a built-in shape; `None` for any other schedule.
    #[must_use]
    pub fn peak(&self) -> Option<f64> {
        match &self.0 {
            Form::Shape(shape) => Some(shape.peak),
            Form::Open(_) | Form::Faulty(_) => None,
        }
    }

    /// Describes the curve for people, in a run of this many steps or of this time: the first rate, the last, and those
    /// where the curve turns or levels off.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::schedule::warmup_cosine;
    ///
    /// let outline = warmup_cosine(3e-4, 100).to(0.1).outline(2_000);
    /// assert_eq!(outline, "3e-6 → 3e-4 (step 100) → 3e-5 (step 2000)");
    /// ```
    #[must_use]
    pub fn outline(&self, length: impl Into<RunLength>) -> String {
        self.outline_with(length.into(), &Clock::default())
    }

    /// Describes the curve in a run whose steps do the work of `per_step`.
    pub(crate) fn outline_with(&self, length: RunLength, per_step: &Clock) -> String {
        let curve = match (&self.0, length.steps()) {
            (_, Some(steps)) => outline::over(self, steps, per_step),
            (Form::Shape(shape), None) => outline::over_time(shape),
            (Form::Open(_) | Form::Faulty(_), None) => outline::at_first(self, per_step),
        };
        match &self.0 {
            Form::Open(open) => format!("{curve}, by `{}`", open.name()),
            Form::Shape(_) | Form::Faulty(_) => curve,
        }
    }

    /// Checks rates from the first update to the last. Returns a problem as a clause whose subject is a group.
    pub(crate) fn check(&self, length: RunLength, per_step: &Clock) -> Result<(), String> {
        if let Form::Faulty(why) = &self.0 {
            return Err(format!("has a schedule that cannot work: {why}"));
        }
        let count = match length.steps() {
            Some(_) => NUM_CHECKED,
            None => NUM_CHECKED_UNKNOWN,
        };
        for progress in progress::points(length, per_step, count) {
            let (step, lr) = (progress.step + 1, self.lr_at(&progress));
            if !is_rate(lr) {
                return Err(format!(
                    "has the learning rate {lr} at step {step}; a schedule returns a finite number, 0 or more"
                ));
            }
        }
        Ok(())
    }
}

/// Whether a number can be a learning rate.
pub(crate) fn is_rate(lr: f64) -> bool {
    lr.is_finite() && lr >= 0.0
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Shape(shape) => fmt::Debug::fmt(shape, f),
            Form::Open(open) => write!(f, "Schedule({})", described(&**open)),
            Form::Faulty(why) => f.debug_tuple("Faulty").field(why).finish(),
        }
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Shape(one), Form::Shape(two)) => one == two,
            (Form::Open(one), Form::Open(two)) => described(&**one) == described(&**two),
            (Form::Faulty(one), Form::Faulty(two)) => one == two,
            _ => false,
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Form::Shape(shape) => shape.serialize(serializer),
            Form::Open(open) => described(&**open).serialize(serializer),
            Form::Faulty(_) => serializer.serialize_none(),
        }
    }
}

impl From<f64> for Schedule {
    fn from(lr: f64) -> Self {
        constant(lr)
    }
}

/// A closure becomes a schedule called `closure`. With [`Schedule::new`] it gets a name, by which a resume notices that
/// another one has taken its place.
///
/// # Examples
///
/// ```
/// use bdh::Schedule;
/// use bdh::schedule::Progress;
///
/// let schedule = Schedule::from(|progress: &Progress| 1e-3 * (1.0 - progress.share));
/// assert_eq!(schedule.lr(500, 1_000), 5e-4);
/// ```
impl<F: Fn(&Progress) -> f64 + Send + Sync + 'static> From<F> for Schedule {
    fn from(function: F) -> Self {
        Self::new("closure", function)
    }
}

#[cfg(test)]
mod tests;
