//! Tests of the schedules.

use super::*;
use ::burn::lr_scheduler::composed::{ComposedLrSchedulerConfig, SchedulerReduction};
use ::burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use ::burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use ::burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use ::burn::lr_scheduler::noam::NoamLrSchedulerConfig;
use ::burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use ::burn::lr_scheduler::step::StepLrSchedulerConfig;
use proptest::prelude::*;
use serde_json::json;
use std::f64::consts::PI;

/// Learning rate of the first edition of this module, kept word for word: old runs must resume with its numbers.
fn first_edition(shape: &Shape, update: u64, steps: u64) -> f64 {
    if update < shape.warmup {
        return shape.peak * (update + 1) as f64 / shape.warmup as f64;
    }
    let progress = || {
        let last = steps.saturating_sub(1);
        let decay = last.saturating_sub(shape.warmup).max(1);
        (update - shape.warmup).min(decay) as f64 / decay as f64
    };
    let remaining = match shape.decay {
        Decay::None => 1.0,
        Decay::Linear => 1.0 - progress(),
        Decay::Cosine => 0.5 * (1.0 + (PI * progress()).cos()),
        Decay::Warmdown(fraction) => {
            let warmdown = (fraction * steps as f64).round_ties_even();
            ((steps.saturating_sub(update)) as f64 / warmdown).min(1.0)
        }
    };
    shape.peak * (remaining + (1.0 - remaining) * shape.final_fraction)
}

fn shape_of(schedule: &Schedule) -> Shape {
    match schedule.0 {
        Form::Shape(shape) => shape,
        _ => panic!("{schedule:?} is no built-in shape"),
    }
}

proptest! {
    #[test]
    fn built_in_shapes_have_the_numbers_of_the_first_edition_bit_for_bit(
        peak in 1e-6..1.0, warmup in 0..40_u64, fraction in 0.0..1.0, last in 0.0..1.0, steps in 1..200_u64
    ) {
        for schedule in [
            constant(peak),
            warmup_constant(peak, warmup),
            warmup_linear(peak, warmup),
            warmup_cosine(peak, warmup),
            warmup_stable_decay(peak, warmup, fraction),
        ] {
            let schedule = schedule.to(last);
            let shape = shape_of(&schedule);
            for update in 0..steps + 5 {
                let expected = first_edition(&shape, update, steps);
                prop_assert_eq!(schedule.lr(update, steps).to_bits(), expected.to_bits());
            }
        }
    }
}

#[test]
fn built_in_shapes_are_saved_as_in_the_first_edition() {
    let saved = |schedule: Schedule| serde_json::to_string(&schedule).expect("JSON");
    assert_eq!(
        saved(constant(0.01)),
        r#"{"peak":0.01,"warmup":0,"decay":"none","final_fraction":0.0}"#
    );
    assert_eq!(
        saved(warmup_cosine(3e-4, 100).to(0.1)),
        r#"{"peak":0.0003,"warmup":100,"decay":"cosine","final_fraction":0.1}"#
    );
    assert_eq!(
        saved(warmup_stable_decay(0.02, 40, 0.65).to(0.05)),
        r#"{"peak":0.02,"warmup":40,"decay":{"warmdown":0.65},"final_fraction":0.05}"#
    );
}

