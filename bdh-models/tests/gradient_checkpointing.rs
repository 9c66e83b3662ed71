//! Gradient checkpointing changes no loss, on one device and on several.

#[path = "support/micro.rs"]
mod micro;

use bdh::burn::tensor::Device;
use bdh::cadence::never;
use bdh::ops::Precision;
use bdh::{MemorySink, TrainerBuilder};
use bdh_models::bdh_model::Bdh;
use bdh_models::gpt2::Gpt2;
use bdh_models::nanochat::Gpt;
use micro::Micro;

/// Returns the losses of some steps on `replicas` replicas, which share the CPU.
fn losses<M: Micro>(
    gradient_checkpointing: bool,
    precision: Precision,
    replicas: usize,
) -> Vec<f64> {
    let devices = vec![bdh::device("cpu").expect("the CPU"); replicas];
    let recomputes = |device: Device| {
        if gradient_checkpointing {
            device.gradient_checkpointing()
        } else {
            device
        }
    };
    let devices: Vec<_> = devices.into_iter().map(recomputes).collect();
    let memory = MemorySink::default();
    let model = M::on(&devices[0], precision);
    let groups = model.groups();
    let run = micro::run(model).steps(5).grad_accum_steps(2).eval(never());
    let run = groups.into_iter().fold(run, TrainerBuilder::group);
    let run = run
        .clip_grad_norm(1.0)
        .devices(devices)
        .stop_on_signals(false);
    run.sink(memory.clone())
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    memory
        .series("train/loss")
        .into_iter()
        .map(|(_, loss)| loss)
        .collect()
}

fn changes_nothing<M: Micro>() {
    // In f32 the CPU uses its own kernels; in bf16 it uses the operations of a GPU.
    for precision in [Precision::F32, Precision::Bf16] {
        for replicas in [1, 2] {
            let found = losses::<M>(true, precision, replicas);
            let expected = losses::<M>(false, precision, replicas);
            assert_eq!(found.len(), 5);
            assert_eq!(found, expected, "{precision}, {replicas} replica(s)");
        }
    }
}

#[test]
fn losses_of_gpt_2_are_the_same() {
    changes_nothing::<Gpt2>();
}

#[test]
fn losses_of_nanochat_are_the_same() {
    changes_nothing::<Gpt>();
}

#[test]
fn losses_of_bdh_are_the_same() {
    changes_nothing::<Bdh>();
}
