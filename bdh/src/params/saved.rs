//! What a checkpoint holds of a model: read in one go, and put back to the bit.

use super::{OnTape, ParamInfo, ParamTable, with_own_states};
use crate::read;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, Transaction};
use std::collections::BTreeMap;

/// Tensors on the host, by name.
pub type Tensors = BTreeMap<String, TensorData>;

/// Reads everything of `table`, which lists all of the model, in one device read and in PyTorch's layout.
pub(crate) fn capture<M: Module>(model: &M, table: &ParamTable) -> Result<Tensors, String> {
    struct Capture<'a> {
        table: std::slice::Iter<'a, ParamInfo>,
        reads: Option<Transaction>,
    }

    impl Capture<'_> {
        fn add(&mut self, register: impl FnOnce(Transaction) -> Transaction) {
            self.reads = self.reads.take().map(register);
        }

        fn is_transposed(&mut self) -> bool {
            self.table.next().is_some_and(|param| param.transposed)
        }
    }

    impl ModuleVisitor for Capture<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let value = if self.is_transposed() {
                value.swap_dims(0, 1)
            } else {
                value
            };
            self.add(|reads| reads.register(value));
        }

        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.table.next();
            self.add(|reads| reads.register(param.val()));
        }

        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            self.table.next();
            self.add(|reads| reads.register(param.val()));
        }
    }

    let mut capture = Capture {
        table: table.iter(),
        reads: Some(Transaction::default()),
    };
    // Without a tape; and a running mean of this thread's last batch is not in its tensor before that.
    model.valid().visit(&mut capture);
    let reads = capture
        .reads
        .expect("every visit puts the transaction back");
    let values = read::transaction(reads)?.into_iter().map(native);
    Ok(table
        .iter()
        .map(|param| param.name.clone())
        .zip(values)
        .collect())
}

/// A bool as a byte: on a GPU it is an integer of the device's choice, which no file has a form for.
fn native(data: TensorData) -> TensorData {
    match data.dtype() {
        DType::Bool(_) => data.convert::<bool>(),
        _ => data,
    }
}

/// Puts values in PyTorch's layout into the parameters and buffers of the same names.
///
/// Clones of the model keep theirs: the running states are made anew.
///
/// # Errors
///
/// Every name, shape and type that differs.
pub(crate) fn restore<M: Module>(
    model: M,
    table: &ParamTable,
    values: Tensors,
) -> Result<M, String> {
    struct Restore<'a> {
        table: std::slice::Iter<'a, ParamInfo>,
        values: Tensors,
    }

    impl Restore<'_> {
        fn next(&mut self) -> TensorData {
            let info = self.table.next().expect("the table lists all of the model");
            let data = self
                .values
                .remove(&info.name)
                .expect("names have been compared");
            if info.transposed {
                transpose(&data)
            } else {
                data
            }
        }
    }

    impl ModuleMapper for Restore<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let data = self.next();
            param.map(|old| {
                let new = Tensor::<D>::from_data(data, (&old.device().inner(), old.dtype()));
                OnTape::of(&old).put(new)
            })
        }

        fn map_int<const D: usize>(
            &mut self,
            param: Param<Tensor<D, Int>>,
        ) -> Param<Tensor<D, Int>> {
            let data = self.next();
            param.map(|old| Tensor::from_data(data, (&old.device(), old.dtype())))
        }

        fn map_bool<const D: usize>(
            &mut self,
            param: Param<Tensor<D, Bool>>,
        ) -> Param<Tensor<D, Bool>> {
            let data = self.next();
            param.map(|old| Tensor::from_data(data, &old.device()))
        }
    }

    check(table, &values)?;
    let own = with_own_states(&model);
    drop(model); // before the new values are made
    Ok(own.map(&mut Restore {
        table: table.iter(),
        values,
    }))
}

/// Reads a copy of the trained parameters, `[elements]` each, in one device read and in PyTorch's layout.
pub(crate) fn capture_copy(copy: Vec<Tensor<1>>, table: &ParamTable) -> Result<Tensors, String> {
    let values = read::vectors(copy)?;
    let shaped = table.iter().zip(values).map(|(param, data)| {
        let dtype = data.dtype();
        let data = TensorData::from_bytes(data.into_bytes(), param.shape.clone(), dtype);
        (
            param.name.clone(),
            if param.transposed {
                transpose(&data)
            } else {
                data
            },
        )
    });
    Ok(shaped.collect())
}

/// Puts a copy of the trained parameters back on the device, `[elements]` each, in the table's order.
///
/// # Errors
///
/// Every name and shape that differs, and every value that is no number.
pub(crate) fn restore_copy(
    mut values: Tensors,
    table: &ParamTable,
    device: &Device,
) -> Result<Vec<Tensor<1>>, String> {
    compare(table, &values, is_of_kind)?; // a copy may be in `f32` where the model is in `bf16`
    let flat = table.iter().map(|param| {
        let data = values
            .remove(&param.name)
            .expect("names have been compared");
        let data = if param.transposed {
            transpose(&data)
        } else {
            data
        };
        let dtype = data.dtype();
        let data = TensorData::from_bytes(data.into_bytes(), [param.num_elements()], dtype);
        Tensor::from_data(data, (device, dtype))
    });
    Ok(flat.collect())
}

