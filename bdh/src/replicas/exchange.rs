//! Exchange of vectors between replicas: gradients are summed, weights come from the first replica.

use crate::device_read::{self, DeviceError};
use crate::loss_context::LossLog;
use crate::params::{self, ParamTable};
use crate::pass::GradSums;
use burn::module::Module;
use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

/// Largest number of elements that one exchange sends, 100 MB of `f32`: few exchanges, without a second copy of all
/// gradients at once.
const BUCKET: usize = 25_000_000;

/// The way that vectors take between devices.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// Through host memory, where they are summed in the order of the replicas.
    Host,
    /// Directly between these devices, with NCCL.
    Nccl(Vec<Device>),
}

/// Flags of the parameters that have a gradient, in the order of the parameter table.
pub(crate) type Present = Vec<bool>;

/// Returns the flags of the parameters that have a gradient on this device.
pub(super) fn present<M: Module>(sums: &GradSums, model: &M) -> Present {
    params::gradients(model, &sums.grads)
        .iter()
        .map(Option::is_some)
        .collect()
}

/// Waits until loss and gradients have been computed: one small device read, which reports a failed allocation.
pub(super) fn wait_for_gradients<M: Module>(sums: &GradSums, model: &M) -> Result<(), DeviceError> {
    // One element of each is enough to wait for all of them.
    let mut elements = vec![sums.loss.clone().cast(FloatDType::F32)];
    for gradient in params::gradients(model, &sums.grads).iter().flatten() {
        elements.push(gradient.flat().narrow(0, 0, 1).cast(FloatDType::F32));
    }
    device_read::vectors([Tensor::cat(elements, 0)])?;
    Ok(())
}

/// Flattens the wanted gradients, zeros for missing ones, and then the loss: vectors of shape `[elements]` in `f32`.
pub(super) fn flat<M: Module>(
    sums: &GradSums,
    model: &M,
    table: &ParamTable,
    wanted: &Present,
) -> Vec<Tensor<1>> {
    let device = sums.loss.device();
    let mut flat = Vec::new();
    for (index, gradient) in params::gradients(model, &sums.grads).iter().enumerate() {
        if !wanted[index] {
            continue;
        }
        let vector = match gradient {
            Some(gradient) => gradient.flat(),
            None => Tensor::zeros([table[index].num_elements()], &device),
        };
        flat.push(vector.cast(FloatDType::F32));
    }
    flat.push(sums.loss.clone().cast(FloatDType::F32));
    flat
}

/// Unflattens reduced vectors into loss and gradients (inverse of [`flat`]).
pub(super) fn unflatten<M: Module>(
    model: &M,
    wanted: &Present,
    vectors: Vec<Tensor<1>>,
) -> GradSums {
    let mut vectors = vectors.into_iter();
    let grads = params::put_gradients(model, |index| {
        if !wanted[index] {
            return None;
        }
        Some(vectors.next().expect("one vector for each wanted gradient"))
    });
    let loss = vectors.next().expect("the loss follows the gradients");
    GradSums {
        loss,
        grads,
        logged: LossLog::default(),
    }
}

/// Returns the trained parameters as vectors of shape `[elements]`.
pub(super) fn weights<M: Module>(model: &M) -> Vec<Tensor<1>> {
    params::weights(model)
        .iter()
        .flatten()
        .map(|weight| weight.flat())
        .collect()
}

/// Uploads vectors from host memory to a device.
pub(super) fn put(vectors: &[TensorData], device: &Device) -> Vec<Tensor<1>> {
    let device = device.clone().inner();
    vectors
        .iter()
        .map(|data| Tensor::from_data(data.clone(), (&device, data.dtype())))
        .collect()
}

