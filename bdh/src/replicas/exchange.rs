//! Vectors travel between replicas: gradients become their sum, and weights come from the first replica.

use crate::params::{self, ParamTable};
use crate::pass::Sums;
use crate::read;
use burn::module::Module;
use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

/// Elements that one exchange between devices sends at most, 100 MB: few exchanges, and no second copy of what is sent
/// in one piece.
const BUCKET: usize = 25_000_000;

/// How vectors travel.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// Through host memory, where sums are taken in the order of the replicas.
    Host,
    /// By NCCL, between these devices.
    Nccl(Vec<Device>),
}

/// Which parameters have a gradient, in the table's order.
pub(crate) type Present = Vec<bool>;

/// Which parameters have a gradient here.
pub(super) fn present<M: Module>(sums: &Sums, model: &M) -> Present {
    params::gradients(model, &sums.grads)
        .iter()
        .map(Option::is_some)
        .collect()
}

/// Waits until loss and gradients are there: one small device read, which tells of an allocation that failed.
pub(super) fn prove<M: Module>(sums: &Sums, model: &M) -> Result<(), String> {
    let gradients = params::gradients(model, &sums.grads);
    let first = gradients
        .iter()
        .flatten()
        .map(|gradient| gradient.flat().narrow(0, 0, 1));
    let all = first
        .chain([sums.loss.clone()])
        .map(|vector| vector.cast(FloatDType::F32));
    read::vectors([Tensor::cat(all.collect(), 0)]).map(drop)
}

/// The gradients that are wanted, zeros where there is none, and the loss behind them: `[elements]` in `f32` each.
pub(super) fn flat<M: Module>(
    sums: &Sums,
    model: &M,
    table: &ParamTable,
    wanted: &Present,
) -> Vec<Tensor<1>> {
    let device = sums.loss.device();
    let gradients = params::gradients(model, &sums.grads);
    let wanted = gradients
        .iter()
        .zip(table)
        .zip(wanted)
        .filter(|(_, wanted)| **wanted);
    let flat = wanted.map(|((gradient, param), _)| match gradient {
        Some(gradient) => gradient.flat(),
        None => Tensor::zeros([param.num_elements()], &device),
    });
    flat.chain([sums.loss.clone()])
        .map(|vector| vector.cast(FloatDType::F32))
        .collect()
}

/// The other way round.
pub(super) fn shaped<M: Module>(model: &M, wanted: &Present, values: Vec<Tensor<1>>) -> Sums {
    let mut values = values.into_iter();
    let grads = params::put_gradients(model, |index| {
        wanted[index].then(|| {
            values
                .next()
                .expect("a vector for each parameter that is wanted")
        })
    });
    Sums {
        loss: values.next().expect("the loss is behind the gradients"),
        grads,
    }
}

/// The trained parameters, `[elements]` each.
pub(super) fn weights<M: Module>(model: &M) -> Vec<Tensor<1>> {
    params::weights(model)
        .iter()
        .flatten()
        .map(|weight| weight.flat())
        .collect()
}

/// Puts vectors that were read onto a device.
pub(super) fn put(vectors: &[TensorData], device: &Device) -> Vec<Tensor<1>> {
    let device = device.clone().inner();
    let put = |data: &TensorData| Tensor::from_data(data.clone(), (&device, data.dtype()));
    vectors.iter().map(put).collect()
}

/// Adds up, in their order, the vectors of `f32` that replicas have read.
pub(super) fn sum(all: impl IntoIterator<Item = Vec<TensorData>>) -> Vec<TensorData> {
    let values = |data: TensorData| data.try_to_vec::<f32>().expect("gradients travel in f32");
    let values = |vectors: Vec<TensorData>| vectors.into_iter().map(values).collect::<Vec<_>>();
    let add = |mut total: Vec<Vec<f32>>, more: Vec<Vec<f32>>| {
        for (total, more) in total.iter_mut().flatten().zip(more.iter().flatten()) {
            *total += more;
        }
        total
    };
    let total = all.into_iter().map(values).reduce(add).unwrap_or_default();
    total
        .into_iter()
        .map(|values| TensorData::from(values.as_slice()))
        .collect()
}

/// The sums of the vectors that every one of these devices brings; each of them has to come here.
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

/// Sizes that follow one another, in groups that are no larger than a bucket unless a single one is.
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
    fn buckets_are_full_and_leave_nothing_out() {
        let sizes = [10, BUCKET - 10, 1, BUCKET, 3 * BUCKET, 5, 6];
        let expected: [&[usize]; 5] = [&[10, BUCKET - 10], &[1], &[BUCKET], &[3 * BUCKET], &[5, 6]];
        assert_eq!(buckets(&sizes), expected);
        assert_eq!(buckets(&[1]), [[1]]);
    }

    #[test]
    fn gradients_of_any_precision_travel_in_f32() {
        let device = Device::flex();
        let model = LinearConfig::new(3, 2).init(&device.clone().autodiff());
        let mut grads = GradientsParams::new();
        let weight = Tensor::<2>::ones([3, 2], &device).cast(FloatDType::F64);
        grads.register(model.weight.id, weight);
        let bias = Tensor::<1>::ones([2], &device).cast(FloatDType::BF16);
        grads.register(model.bias.as_ref().expect("a bias").id, bias);
        let sums = Sums {
            loss: Tensor::ones([1], &device),
            grads,
        };
        let table = ParamTable::of(&model);
        let read = read::vectors(flat(&sums, &model, &table, &vec![true; 2]));
        let read = read.expect("the CPU reads");
        assert_eq!(read.len(), 3);
        assert!(read.iter().all(|vector| vector.dtype() == DType::F32));
        assert_eq!(prove(&sums, &model), Ok(()));
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