#[test]
fn warmup_reaches_the_peak_on_its_last_update() {
    let schedule = warmup_constant(1.0, 4);
    let lrs: Vec<_> = (0..6).map(|update| schedule.lr(update, 10)).collect();
    assert_eq!(lrs, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    assert_eq!((schedule.warmup(), schedule.peak()), (4, Some(1.0)));
}

#[test]
fn linear_and_cosine_end_at_the_final_fraction() {
    for schedule in [warmup_linear(2.0, 3), warmup_cosine(2.0, 3)] {
        assert!(schedule.lr(99, 100).abs() < 1e-15);
        assert_eq!(schedule.lr(3, 100), 2.0);
        assert!((schedule.to(0.1).lr(99, 100) - 0.2).abs() < 1e-15);
    }
}

#[test]
fn warmup_stable_decay_equals_nanochats_multiplier() {
    // models.md 1.2: N = 100, W = 65, (N − it)/W + (1 − (N − it)/W)·0.05 once it > N − W.
    let schedule = warmup_stable_decay(1.0, 40, 0.65).to(0.05);
    assert_eq!(schedule.lr(0, 100), 1.0 / 40.0);
    let p: f64 = 30.0 / 65.0;
    assert!((schedule.lr(70, 100) - (p + (1.0 - p) * 0.05)).abs() < 1e-15);
    assert_eq!(warmup_stable_decay(1.0, 0, 0.65).to(0.05).lr(35, 100), 1.0);
}

#[test]
fn runs_shorter_than_the_warmup_have_finite_learning_rates() {
    for schedule in [warmup_cosine(1.0, 50), warmup_linear(1.0, 50)] {
        assert!((0..20).all(|update| schedule.lr(update, 10).is_finite()));
    }
    assert!(warmup_stable_decay(1.0, 0, 0.0).lr(9, 10).is_finite());
}

#[test]
fn shapes_of_a_run_limited_by_time_decay_by_its_share() {
    let at = |schedule: &Schedule, step, share| schedule.lr_at(&Progress::of_share(step, share));
    let linear = warmup_linear(1.0, 4).to(0.5);
    assert_eq!([at(&linear, 0, 0.0), at(&linear, 3, 0.9)], [0.25, 1.0]);
    assert_eq!([at(&linear, 4, 0.5), at(&linear, 9, 1.0)], [0.75, 0.5]);
    let cosine = warmup_cosine(1.0, 0);
    assert_eq!(at(&cosine, 7, 0.0), 1.0);
    assert!((at(&cosine, 7, 0.5) - 0.5).abs() < 1e-15);
    let hold = warmup_stable_decay(1.0, 2, 0.5);
    let lrs = [0.2, 0.5, 0.75, 1.0].map(|share| at(&hold, 9, share));
    assert_eq!(lrs, [1.0, 1.0, 0.5, 0.0]);
}

#[test]
fn functions_are_saved_by_name_and_types_with_their_settings() {
    struct Root(f64);

    impl LrSchedule for Root {
        fn name(&self) -> String {
            "root".to_owned()
        }

        fn config(&self) -> Value {
            json!({ "peak": self.0 })
        }

        fn lr(&self, progress: &Progress) -> f64 {
            self.0 / ((progress.step + 1) as f64).sqrt()
        }
    }

    let own = Schedule::of(Root(2.0));
    assert_eq!(
        json!(own),
        json!({ "name": "root", "config": { "peak": 2.0 } })
    );
    assert_eq!(own.lr(3, 10), 1.0);
    assert_eq!(
        json!(Schedule::new("own", |_| 1.0)),
        json!({ "name": "own" })
    );
    let closure = |progress: &Progress| progress.share;
    assert_eq!(json!(Schedule::from(closure)), json!({ "name": "closure" }));
    assert_ne!(Schedule::of(Root(1.0)), own);
    assert_eq!(Schedule::of(Root(2.0)), own);
    assert_ne!(constant(1.0), Schedule::new("own", |_| 1.0));
}

#[test]
fn scaling_multiplies_every_rate() {
    let shape = warmup_cosine(0.5, 3).to(0.25);
    let own = Schedule::new("own", |progress| progress.share);
    for update in 0..20 {
        assert_eq!(shape.scaled(0.5).lr(update, 20), shape.lr(update, 20) * 0.5);
        assert_eq!(own.scaled(0.3).lr(update, 20), own.lr(update, 20) * 0.3);
    }
    assert_eq!(json!(shape.scaled(0.5))["peak"], 0.25);
    let config = json!({ "factor": 0.3, "schedule": { "name": "own" } });
    assert_eq!(
        json!(own.scaled(0.3)),
        json!({ "name": "scaled", "config": config })
    );
}

/// Schedulers of burn, one of each kind.
fn kinds() -> Vec<LrSchedulerConfig> {
    let linear = LinearLrSchedulerConfig::new(1e-3, 1e-5, 120);
    let cosine = CosineAnnealingLrSchedulerConfig::new(1e-2, 150).with_min_lr(1e-5);
    let exponential = ExponentialLrSchedulerConfig::new(1e-2, 0.97);
    let noam = NoamLrSchedulerConfig::new(0.7)
        .with_warmup_steps(40)
        .with_model_size(64);
    let step = StepLrSchedulerConfig::new(1e-2, 30).with_gamma(0.5);
    let composed = ComposedLrSchedulerConfig::new()
        .with_reduction(SchedulerReduction::Avg)
        .linear(linear.clone())
        .exponential(exponential.clone());
    let parts = vec![linear.clone().into(), cosine.clone().into()];
    let sequential = SequentialLrSchedulerConfig::new(parts, vec![60]);
    vec![
        1e-3.into(),
        linear.into(),
        cosine.into(),
        exponential.into(),
        noam.into(),
        step.into(),
        composed.into(),
        sequential.into(),
    ]
}

/// Rates of 200 steps by burn itself.
fn by_burn(config: LrSchedulerConfig) -> Vec<f64> {
    let mut scheduler = adapter::build(config).expect("valid settings");
    (0..200).map(|_| scheduler.step().base()).collect()
}

#[test]
fn schedulers_of_burn_have_its_rates_bit_for_bit() {
    for config in kinds() {
        let expected = by_burn(config.clone());
        let schedule = burn(config);
        let found: Vec<_> = (0..200).map(|update| schedule.lr(update, 200)).collect();
        assert_eq!(found, expected, "{schedule:?}");
    }
}

#[test]
fn schedulers_of_burn_continue_exactly_after_a_resume() {
    for config in kinds() {
        let expected = by_burn(config.clone());
        let resumed = burn(config); // a new process
        let found: Vec<_> = (77..200).map(|update| resumed.lr(update, 200)).collect();
        assert_eq!(found, expected[77..], "{resumed:?}");
    }
}

proptest! {
    #[test]
    fn schedulers_of_burn_can_be_asked_in_any_order(updates in prop::collection::vec(0..200_usize, 1..40)) {
        let config = ExponentialLrSchedulerConfig::new(1e-2, 0.97); // its state is the last rate itself
        let expected = by_burn(config.clone().into());
        let schedule = burn(config);
        let shared = schedule.clone();
        for update in updates {
            prop_assert_eq!(schedule.lr(update as u64, 200), expected[update]);
            prop_assert_eq!(shared.lr(update as u64, 200), expected[update]); // a second group's
        }
    }
}

/// Counts the steps of all its clones.
#[derive(Clone)]
struct Counting(Arc<std::sync::atomic::AtomicU64>);

impl ::burn::lr_scheduler::LrScheduler for Counting {
    fn step(&mut self) -> f64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        1.0
    }

    fn to_record(&self) -> ::burn::lr_scheduler::LrSchedulerRecord {
        ::burn::lr_scheduler::LrSchedulerRecord::new()
    }

    fn load_record(&mut self, _: ::burn::lr_scheduler::LrSchedulerRecord) {}
}

