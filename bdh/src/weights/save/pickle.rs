//! Pickles of state dicts, as `torch.save` makes them: protocol 2, with the bytes of the tensors elsewhere.

/// Tensor of a state dict: its name, and the place and form of its bytes.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    /// Type of PyTorch's storage, such as `FloatStorage`.
    pub(super) storage: &'static str,
    /// Key of the storage, which is its file in the archive.
    pub(super) key: String,
    pub(super) shape: &'a [usize],
}

/// Returns the pickle of an `OrderedDict` of tensors, each with a storage of its own.
pub(super) fn state_dict(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut pickle = Pickle(vec![op::PROTO, 2]);
    pickle.empty_ordered_dict();
    pickle.0.push(op::MARK);
    for entry in entries {
        pickle.text(entry.name);
        pickle.tensor(entry);
    }
    pickle.0.extend([op::SETITEMS, op::STOP]);
    pickle.0
}

/// Codes of the operations. Source: `pickletools` of CPython.
mod op {
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const STOP: u8 = b'.';
    pub(super) const MARK: u8 = b'(';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const PERSISTENT_ID: u8 = b'Q';
    pub(super) const FALSE: u8 = 0x89;
    pub(super) const TEXT: u8 = b'X';
    /// Whole numbers of 1 and 2 bytes, unsigned; of 4 bytes, signed; and of a given number of bytes, signed.
    pub(super) const INTS: [u8; 4] = [b'K', b'M', b'J', 0x8a];
}

/// Pickle that is being written.
struct Pickle(Vec<u8>);

impl Pickle {
    /// Writes the call that makes a tensor: `_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`.
    fn tensor(&mut self, entry: &Entry<'_>) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.push(op::MARK);
        self.storage(entry);
        self.int(0);
        self.ints(entry.shape);
        self.ints(&strides(entry.shape));
        self.0.push(op::FALSE); // the tensor needs no gradient
        self.empty_ordered_dict(); // and has no hooks
        self.0.extend([op::TUPLE, op::REDUCE]);
    }

    /// Writes the reference to the bytes of a tensor.
    fn storage(&mut self, entry: &Entry<'_>) {
        self.0.push(op::MARK);
        self.text("storage");
        self.global("torch", entry.storage);
        self.text(&entry.key);
        self.text("cpu");
        self.int(entry.shape.iter().product());
        self.0.extend([op::TUPLE, op::PERSISTENT_ID]);
    }

    fn empty_ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.0.extend([op::EMPTY_TUPLE, op::REDUCE]);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.push(op::GLOBAL);
        self.0.extend(format!("{module}\n{name}\n").bytes());
    }

    fn text(&mut self, text: &str) {
        self.0.push(op::TEXT);
        self.0.extend((text.len() as u32).to_le_bytes()); // the name of a parameter is shorter than 4 GiB
        self.0.extend(text.bytes());
    }

    fn ints(&mut self, numbers: &[usize]) {
        self.0.push(op::MARK);
        for number in numbers {
            self.int(*number);
        }
        self.0.push(op::TUPLE);
    }

    fn int(&mut self, number: usize) {
        let [one, two, four, more] = op::INTS;
        if let Ok(number) = u8::try_from(number) {
            self.0.extend([one, number]);
        } else if let Ok(number) = u16::try_from(number) {
            self.0.push(two);
            self.0.extend(number.to_le_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.0.push(four);
            self.0.extend(number.to_le_bytes());
        } else {
            self.0.extend([more, 8]);
            self.0.extend((number as i64).to_le_bytes()); // a tensor has fewer than 2^63 elements
        }
    }
}

/// Returns the distance in elements between two neighbours along each axis of a contiguous tensor.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_take_the_bytes_that_they_need() {
        let written = |number| {
            let mut pickle = Pickle(Vec::new());
            pickle.int(number);
            pickle.0
        };
        assert_eq!(written(255), [b'K', 255]);
        assert_eq!(written(256), [b'M', 0, 1]);
        assert_eq!(written(65_536), [b'J', 0, 0, 1, 0]);
        assert_eq!(written((1 << 31) - 1), [b'J', 255, 255, 255, 127]);
        assert_eq!(written(1 << 31), [0x8a, 8, 0, 0, 0, 128, 0, 0, 0, 0]);
    }

    #[test]
    fn strides_are_those_of_rows() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(strides(&[5]), [1]);
        assert_eq!(strides(&[]), [0_usize; 0]);
    }
}
