//! A run with all callbacks.

use bdh::{Task, TrainerBuilder};
use bdh_callbacks::{
    Activations, Artifacts, Checkpoints, Clipping, EarlyCheckpoints, EarlyStop, GradientNoise,
    Histograms, LossSpikes, MemoryMonitor, NonFiniteGuard, Norms, Overlay, StepProfiler,
    SystemMonitor, Throughput, UpdateRatios,
};

/// Adds 17 callbacks at their defaults: all except `ema`, `ridges`, and `samples`, which needs a vocabulary.
pub(crate) fn observed<T: Task>(run: TrainerBuilder<T>) -> TrainerBuilder<T> {
    run.callback(Activations::default())
        .callback(Artifacts::default())
        .callback(Checkpoints::default())
        .callback(Clipping::default())
        .callback(EarlyCheckpoints::default())
        .callback(EarlyStop::default())
        .callback(NonFiniteGuard::default())
        .callback(GradientNoise::default())
        .callback(Histograms::default())
        .callback(MemoryMonitor::default())
        .callback(Norms::default())
        .callback(Overlay::default())
        .callback(StepProfiler::default())
        .callback(UpdateRatios::default())
        .callback(LossSpikes::default())
        .callback(SystemMonitor::default())
        .callback(Throughput::default())
}
