//! The gradients of all replicas become their sum, the same bits on every device.

use crate::params::{self, ParamTable};
use crate::pass::Sums;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData, Transaction};

/// Elements that one exchange between devices sends at most, 100 MB: few exchanges, and a small copy beside the gradients.
const BUCKET: usize = 25_000_000;

/// How gradients travel.
#[derive(Debug, Clone)]
pub(crate) enum Reduction {
    /// Read by each replica, summed by the processor in the order of the replicas, and sent back.
    Host,
    /// By NCCL, from device to device.
    Nccl(Vec<Device>),
}

/// Which parameters have a gradient, in the table's order.
pub(super) type Present = Vec<bool>;

/// Vectors in host memory: a gradient for each parameter that has one, in the table's order, and what came behind them.
pub(super) type HostVectors = Vec<Vec<f32>>;

/// The gradients of `model` that are exchanged: the same ones by every replica.
pub(super) struct Exchanged<'a, M> {
    pub(super) model: &'a M,
    pub(super) table: &'a ParamTable,
    pub(super) wanted: &'a Present,
}

impl<M> Clone for Exchanged<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Exchanged<'_, M> {}

/// Which parameters have a gradient here.
pub(super) fn present<M: Module>(grads: &GradientsParams, model: &M) -> Present {
    params::gradients(model, grads).iter().map(Option::is_some).collect()
}

impl<M: Module> Exchanged<'_, M> {
    /// Reads loss and gradients, in one device read.
    pub(super) fn read(self, sums: &Sums) -> Result<HostVectors, String> {
        read(self.flat(sums))
    }

    /// Reads gradients alone.
    pub(super) fn read_gradients(
        self,
        grads: &GradientsParams,
        device: &Device,
    ) -> Result<HostVectors, String> {
        read(self.flat_gradients(grads, device))
    }

    /// Puts onto a replica's device what was read.
    pub(super) fn put(self, values: &HostVectors, device: &Device) -> Sums {
        let device = device.clone().inner();
        let put =
            |values: &Vec<f32>| Tensor::from_data(TensorData::from(values.as_slice()), &device);
        self.shaped(values.iter().map(put).collect())
    }

    /// Puts gradients alone.
    pub(super) fn put_gradients(self, values: &HostVectors, device: &Device) -> GradientsParams {
        let device = device.clone().inner();
        let put =
            |values: &Vec<f32>| Tensor::from_data(TensorData::from(values.as_slice()), &device);
        self.shaped_gradients(&mut values.iter().map(put))
    }

    /// Exchanges loss and gradients with the other devices, of which each has to come here.
    pub(super) fn exchange(self, sums: &Sums, devices: &[Device]) -> Sums {
        let flat = self.flat(sums);
        let sizes: Vec<usize> = flat.iter().map(|tensor| tensor.dims()[0]).collect();
        let mut reduced = Vec::with_capacity(flat.len());
        let mut flat = flat.into_iter();
        for bucket in buckets(&sizes) {
            let joined = Tensor::cat(flat.by_ref().take(bucket.len()).collect(), 0);
            let joined = all_reduce(joined, ReduceOperation::Sum, devices.to_vec()).resolve();
            let mut begin = 0;
            for size in bucket {
                reduced.push(joined.clone().narrow(0, begin, *size));
                begin += size;
            }
        }
        self.shaped(reduced)
    }

    /// Gradients and the loss behind them, `[elements]` in `f32` each.
    fn flat(self, sums: &Sums) -> Vec<Tensor<1>> {
        let mut flat = self.flat_gradients(&sums.grads, &sums.loss.device());
        flat.push(in_f32(sums.loss.clone()));
        flat
    }

    /// The gradients that are wanted, zeros where there is none.
    fn flat_gradients(self, grads: &GradientsParams, device: &Device) -> Vec<Tensor<1>> {
        let device = device.clone().inner();
        let gradients = params::gradients(self.model, grads);
        let wanted =
            gradients.iter().zip(self.table).zip(self.wanted).filter(|(_, wanted)| **wanted);
        let flat = wanted.map(|((gradient, param), _)| match gradient {
            Some(gradient) => in_f32(gradient.flat()),
            None => Tensor::zeros([param.num_elements()], &device),
        });
        flat.collect()
    }

    /// The other way round.
    fn shaped(self, values: Vec<Tensor<1>>) -> Sums {
        let mut values = values.into_iter();
        let grads = self.shaped_gradients(&mut values);
        Sums { loss: values.next().expect("the loss is behind the gradients"), grads }
    }

    fn shaped_gradients(self, values: &mut impl Iterator<Item = Tensor<1>>) -> GradientsParams {
        params::put_gradients(self.model, |index| {
            self.wanted[index].then(|| values.next().expect("a vector for each that is wanted"))
        })
    }
}

fn in_f32(tensor: Tensor<1>) -> Tensor<1> {
    if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
}

fn read(flat: Vec<Tensor<1>>) -> Result<HostVectors, String> {
    let reads = flat.into_iter().fold(Transaction::default(), Transaction::register);
    let values = reads.try_execute().map_err(|error| error.to_string())?;
    let numbers = |data: TensorData| data.try_to_vec().map_err(|error| format!("{error:?}"));
    values.into_iter().map(numbers).collect()
}

/// Adds up what the replicas have read, in their order.
pub(super) fn sum(all: impl IntoIterator<Item = HostVectors>) -> HostVectors {
    let add = |mut total: HostVectors, more: HostVectors| {
        for (total, more) in total.iter_mut().zip(&more) {
            total.iter_mut().zip(more).for_each(|(total, more)| *total += more);
        }
        total
    };
    all.into_iter().reduce(add).unwrap_or_default()
}

/// Sizes that follow one another, in groups that are as large as a bucket or a single one.
fn buckets(sizes: &[usize]) -> Vec<&[usize]> {
    let mut buckets = Vec::new();
    let mut begin = 0;
    let mut filled = 0;
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

    #[test]
    fn buckets_are_full_and_leave_nothing_out() {
        let sizes = [10, BUCKET - 10, 1, BUCKET, 3 * BUCKET, 5, 6];
        let expected: [&[usize]; 5] = [&[10, BUCKET - 10], &[1], &[BUCKET], &[3 * BUCKET], &[5, 6]];
        assert_eq!(buckets(&sizes), expected);
        assert_eq!(buckets(&[1]), [[1]]);
    }

    #[test]
    fn sums_are_taken_in_the_order_of_the_replicas() {
        let of = |x: f32| vec![vec![x, 1.0], vec![x]];
        let small = 2.0_f32.powi(-24);
        assert_eq!(sum([of(1.0), of(small), of(small)]), [vec![1.0, 3.0], vec![1.0]]);
        assert_ne!(sum([of(small), of(small), of(1.0)]), [vec![1.0, 3.0], vec![1.0]]);
    }
}
