//! Values of nanochat's training loop.

use super::data_place::{DataPlace, Place};
use super::lines::UNCOUNTED_STEPS;
use crate::summary::peak_memory;
use bdh::hooks::{BeforeOptimizerStep, EvalEnd, FitStart, MicroBatch, StepEnd};
use bdh::{BoxError, Cadence, Callback, Deferred, HookResult, callback};
use bdh_models::nanochat::MuonSchedule;
use bdh_models::scaling::Recipe;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Key of the debiased average of the loss.
pub(crate) const LOSS: &str = "train/loss_ema";
/// Key of the learning rates' share of their peaks.
pub(super) const LRM: &str = "train/lrm";
/// Key of the time of a step, in seconds.
pub(super) const STEP_TIME: &str = "train/dt";
/// Key of the pass through the data.
pub(super) const EPOCH: &str = "train/epoch";
/// Key of the training time, in seconds.
pub(crate) const TRAINING_TIME: &str = "train/training_time";
/// Key of the lowest validation loss, in bits per byte.
pub(super) const MIN_BPB: &str = "min_val_bpb";
/// Key of the most memory in use, in MiB.
pub(super) const PEAK_MEMORY: &str = "memory/peak";
/// Key of the number of the parquet file.
pub(super) const PQ_IDX: &str = "data/pq_idx";
/// Key of the number of the row group.
pub(super) const RG_IDX: &str = "data/rg_idx";

/// Share of the average that an update keeps.
const KEPT: f64 = 0.9;

/// Callback that records what nanochat's training loop prints and logs.
///
/// | key | unit | recorded |
/// |---|---|---|
/// | `train/loss_ema` | debiased average of the last micro-batch's loss: an update keeps 0.9 of it | on every due step |
/// | `train/lrm` | learning rates as a share of their peaks | on every due step |
/// | `train/dt` | seconds a step, since the last due one | on every due step |
/// | `train/training_time` | seconds, without the first 11 updates | on every due step |
/// | `train/epoch` | pass through the data, from 1 | on every due step, if known |
/// | `data/pq_idx`, `data/rg_idx` | parquet file and row group, from 0 | on every due step, if the data has them |
/// | `min_val_bpb` | lowest `val/bpb` so far | with every eval |
/// | `memory/peak` | MiB, of the process, or what the device's allocator holds | on the last step |
///
/// Average, time and lowest loss are part of every checkpoint, so a resumed run continues them. Costs no device read of
/// its own.
pub struct NanochatTrain {
    on: Cadence,
    peak_lr: f64,
    place: DataPlace,
    /// Loss of the last micro-batch.
    loss: Option<Deferred>,
    lr: f64,
    /// Average without the correction for its beginning at 0.
    average: Deferred,
    updates: u64,
    training_time: f64,
    min_bpb: f64,
    logged: Mark,
}

impl fmt::Debug for NanochatTrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NanochatTrain")
            .field("on", &self.on)
            .field("state", &self.loop_state())
            .finish_non_exhaustive()
    }
}

/// Last step that was recorded, and the time of all steps of this process until its end.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    step: u64,
    time: Duration,
}

/// State of the training loop, under the names of `loop_state` in nanochat's `meta_NNNNNN.json`.
///
/// Checkpoints of a run with [`NanochatTrain`] hold it as the state of the callback `nanochat_train`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoopState {
    /// Lowest validation loss so far, in bits per byte; infinite before the first eval.
    #[serde(with = "bdh::number")]
    pub min_val_bpb: f64,
    /// Average of the loss, without the correction for its beginning at 0.
    #[serde(with = "bdh::number")]
    pub smooth_train_loss: f64,
    /// Training time in seconds, without the first updates.
    pub total_training_time: f64,
    /// Updates in the average; `None` in nanochat's files, where it has all updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<u64>,
}

impl NanochatTrain {
    /// Creates the callback for a run with this recipe. It records on every step.
    #[must_use]
    pub fn new(recipe: &Recipe) -> Self {
        let groups = recipe.groups(MuonSchedule::new(recipe.num_iterations));
        Self::with_peak(groups.first().map_or(1.0, |group| group.peak_lr))
    }