/// Checks that saved tensors are those of a model to the bit: their names, shapes and types.
///
/// # Errors
///
/// All that differs.
pub(crate) fn check(table: &ParamTable, saved: &Tensors) -> Result<(), String> {
    compare(table, saved, |here, there| {
        // Which integer stands for an int or a bool is the device's choice.
        is_of_kind(here, there) && (!here.is_float() || here == there)
    })
}

/// Values of other floats in the types of the model's own, so that [`check`] takes them.
pub(crate) fn converted(table: &ParamTable, mut values: Tensors) -> Tensors {
    for param in table {
        if param.dtype.is_float()
            && let Some(value) = values.get_mut(&param.name)
            && value.dtype().is_float()
        {
            *value = std::mem::replace(value, TensorData::from([0.0])).convert_dtype(param.dtype);
        }
    }
    values
}

fn is_of_kind(here: DType, there: DType) -> bool {
    let kind = |dtype: DType| (dtype.is_float(), dtype.is_bool());
    kind(here) == kind(there)
}

/// Compares saved tensors with the model's; the text lists all that differs.
fn compare(
    table: &ParamTable,
    saved: &Tensors,
    fits: impl Fn(DType, DType) -> bool,
) -> Result<(), String> {
    let mut differences = Vec::new();
    for param in table {
        let (name, here) = (&param.name, param.saved_shape());
        let Some(there) = saved.get(name) else {
            differences.push(format!("it has no parameter `{name}`"));
            continue;
        };
        if there.shape().as_slice() != here {
            let there = there.shape().as_slice();
            differences.push(format!("`{name}` is {there:?} there and {here:?} here"));
        } else if !fits(param.dtype, there.dtype()) {
            let (there, here) = (there.dtype(), param.dtype);
            differences.push(format!(
                "`{name}` is of {there:?} there and of {here:?} here"
            ));
        }
    }
    let known: std::collections::HashSet<_> = table.iter().map(|param| &param.name).collect();
    let unknown = saved.keys().filter(|name| !known.contains(name));
    differences.extend(unknown.map(|name| format!("this model has no parameter `{name}`")));
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.join("; "))
    }
}

impl ParamInfo {
    /// Its shape as PyTorch holds it.
    fn saved_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

/// Transposes a matrix on the host. A transposed view would do, but what is computed from its strides
/// differs in the last bit from what is computed from a fresh parameter.
fn transpose(data: &TensorData) -> TensorData {
    let shape = data.shape();
    let (rows, columns) = (shape[0], shape[1]);
    let bytes = data.as_bytes();
    let size = bytes.len() / (rows * columns).max(1);
    let mut transposed = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            transposed.extend_from_slice(&bytes[at..at + size]);
        }
    }
    TensorData::from_bytes_vec(transposed, [columns, rows], data.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::tests::{self, Net};
    use burn::tensor::BoolStore;

    fn net() -> Net {
        tests::net(&Device::flex().autodiff())
    }

    #[test]
    fn everything_comes_back_to_the_bit_frozen_parameters_and_buffers_too() {
        let (from, into) = (net(), net());
        from.pass(&Device::flex().autodiff());

        let table = ParamTable::with_frozen(&from);
        let captured = capture(&from, &table).expect("the device reads");
        assert_eq!(captured["trained.weight"].shape().as_slice(), [2, 3]);
        assert_ne!(
            captured["norm.running_mean"],
            TensorData::from([0.0_f32, 0.0])
        );

        let into = restore(into, &table, captured.clone()).expect("the same names and shapes");
        assert_eq!(
            capture(&into, &ParamTable::with_frozen(&into)),
            Ok(captured)
        );
        assert!(into.trained.weight.is_require_grad() && !into.frozen.weight.is_require_grad());
        assert_eq!(
            ParamTable::of(&into).len(),
            4,
            "two of the linear layer, two of the norm"
        );
    }

    #[test]
    fn a_bool_is_saved_as_a_byte_whatever_the_device_makes_of_it() {
        let byte = TensorData::from_bytes_vec(vec![1, 0], [2], DType::Bool(BoolStore::U8));
        let word = vec![1, 0, 0, 0, 0, 0, 0, 0];
        let word = TensorData::from_bytes_vec(word, [2], DType::Bool(BoolStore::U32));
        for on_gpu in [byte, word] {
            assert_eq!(native(on_gpu), TensorData::from([true, false]));
        }
    }

    #[test]
    fn whatever_differs_is_listed() {
        let table = ParamTable::with_frozen(&net());
        let mut values = capture(&net(), &table).expect("the device reads");
        values.remove("frozen.bias");
        values.insert("norm.weight".to_owned(), TensorData::from([1.0_f32]));
        values.insert("more".to_owned(), TensorData::from([1.0_f32]));
        let error = restore(net(), &table, values).expect_err("another model's");
        let expected = "it has no parameter `frozen.bias`; `norm.weight` is [1] there and [2] here; \
                        this model has no parameter `more`";
        assert_eq!(error, expected);
    }
}
