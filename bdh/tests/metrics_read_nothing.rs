//! Metrics of a batch read nothing from the device, and are computed in f32 whatever the precision of the model.
//!
//! burn's capture device records operations without computing them, and panics on a read.

use bdh::burn::tensor::{Device, FloatDType, Int, Tensor};
use bdh::metrics::{Classes, Metrics};

/// Returns the number of operations that `work` submits. Panics if it reads a result.
fn recorded(work: impl FnOnce(&Device)) -> usize {
    let device = Device::capture();
    let graph = device.capture_scope(|scope| {
        work(&device);
        scope.complete([], [])
    });
    graph.expect("a capture device").graph.operations.len()
}

/// Adds two batches of `add` with logits of a precision, and of numbers of that precision.
fn two_batches(precision: FloatDType, add: fn(&mut Metrics, Tensor<2>, Tensor<1, Int>)) -> usize {
    recorded(|device| {
        let mut metrics = Metrics::default();
        for rows in [8, 5] {
            let logits = Tensor::<2>::ones([rows, 10], device).cast(precision);
            add(&mut metrics, logits, Tensor::zeros([rows], device));
        }
    })
}

fn assert_reads_nothing(add: fn(&mut Metrics, Tensor<2>, Tensor<1, Int>)) {
    for precision in [FloatDType::F32, FloatDType::BF16] {
        assert!(two_batches(precision, add) > 0);
    }
}

#[test]
fn metrics_of_classes_read_nothing() {
    assert_reads_nothing(|metrics, logits, targets| {
        metrics.classes(&Classes::new(10).top_k(5), logits, targets);
    });
    assert_reads_nothing(|metrics, logits, targets| {
        metrics.classes(&Classes::new(10).confusion(false), logits, targets);
    });
    assert_reads_nothing(Metrics::accuracy);
}

#[test]
fn metrics_of_ranks_read_nothing() {
    assert_reads_nothing(|metrics, logits, labels| {
        metrics.ranks(logits.sum_dim(1).squeeze_dim(1), labels);
    });
}

#[test]
fn metrics_of_errors_read_nothing() {
    assert_reads_nothing(|metrics, predictions, _| {
        let targets = predictions.clone() * 2.0;
        metrics.errors(predictions, targets);
    });
}

#[test]
fn refused_batches_read_nothing() {
    assert_reads_nothing(|metrics, logits, targets| {
        metrics.classes(&Classes::new(3), logits, targets);
    });
}
