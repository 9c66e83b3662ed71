//! Whether two models are equal to the bit, told without laying them side by side.

use crate::read;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData, Transaction};
use std::hash::{DefaultHasher, Hasher};

/// Elements that are read at once, 100 MB of `f32`: a model need not fit into the host's memory once for each replica.
const AT_ONCE: usize = 25_000_000;

/// A number for each parameter, frozen one and buffer, as [`ParamTable::with_frozen`](super::ParamTable::with_frozen) lists
/// them; two are equal if they are so to the bit. One device read for each 25 million elements.
///
/// # Errors
///
/// What the device said.
pub(crate) fn digests<M: Module>(model: &M) -> Result<Vec<u64>, String> {
    let mut digests = Digests::default();
    model.valid().visit(&mut digests);
    digests.flush();
    digests.failed.map_or(Ok(digests.done), Err)
}

#[derive(Default)]
struct Digests {
    reads: Transaction,
    /// Elements that have been registered and not been read.
    waiting: usize,
    done: Vec<u64>,
    failed: Option<String>,
}

impl Digests {
    fn add(&mut self, elements: usize, register: impl FnOnce(Transaction) -> Transaction) {
        if self.waiting > 0 && self.waiting + elements > AT_ONCE {
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
