//! Nothing in a step waits for the device: models, loss and optimizers ask it for no number.
//!
//! The judge is burn's capture device. It records operations and computes nothing, so that whoever reads a computed
//! number from it panics. It has no tape: what is captured is the forward pass, and the optimizers' steps.

#[path = "support/micro.rs"]
mod micro;

use bdh::burn::optim::Optimizer;
use bdh::burn::tensor::{Device, Tensor};
use bdh::lm::cross_entropy;
use bdh::ops::{AdamW, Precision};
use bdh::{Probe, Task};
use bdh_models::gpt2::Gpt2;
use bdh_models::hatchling::Bdh;
use bdh_models::nanochat::{Gpt, Muon};
use micro::{Micro, task};

/// How many operations `work` gives the device; panics if it reads one's result.
fn recorded(work: impl FnOnce(&Device)) -> usize {
    let device = Device::capture();
    let graph = device.capture_scope(|scope| {
        work(&device);
        scope.complete([], [])
    });
    graph.expect("a capture device").graph.operations.len()
}

fn forward<M: Micro>() {
    let mut task = task::<M>();
    let batch = task.next_batch().expect("a batch");
    let pass = |precision| {
        recorded(|device| {
            let model = M::on(device, precision);
            let _ = cross_entropy(model.logits(batch.inputs_on(device), &Probe::off()), &batch);
        })
    };
    assert!(pass(Precision::F32) > 50);
    assert!(pass(Precision::Bf16) > pass(Precision::F32)); // it casts
}

#[test]
fn the_forward_pass_of_gpt_2() {
    forward::<Gpt2>();
}

#[test]
fn the_forward_pass_of_nanochat() {
    forward::<Gpt>();
}

#[test]
fn the_forward_pass_of_bdh() {
    forward::<Bdh>();
}

/// Two steps of an optimizer on a matrix, the second with what the first left.
fn two_steps(optimizer: &impl Optimizer) -> usize {
    recorded(|device| {
        let matrix = || Tensor::<2>::ones([6, 4], device) * 2.0;
        let (weight, state) = optimizer.step(0.1, matrix(), matrix(), None);
        let _ = optimizer.step(0.1, weight, matrix(), state);
    })
}

#[test]
fn the_steps_of_adamw_and_muon() {
    assert!(two_steps(&AdamW::default()) > 20);
    assert!(two_steps(&Muon::new(0.1)) > 60);
}

#[test]
fn a_read_would_be_found() {
    let read = std::panic::catch_unwind(|| {
        recorded(|device| {
            let _ = (Tensor::<1>::ones([2], device) * 2.0).into_data();
        })
    });
    assert!(read.is_err());
}
