//! Digests of parameters, to check that replicas are equal bit for bit without comparing all values.

use super::ties::Ties;
use crate::device_read::{self, DeviceError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData, Transaction};
use std::hash::{DefaultHasher, Hasher};

/// Elements in one device read, 100 MB of `f32`, unless a single tensor has more. Reading in pieces needs no host memory
/// for a copy of the model per replica.
const AT_ONCE: usize = 25_000_000;

/// Computes a digest of each parameter and buffer, and counts the device reads, one per 25 million elements.
///
/// Digests are in the order of [`ParamTable::with_frozen`](super::ParamTable::with_frozen). Tensors that are equal bit for
/// bit have equal digests.
///
/// # Errors
///
/// The error of the device.
pub(crate) fn digests<M: Module>(model: &M) -> Result<(Vec<u64>, u64), DeviceError> {
    digests_by(AT_ONCE, model)
}

fn digests_by<M: Module>(at_once: usize, model: &M) -> Result<(Vec<u64>, u64), DeviceError> {
    let mut digests = Digests {
        at_once,
        ..Digests::default()
    };
    Ties::of(model).visit(&model.valid(), &mut digests);
    digests.flush();
    match digests.failed {
        Some(error) => Err(error),
        None => Ok((digests.done, digests.read)),
    }
}

/// Visitor that computes the digests.
#[derive(Default)]
struct Digests {
    /// Elements in one device read.
    at_once: usize,
    reads: Transaction,
    /// Elements that are registered and not yet read.
    waiting: usize,
    done: Vec<u64>,
    /// Number of device reads so far.
    read: u64,
    failed: Option<DeviceError>,
}

impl Digests {
    fn add(&mut self, elements: usize, register: impl FnOnce(Transaction) -> Transaction) {
        if self.waiting > 0 && self.waiting + elements > self.at_once {
            self.flush();
        }
        self.waiting += elements.max(1);
        self.reads = register(std::mem::take(&mut self.reads));
    }

    fn flush(&mut self) {
        let reads = std::mem::take(&mut self.reads);
        if std::mem::take(&mut self.waiting) == 0 || self.failed.is_some() {
            return;
        }
        self.read += 1;
        match device_read::execute(reads) {
            Ok(read) => self.done.extend(read.iter().map(digest)),
            Err(error) => self.failed = Some(error),
        }
    }
}

fn digest(values: &TensorData) -> u64 {
    let mut hasher = DefaultHasher::new(); // SipHash with a fixed key, so all replicas get the same digest
    hasher.write(values.as_bytes());
    hasher.finish()
}

impl ModuleVisitor for Digests {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.add(value.shape().num_elements(), |reads| reads.register(value));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let value = param.val();
        self.add(value.shape().num_elements(), |reads| reads.register(value));
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let value = param.val();
        self.add(value.shape().num_elements(), |reads| reads.register(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ParamTable;
    use burn::nn::{BatchNormConfig, LinearConfig};
    use burn::tensor::Device;

    #[test]
    fn digests_do_not_depend_on_the_size_of_the_reads() {
        let device = Device::flex().autodiff();
        let model = vec![
            LinearConfig::new(3, 2).init(&device),
            LinearConfig::new(2, 3).init(&device),
        ];
        let (whole, reads) = digests(&model).expect("the CPU reads");
        assert_eq!(
            (whole.len(), reads),
            (ParamTable::with_frozen(&model).len(), 1)
        );
        for at_once in [1, 2, 6, 8, 9, 17] {
            let (pieces, reads) = digests_by(at_once, &model).expect("the CPU reads");
            assert_eq!(pieces, whole);
            assert_eq!(reads > 1, at_once < 17);
        }
        let norm = BatchNormConfig::new(2).init(&device); // with buffers
        let (digests, _) = digests(&norm).expect("the CPU reads");
        assert_eq!(digests.len(), ParamTable::with_frozen(&norm).len());
    }
}
