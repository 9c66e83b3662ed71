//! Models, loss and optimizers read nothing from the device during a step.
//!
//! The tests use burn's capture device, which records operations without computing them, and panics on a read. It has
//! no autodiff, so the tests cover the forward pass and the steps of optimizers.

#[path = "support/micro.rs"]
mod micro;

use bdh::Probe;
use bdh::burn::optim::Optimizer;
use bdh::burn::tensor::{Device, Tensor};
use bdh::data::TrainData;
use bdh::lm::cross_entropy;
use bdh::ops::{AdamW, Precision};
use bdh_models::bdh_model::Bdh;
use bdh_models::gpt2::Gpt2;
use bdh_models::nanochat::{Gpt, Muon};
use micro::Micro;

/// Returns the number of operations that `work` submits. Panics if it reads a result.
fn recorded(work: impl FnOnce(&Device)) -> usize {
    let device = Device::capture();
    let graph = device.capture_scope(|scope| {
        work(&device);
        scope.complete([], [])
    });
    graph.expect("a capture device").graph.operations.len()
}

fn forward<M: Micro>() {
    let batch = micro::crops().next_batch().expect("a batch");
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
fn forward_pass_of_gpt_2_reads_nothing() {
    forward::<Gpt2>();
}

#[test]
fn forward_pass_of_nanochat_reads_nothing() {
    forward::<Gpt>();
}

#[test]
fn forward_pass_of_bdh_reads_nothing() {
    forward::<Bdh>();
}

/// Runs two steps of an optimizer on a matrix, the second with the state of the first.
fn two_steps(optimizer: &impl Optimizer) -> usize {
    recorded(|device| {
        let matrix = || Tensor::<2>::ones([6, 4], device) * 2.0;
        let (weight, state) = optimizer.step(0.1, matrix(), matrix(), None);
        let _ = optimizer.step(0.1, weight, matrix(), state);
    })
}

#[test]
fn steps_of_adamw_and_muon_read_nothing() {
    assert!(two_steps(&AdamW::default()) > 20);
    assert!(two_steps(&Muon::new(0.1)) > 60);
}

#[test]
fn device_read_is_detected() {
    let read = std::panic::catch_unwind(|| {
        recorded(|device| {
            let _ = (Tensor::<1>::ones([2], device) * 2.0).into_data();
        })
    });
    assert!(read.is_err());
}
