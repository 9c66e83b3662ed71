//! Device reads: several tensors at once, completed on return, with errors instead of panics.
//!
//! burn's `Tensor::to_data` has none of these properties. On a GPU it copies the bytes when they are first accessed,
//! which may be steps later, and panics if the device fails then.

use crate::failure::panic_text;
use burn::tensor::{AllocationProperty, Tensor, TensorData, Transaction};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Failure of a device during a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device failed: {reason}")]
pub struct DeviceError {
    /// The text of burn's error or panic, for messages that name the step or the replica.
    pub(crate) reason: String,
}

impl DeviceError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// Reads vectors in one device read.
///
/// # Errors
///
/// The error of the device.
pub(crate) fn vectors(
    vectors: impl IntoIterator<Item = Tensor<1>>,
) -> Result<Vec<TensorData>, DeviceError> {
    let mut reads = Transaction::default();
    for vector in vectors {
        reads = reads.register(vector);
    }
    execute(reads)
}

/// Reads what is registered, in one device read.
///
/// # Errors
///
/// The error of the device.
pub(crate) fn execute(reads: Transaction) -> Result<Vec<TensorData>, DeviceError> {
    caught(|| reads.try_execute())?.map_err(|error| DeviceError::new(error.to_string()))
}

/// Calls a function that reads from a device. burn panics if the device fails, its fusion even where it could return
/// an error.
///
/// # Errors
///
/// The text of the panic.
pub(crate) fn caught<R>(read: impl FnOnce() -> R) -> Result<R, DeviceError> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| DeviceError::new(panic_text(&*panic)))
}

/// Copies the data of a tensor to host memory.
///
/// The copy is made now, before the next step changes the tensor in place. It does not keep the tensor alive on a GPU,
/// as the bytes of burn's `to_data` do.
///
/// # Errors
///
/// The error of the device.
pub(crate) fn to_host(data: TensorData) -> Result<TensorData, DeviceError> {
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
    fn failed_device_reads_are_errors() {
        let nowhere = Bytes::from_file("/nowhere/at/all", 4, 0);
        let read = to_host(TensorData::from_bytes(nowhere, [1], DType::F32));
        let error = read.expect_err("no such file").to_string();
        assert!(
            error.starts_with("the device failed: ") && error.contains("access failed"),
            "{error}"
        );
    }
}