    fn with_peak(peak_lr: f64) -> Self {
        Self {
            on: Cadence::EVERY_STEP,
            peak_lr,
            place: DataPlace::default(),
            loss: None,
            lr: 0.0,
            average: Deferred::from(0.0),
            updates: 0,
            training_time: 0.0,
            min_bpb: f64::INFINITY,
            logged: Mark::default(),
        }
    }

    /// Sets the steps on which to record.
    #[must_use]
    pub fn on(mut self, on: impl Into<Cadence>) -> Self {
        self.on = on.into();
        self
    }

    /// Sets the position in the data, of [`tracked`](super::tracked).
    #[must_use]
    pub fn place(mut self, place: DataPlace) -> Self {
        self.place = place;
        self
    }

    /// Sets the state to continue from, in a run that begins at `step` of another program's run.
    #[must_use]
    pub fn continuing(mut self, state: &LoopState, step: u64) -> Self {
        self.average = Deferred::from(state.smooth_train_loss);
        self.updates = state.updates.unwrap_or(step);
        self.training_time = state.total_training_time;
        self.min_bpb = state.min_val_bpb;
        self
    }

    fn loop_state(&self) -> LoopState {
        LoopState {
            min_val_bpb: self.min_bpb,
            smooth_train_loss: self.average.value().unwrap_or(f64::NAN),
            total_training_time: self.training_time,
            updates: Some(self.updates),
        }
    }

    /// Adds the step's loss to the average, and its time to the training time.
    fn count(&mut self, ctx: &StepEnd<'_>) {
        let loss = self.loss.take().unwrap_or_else(|| ctx.loss.clone());
        let average = std::mem::replace(&mut self.average, Deferred::from(0.0));
        self.average = average * KEPT + loss * (1.0 - KEPT);
        self.updates += 1;
        if ctx.step() > UNCOUNTED_STEPS {
            self.training_time += ctx.timing.step.as_secs_f64();
        }
    }

    fn log(&mut self, ctx: &StepEnd<'_>) {
        let weight = 1.0 - KEPT.powi(i32::try_from(self.updates).unwrap_or(i32::MAX));
        ctx.log(LOSS, self.average.clone() / weight);
        ctx.log(LRM, self.lr / self.peak_lr);
        ctx.log(STEP_TIME, self.step_time(ctx));
        ctx.log(TRAINING_TIME, self.training_time);
        self.log_place(ctx);
        if ctx.length().is_reached(ctx.clock())
            && let Some(memory) = peak_memory(ctx.device())
        {
            ctx.log(PEAK_MEMORY, memory);
        }
    }

    /// Returns the mean time of the steps since the last record, in seconds.
    fn step_time(&mut self, ctx: &StepEnd<'_>) -> f64 {
        let now = Mark {
            step: ctx.step(),
            time: ctx.timing_total.step,
        };
        let from = std::mem::replace(&mut self.logged, now);
        let steps = now.step.saturating_sub(from.step).max(1);
        now.time.saturating_sub(from.time).as_secs_f64() / steps as f64
    }

    fn log_place(&self, ctx: &StepEnd<'_>) {
        let epochs = || ctx.clock().epoch().map(|epochs| epochs as u64 + 1);
        let place = self.place.get().or_else(|| {
            Some(Place {
                epoch: epochs()?,
                pq_idx: None,
                rg_idx: None,
            })
        });
        let Some(place) = place else { return };
        ctx.log(EPOCH, place.epoch as f64);
        if let (Some(pq_idx), Some(rg_idx)) = (place.pq_idx, place.rg_idx) {
            ctx.log(PQ_IDX, pq_idx as f64);
            ctx.log(RG_IDX, rg_idx as f64);
        }
    }
}

#[callback]
impl Callback for NanochatTrain {
    fn name(&self) -> String {
        "nanochat_train".to_owned()
    }

    fn keys(&self) -> Vec<String> {
        [
            LOSS,
            LRM,
            STEP_TIME,
            TRAINING_TIME,
            EPOCH,
            PQ_IDX,
            RG_IDX,
            MIN_BPB,
            PEAK_MEMORY,
        ]
        .map(str::to_owned)
        .into()
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        self.logged = Mark {
            step: ctx.step(),
            time: Duration::ZERO,
        };
        Ok(())
    }

