//! Schedules of the user's own and of burn: recorded, planned, checked before the run and during it, resumed exactly.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use bdh::burn::lr_scheduler::noam::NoamLrSchedulerConfig;
use bdh::burn::optim::{AdamWConfig, SgdConfig};
use bdh::cadence::{at, every, minutes};
use bdh::schedule::{Progress, burn, warmup_cosine, warmup_linear};
use bdh::{
    BoxError, Group, Intervention, InterventionContext, MemorySink, Schedule, TrainError,
    TrainResult, UpdateDecision, data,
};
use serde_json::Value;
use std::path::Path;
use tiny::Tiny;

fn run(steps: u64, schedule: impl Into<Schedule>) -> tiny::Builder {
    let run = tiny::compose(tiny::ROWS, Tiny::new(0.0), steps);
    run.optimizer(AdamWConfig::new().build(), schedule)
}

fn fit(run: tiny::Builder) -> TrainResult<Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

/// Returns the recorded learning rates of a run.
fn rates(run: tiny::Builder, key: &str) -> Vec<f64> {
    let memory = MemorySink::default();
    fit(run.sink(memory.clone()));
    let series = memory.series(key).into_iter();
    series.map(|(_, lr)| lr).collect()
}

fn refused(run: tiny::Builder) -> String {
    run.build()
        .expect_err("a schedule that cannot work")
        .to_string()
}

#[test]
fn closures_are_schedules() {
    let falling = |progress: &Progress| 0.01 * (1.0 - progress.share);
    assert_eq!(
        rates(run(4, falling), "lr"),
        [0.01, 0.01 * 0.75, 0.01 * 0.5, 0.01 * 0.25]
    );
    let named = Schedule::new("by_steps", |progress| {
        let steps = progress.steps.expect("a run of known length");
        (steps - progress.step) as f64 / 1e3
    });
    assert_eq!(rates(run(3, named), "lr"), [0.003, 0.002, 0.001]);
}

#[test]
fn schedules_know_the_epoch() {
    let halving = Schedule::new("halving", |progress| {
        let epoch = progress.epoch.expect("data of known length");
        0.01 * 0.5_f64.powf(epoch.floor())
    });
    let data = data::cycle(tiny::val()); // two batches
    let run = tiny::bare(tiny::task(), data, Tiny::new(0.0), 6);
    let run = run.optimizer(SgdConfig::new().build(), halving);
    let halves = [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025];
    assert_eq!(rates(run, "lr"), halves);
}

#[test]
fn each_group_has_its_own_schedule() {
    let run = || {
        let head = |param: &bdh::stats::ParamInfo| param.name.starts_with("head");
        let own = Schedule::new("own", |progress| 0.1 + progress.share);
        let group = Group::new("head", head, SgdConfig::new().build(), own);
        let run = tiny::compose(tiny::ROWS, Tiny::new(0.0), 2).group(group);
        run.optimizer(SgdConfig::new().build(), warmup_linear(0.2, 2))
    };
    assert_eq!(rates(run(), "lr/head"), [0.1, 0.6]);
    assert_eq!(rates(run(), "lr/default"), [0.1, 0.2]);
}

#[test]
fn the_plan_outlines_each_schedule() {
    let plan = |run: tiny::Builder| run.build().expect("a valid run").plan().to_string();
    let text = plan(run(2_000, warmup_cosine(3e-4, 100).to(0.1)));
    assert!(
        text.contains(", lr 3e-6 → 3e-4 (step 100) → 3e-5 (step 2000)\n"),
        "{text}"
    );
    let noam = burn(NoamLrSchedulerConfig::new(1.0).with_warmup_steps(50));
    let text = plan(run(200, noam));
    assert!(
        text.contains("(step 50)") && text.contains(", by `NoamLrScheduler`\n"),
        "{text}"
    );
    let timed = tiny::compose(tiny::ROWS, Tiny::new(0.0), 1).duration(minutes(5.0));
    let timed = timed.optimizer(SgdConfig::new().build(), warmup_linear(0.2, 1));
    let text = plan(timed);
    assert!(text.contains(", lr 2e-1 → 0 (at the end)\n"), "{text}");
}

#[test]
fn rates_that_cannot_work_are_refused_before_the_run() {
    let nan = Schedule::new(
        "nan",
        |progress| {
            if progress.step == 3 { f64::NAN } else { 0.1 }
        },
    );
    assert_eq!(
        refused(run(5, nan)),
        "parameter groups: group `default` has the learning rate NaN at step 4; a schedule returns a finite number, 0 \
         or more"
    );
    let text = refused(run(5, warmup_linear(0.1, 0).to(-1.0)));
    assert!(
        text.contains("has the learning rate -0.05 at step 4"),
        "{text}"
    );
    let text = refused(run(5, burn(ExponentialLrSchedulerConfig::new(0.1, 2.0))));
    assert!(
        text.contains("Gamma must be greater than 0 and at most 1"),
        "{text}"
    );
}