#[test]
fn plan_in_the_middle_of_a_run_does_not_repeat_the_steps_of_training() {
    let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let schedule = burn_scheduler(Counting(Arc::clone(&count)));
    let steps = || count.load(std::sync::atomic::Ordering::Relaxed);
    for update in 0..500 {
        let _ = schedule.lr(update, 1_000);
    }
    assert_eq!(steps(), 500, "one step of the scheduler an update");
    assert_eq!(schedule.outline(1_000), "1e0, by `Counting`");
    let planned = steps();
    assert!(planned <= 1_502, "{planned}: the plan takes each step once");
    for update in 500..1_000 {
        let _ = schedule.lr(update, 1_000);
    }
    assert!(steps() <= planned + 502, "{}", steps());
}

#[test]
fn schedulers_of_burn_are_saved_with_name_and_settings() {
    let cosine = burn(CosineAnnealingLrSchedulerConfig::new(1e-2, 150));
    let saved = json!(cosine);
    assert_eq!(saved["name"], "CosineAnnealingLrScheduler");
    let settings = json!({ "initial_lr": 1e-2, "min_lr": 0.0, "num_iters": 150 });
    assert_eq!(saved["config"], json!({ "Cosine": settings }));
    assert_ne!(
        cosine,
        burn(CosineAnnealingLrSchedulerConfig::new(1e-2, 151))
    );
}

/// Returns the problem that is reported before a run of `steps` updates.
fn problem(schedule: &Schedule, steps: u64) -> String {
    let length = RunLength::Steps(steps);
    let problem = schedule.check(length, &Clock::default());
    problem.err().unwrap_or_default()
}

#[test]
fn rates_that_cannot_work_are_found_before_the_run() {
    let nan = |step: u64| format!("has the learning rate NaN at step {step}; ");
    assert!(problem(&constant(f64::NAN), 9).starts_with(&nan(1)));
    assert!(problem(&warmup_cosine(1.0, 2).to(f64::NAN), 9).starts_with(&nan(3)));
    assert_eq!(
        problem(&constant(-1e-3), 9),
        "has the learning rate -0.001 at step 1; a schedule returns a finite number, 0 or more"
    );
    let late = Schedule::new("late", |progress| 1.0 - progress.step as f64 / 8.0);
    assert_eq!(problem(&late, 9), "");
    assert!(problem(&late, 10).starts_with("has the learning rate -0.125 at step 10"));
    let infinite = Schedule::new("infinite", |progress| 1.0 / progress.share);
    assert!(problem(&infinite, 1_000_000).starts_with("has the learning rate inf at step 1"));
    assert_eq!(problem(&warmup_stable_decay(1.0, 50, 0.5), 10), "");
}

#[test]
fn faults_of_settings_are_found_before_the_run() {
    let refused = burn(NoamLrSchedulerConfig::new(1.0).with_warmup_steps(0));
    assert_eq!(
        problem(&refused.scaled(0.5).to(0.1), 9),
        "has a schedule that cannot work: burn refuses the NoamLrScheduler: Number of steps before exponential decay \
         starts must be greater than 0"
    );
    let own = Schedule::new("own", |_| 1.0).to(0.1);
    let text = problem(&own, 9);
    assert!(
        text.contains("`to` sets the final rate of a built-in shape, and `own` is none"),
        "{text}"
    );
}