/// Sums the `f32` vectors of all replicas, in the order of the replicas.
pub(super) fn sum(all: impl IntoIterator<Item = Vec<TensorData>>) -> Vec<TensorData> {
    let mut totals: Vec<Vec<f32>> = Vec::new();
    for vectors in all {
        for (index, vector) in vectors.into_iter().enumerate() {
            let values: Vec<f32> = vector.try_to_vec().expect("gradients are exchanged in f32");
            match totals.get_mut(index) {
                None => totals.push(values),
                Some(total) => add(total, &values),
            }
        }
    }
    totals
        .iter()
        .map(|values| TensorData::from(values.as_slice()))
        .collect()
}

fn add(totals: &mut [f32], values: &[f32]) {
    for (total, value) in totals.iter_mut().zip(values) {
        *total += value;
    }
}

/// Sums vectors over these devices with NCCL. It blocks until each of the devices has called it.
pub(super) fn sum_over(devices: &[Device], vectors: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    let sizes: Vec<usize> = vectors.iter().map(|vector| vector.dims()[0]).collect();
    let mut vectors = vectors.into_iter();
    let mut sums = Vec::with_capacity(sizes.len());
    for bucket in buckets(&sizes) {
        let joined = Tensor::cat(vectors.by_ref().take(bucket.len()).collect(), 0);
        let joined = all_reduce(joined, ReduceOperation::Sum, devices.to_vec()).resolve();
        let mut begin = 0;
        for size in bucket {
            sums.push(joined.clone().narrow(0, begin, *size));
            begin += size;
        }
    }
    sums
}

/// Splits sizes into consecutive groups of at most [`BUCKET`] elements. A larger single size is its own group.
fn buckets(sizes: &[usize]) -> Vec<&[usize]> {
    let mut buckets = Vec::new();
    let (mut begin, mut filled) = (0, 0);
    for (at, size) in sizes.iter().enumerate() {
        if at > begin && filled + size > BUCKET {
            buckets.push(&sizes[begin..at]);
            (begin, filled) = (at, 0);
        }
        filled += size;
    }
    buckets.push(&sizes[begin..]);
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::optim::GradientsParams;
    use burn::tensor::DType;

    #[test]
    fn buckets_are_full_and_hold_every_vector() {
        let sizes = [10, BUCKET - 10, 1, BUCKET, 3 * BUCKET, 5, 6];
        let expected: [&[usize]; 5] = [&[10, BUCKET - 10], &[1], &[BUCKET], &[3 * BUCKET], &[5, 6]];
        assert_eq!(buckets(&sizes), expected);
        assert_eq!(buckets(&[1]), [[1]]);
    }

    #[test]
    fn gradients_of_any_precision_are_exchanged_in_f32() {
        let device = Device::flex();
        let model = LinearConfig::new(3, 2).init(&device.clone().autodiff());
        let mut grads = GradientsParams::new();
        let weight = Tensor::<2>::ones([3, 2], &device).cast(FloatDType::F64);
        grads.register(model.weight.id, weight);
        let bias = Tensor::<1>::ones([2], &device).cast(FloatDType::BF16);
        grads.register(model.bias.as_ref().expect("a bias").id, bias);
        let sums = GradSums {
            loss: Tensor::ones([1], &device),
            grads,
            logged: LossLog::default(),
        };
        let table = ParamTable::of(&model);
        let read = device_read::vectors(flat(&sums, &model, &table, &vec![true; 2]));
        let read = read.expect("the CPU reads");
        assert_eq!(read.len(), 3);
        assert!(read.iter().all(|vector| vector.dtype() == DType::F32));
        assert_eq!(wait_for_gradients(&sums, &model), Ok(()));
    }

    #[test]
    fn sums_are_taken_in_the_order_of_the_replicas() {
        let of = |x: f32| vec![TensorData::from([x, 1.0]), TensorData::from([x])];
        let expected = |x: f32| [TensorData::from([x, 3.0]), TensorData::from([x])];
        let small = 2.0_f32.powi(-24);
        assert_eq!(sum([of(1.0), of(small), of(small)]), expected(1.0));
        assert_eq!(
            sum([of(small), of(small), of(1.0)]),
            expected(1.0 + 2.0 * small)
        );
    }
}