/// Multiplies the rate of one group from a step on.
struct Scale {
    group: &'static str,
    from: u64,
    factor: f64,
}

impl Intervention for Scale {
    fn name(&self) -> String {
        "scale".to_owned()
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        if ctx.ctx().step() >= self.from {
            ctx.scale_lr_of(self.group, self.factor)?;
            ctx.scale_lr(2.0);
        }
        Ok(UpdateDecision::Apply)
    }
}

fn scaled(group: &'static str, factor: f64) -> tiny::Builder {
    let head = |param: &bdh::stats::ParamInfo| param.name.starts_with("head");
    let head = Group::new("head", head, SgdConfig::new().build(), 0.5);
    let run = tiny::compose(tiny::ROWS, Tiny::new(0.0), 3).group(head);
    let from = 2;
    run.optimizer(SgdConfig::new().build(), 0.25)
        .intervention(Scale {
            group,
            from,
            factor,
        })
}

#[test]
fn interventions_scale_the_rate_of_one_group_or_of_all() {
    assert_eq!(rates(scaled("head", 0.5), "lr/head"), [0.5, 0.5, 0.5]);
    assert_eq!(rates(scaled("head", 0.5), "lr/default"), [0.25, 0.5, 0.5]);
    let trainer = scaled("hed", 0.5).build().expect("a valid run");
    let error = trainer.fit().expect_err("an unknown group").to_string();
    assert!(
        error.contains("unknown group \"hed\": this run has head, default"),
        "{error}"
    );
}

#[test]
fn rates_that_cannot_work_end_the_run_with_group_step_and_value() {
    for (factor, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (-1.0, "-1")] {
        let trainer = scaled("head", factor).build().expect("a valid run");
        let error = trainer.fit().expect_err("a rate that cannot work");
        let text = error.to_string();
        assert!(
            text.contains(&format!(
                "the learning rate of group `head` is {shown} at step 2; "
            )),
            "{text}"
        );
        assert!(
            matches!(error, TrainError::LearningRate { step: 2, .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_resumed_run_continues_a_scheduler_of_burn_exactly() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let with = |dir: &str, name: &str| {
        let schedule = match name {
            "burn" => burn(ExponentialLrSchedulerConfig::new(0.02, 0.9)),
            _ => Schedule::new("own", |progress| 0.02 / (1.0 + progress.step as f64)),
        };
        run(12, schedule)
            .run_dir(scratch.path().join(dir))
            .checkpoint(every(4))
    };
    let lrs = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("metrics.jsonl")).expect("records");
        let line = |line: &str| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            record["lr"].as_f64()
        };
        text.lines().map(line).collect::<Vec<_>>()
    };
    for name in ["burn", "own"] {
        let (whole, halves) = (format!("{name}-whole"), format!("{name}-halves"));
        let expected = tiny::weights(&fit(with(&whole, name)).model);
        let stop = tiny::on_step(|ctx| {
            ctx.stop("interrupted");
            Ok(())
        });
        let stop = bdh::CallbackExt::on(stop, at([9]));
        fit(with(&halves, name).callback(stop));
        let resumed = with(&halves, name)
            .resume("auto")
            .allow_changed(["callbacks"]);
        assert_eq!(tiny::weights(&fit(resumed).model), expected, "{name}");
        let path = |dir: &str| scratch.path().join(dir);
        assert_eq!(lrs(&path(&halves)), lrs(&path(&whole)), "{name}");
    }
}

#[test]
fn a_resume_with_another_schedule_is_refused_by_name() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let with = |name: &str| {
        let schedule = Schedule::new(name, |_| 0.01);
        run(4, schedule)
            .run_dir(scratch.path())
            .checkpoint(every(2))
    };
    fit(with("one"));
    fit_again(with("one").steps(6).resume("auto"));
    let error = refused(
        with("two")
            .steps(8)
            .resume("auto")
            .allow_changed(["trainer.steps"]),
    );
    assert!(
        error.contains("groups.default.schedule.name: \"one\" then, \"two\" now"),
        "{error}"
    );
}

fn fit_again(run: tiny::Builder) {
    fit(run.allow_changed(["trainer.steps"]));
}
