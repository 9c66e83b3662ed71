//! Reading from a device: everything in one go, at once, and no failure of the device is a panic.
//!
//! burn's `Tensor::to_data` is none of the three. On a GPU its bytes are copied when they are first looked at, which may
//! be steps later, and a device that fails is a panic then.

use crate::failure::panic_text;
use burn::tensor::{AllocationProperty, Tensor, TensorData, Transaction};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Reads vectors in one device read.
///
/// # Errors
///
/// What the device said.
pub(crate) fn vectors(
    vectors: impl IntoIterator<Item = Tensor<1>>,
) -> Result<Vec<TensorData>, String> {
    transaction(
        vectors
            .into_iter()
            .fold(Transaction::default(), Transaction::register),
    )
}

/// Reads what is registered, in one device read.
///
/// # Errors
///
/// What the device said.
pub(crate) fn transaction(reads: Transaction) -> Result<Vec<TensorData>, String> {
    caught(|| reads.try_execute())?.map_err(|error| error.to_string())
}

/// Does what reads from a device somewhere: burn panics there, its fusion even where it could say what failed.
///
/// # Errors
///
/// What the panic said.
pub(crate) fn caught<R>(read: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| panic_text(&*panic))
}

/// What somebody's `to_data` gave, in memory of its own: now, before the next step changes the tensor in place, and
/// without the tensor, which the bytes would keep alive on a GPU.
///
/// # Errors
///
/// What the device said.
pub(crate) fn settled(data: TensorData) -> Result<TensorData, String> {
    if data.bytes().property() == AllocationProperty::Native {
        return Ok(data);
    }
    let bytes = caught(|| data.as_bytes().to_vec())?;
    Ok(TensorData::from_bytes_vec(
        bytes,
        data.shape().clone(),
        data.dtype(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Bytes, DType};

    #[test]
    fn a_device_that_cannot_be_read_is_an_error() {
        let nowhere = Bytes::from_file("/nowhere/at/all", 4, 0);
        let error = settled(TensorData::from_bytes(nowhere, [1], DType::F32));
        assert!(error.expect_err("no such file").contains("access failed"));
    }
}
