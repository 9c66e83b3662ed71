//! Whether two models are equal to the bit, told without laying them side by side.

use crate::read;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData, Transaction};
use std::hash::{DefaultHasher, Hasher};

/// Elements that are read at once, 100 MB of `f32`, unless a single tensor has more: a model need not fit into the host's
/// memory once for each replica.
const AT_ONCE: usize = 25_000_000;

/// A number for each parameter, frozen one and buffer, as [`ParamTable::with_frozen`](super::ParamTable::with_frozen) lists
/// them; two are equal if they are so to the bit. And the device reads that it took, one for each 25 million elements.
///
/// # Errors
///
/// What the device said.
pub(crate) fn digests<M: Module>(model: &M) -> Result<(Vec<u64>, u64), String> {
    digests_by(AT_ONCE, model)
}

fn digests_by<M: Module>(at_once: usize, model: &M) -> Result<(Vec<u64>, u64), String> {
    let mut digests = Digests {
        at_once,
        ..Digests::default()
    };
    model.valid().visit(&mut digests);
    digests.flush();
    let Digests {
        done, read, failed, ..
    } = digests;
    failed.map_or(Ok((done, read)), Err)
}

#[derive(Default)]
struct Digests {
    at_once: usize,
    reads: Transaction,
    /// Elements that have been registered and not been read.
    waiting: usize,
    done: Vec<u64>,
    /// Device reads so far.
    read: u64,
    failed: Option<String>,
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
        match read::transaction(reads) {
            Ok(read) => self.done.extend(read.iter().map(digest)),
            Err(error) => self.failed = Some(error),
        }
    }
}

fn digest(values: &TensorData) -> u64 {
    let mut hasher = DefaultHasher::new(); // SipHash with a fixed key: the same in every replica
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
    fn pieces_of_any_size_have_the_same_digests_in_the_tables_order() {
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