    fn on_micro_batch(&mut self, ctx: &MicroBatch<'_>) -> HookResult {
        self.loss = Some(ctx.loss.clone());
        Ok(())
    }

    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        if let Some((_, lr)) = ctx.lrs.first() {
            self.lr = *lr;
        }
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.count(ctx);
        if ctx.is_due(&self.on) {
            self.log(ctx);
        } else {
            ctx.read_along(&self.average); // so that `state` has the number at the next checkpoint
        }
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        if ctx.report.set == "val"
            && let Some(bpb) = ctx.report.get("bpb")
        {
            self.min_bpb = self.min_bpb.min(bpb);
            ctx.log(MIN_BPB, self.min_bpb);
        }
        Ok(())
    }

    fn state(&self) -> Value {
        serde_json::to_value(self.loop_state()).unwrap_or_default()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        let state = LoopState::deserialize(state)?;
        let updates = state.updates.ok_or("the state has no number of updates")?;
        self.average = Deferred::from(state.smooth_train_loss);
        self.updates = updates;
        self.training_time = state.total_training_time;
        self.min_bpb = state.min_val_bpb;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::MemorySink;
    use bdh::cadence::every;
    use bdh::testing::{CallbackCheck, tiny_run};
    use serde_json::json;

    fn callback() -> NanochatTrain {
        NanochatTrain::with_peak(0.01)
    }

    #[test]
    fn callback_obeys_the_rules_and_resumes() {
        let place = DataPlace::default();
        place.set(&json!({ "epoch": 1, "pq_idx": 2, "rg_idx": 3 }));
        CallbackCheck::of(|| callback().on(every(2)).place(place.clone()))
            .measures([STEP_TIME, TRAINING_TIME, PEAK_MEMORY])
            .conforms();
    }

    #[test]
    fn average_is_nanochats() {
        let memory = MemorySink::default();
        let run = tiny_run(20).callback(callback()).sink(memory.clone());
        run.build().expect("a run").fit().expect("a complete run");
        let losses = memory.series("train/loss");
        let averages = memory.series(LOSS);
        assert_eq!(averages.len(), losses.len());
        let mut smooth = 0.0;
        for ((step, loss), (_, average)) in losses.into_iter().zip(averages) {
            smooth = 0.9 * smooth + (1.0 - 0.9) * loss;
            let expected = smooth / (1.0 - 0.9_f64.powi(step as i32));
            assert!(
                (average - expected).abs() < 1e-12,
                "step {step}: {average}, not {expected}"
            );
        }
        assert_eq!(memory.series(LRM).last(), Some(&(20, 1.0)));
        let counted = memory.series(TRAINING_TIME);
        assert!(counted[..11].iter().all(|(_, time)| *time == 0.0));
        assert!(counted[11].1 > 0.0);
    }

    #[test]
    fn loss_is_that_of_the_last_micro_batch() {
        let [one, two] = [1, 2].map(|count| {
            let memory = MemorySink::default();
            let run = tiny_run(1).grad_accum_steps(count).callback(callback());
            let run = run.sink(memory.clone()).build().expect("a run");
            run.fit().expect("a complete run");
            [LOSS, "train/loss"].map(|key| memory.series(key)[0].1)
        });
        assert!((one[0] - one[1]).abs() < 1e-12);
        // The mean of two micro-batches, of which the run above saw the first.
        let last = 2.0 * two[1] - one[1];
        assert!((two[0] - last).abs() < 1e-5, "{} and {last}", two[0]);
    }

    #[test]
    fn loop_state_of_nanochat_is_continued() {
        let meta = r#"{"min_val_bpb": 4.5, "smooth_train_loss": 5.0, "total_training_time": 2.5}"#;
        let state: LoopState = serde_json::from_str(meta).expect("a loop state");
        let continued = callback().continuing(&state, 20);
        let expected = LoopState {
            updates: Some(20),
            ..state
        };
        assert_eq!(continued.loop_state(), expected);
        let mut loaded = callback();
        loaded.load_state(continued.state()).expect("its own state");
        assert_eq!(loaded.loop_state(), expected);
        let first = serde_json::to_value(callback().loop_state()).expect("plain data");
        assert_eq!(first["min_val_bpb"], "Infinity");
    }
}
