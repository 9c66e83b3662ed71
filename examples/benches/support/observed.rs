//! A run that everything watches.

use bdh::{Task, TrainerBuilder};
use bdh_callbacks::{
    Activations, Artifacts, Checkpoints, Clipping, EarlyCheckpoints, EarlyStop, Finite,
    GradientNoise, Histograms, Memory, Norms, Overlay, Profile, Ratios, Spikes, System, Throughput,
};

/// Adds 17 callbacks at their defaults: all but `ema`, `ridges`, and `samples`, which needs a vocabulary.
pub(crate) fn observed<T: Task>(run: TrainerBuilder<T>) -> TrainerBuilder<T> {
    run.callback(Activations::default())
        .callback(Artifacts::default())
        .callback(Checkpoints::default())
        .callback(Clipping::default())
        .callback(EarlyCheckpoints::default())
        .callback(EarlyStop::default())
        .callback(Finite::default())
        .callback(GradientNoise::default())
        .callback(Histograms::default())
        .callback(Memory::default())
        .callback(Norms::default())
        .callback(Overlay::default())
        .callback(Profile::default())
        .callback(Ratios::default())
        .callback(Spikes::default())
        .callback(System::default())
        .callback(Throughput::default())
}
