//! Saving and loading of a model's tensors, exact to the bit.

use super::{Mismatch, OnTape, ParamInfo, ParamTable, with_own_states};
use crate::device_read::{self, DeviceError};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, Transaction};
use std::collections::{BTreeMap, HashSet};

/// Tensors in host memory, by name.
pub type Tensors = BTreeMap<String, TensorData>;

/// Reads all tensors of a model in one device read, in PyTorch's layout; `table` is its
/// [`ParamTable::with_frozen`].
pub(crate) fn capture<M: Module>(model: &M, table: &ParamTable) -> Result<Tensors, DeviceError> {
    let mut capture = Capture {
        table: table.iter(),
        reads: Transaction::default(),
    };
    // `valid` drops the tape, and applies the last batch's update to running means.
    model.valid().visit(&mut capture);
    let values = device_read::execute(capture.reads)?;
    let mut tensors = Tensors::new();
    for (param, data) in table.iter().zip(values) {
        tensors.insert(param.name.clone(), native(data));
    }
    Ok(tensors)
}

/// Visitor that registers a read of every tensor.
struct Capture<'a> {
    table: std::slice::Iter<'a, ParamInfo>,
    reads: Transaction,
}

impl Capture<'_> {
    fn add(&mut self, register: impl FnOnce(Transaction) -> Transaction) {
        self.reads = register(std::mem::take(&mut self.reads));
    }

    fn is_transposed(&mut self) -> bool {
        self.table.next().is_some_and(|param| param.transposed)
    }
}

impl ModuleVisitor for Capture<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut value = param.val();
        if self.is_transposed() {
            value = value.swap_dims(0, 1);
        }
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

/// Converts bools to bytes: on a GPU they are integers of the device's choice, which files do not support.
fn native(data: TensorData) -> TensorData {
    match data.dtype() {
        DType::Bool(_) => data.convert::<bool>(),
        _ => data,
    }
}

/// Replaces the parameters and buffers of a model by values of the same names, in PyTorch's layout.
///
/// Clones of the model keep their values, running states included.
///
/// # Errors
///
/// Lists every name, shape and type that differs.
pub(crate) fn restore<M: Module>(
    model: M,
    table: &ParamTable,
    values: Tensors,
) -> Result<M, Mismatch> {
    check(table, &values)?;
    let own = with_own_states(&model);
    drop(model); // otherwise all old values would stay in memory until all new ones exist
    Ok(own.map(&mut Restore {
        table: table.iter(),
        values,
    }))
}

/// Mapper that replaces every tensor.
struct Restore<'a> {
    table: std::slice::Iter<'a, ParamInfo>,
    values: Tensors,
}

impl Restore<'_> {
    fn next(&mut self) -> TensorData {
        let info = self.table.next().expect("the table lists all tensors");
        take(&mut self.values, info)
    }
}

/// Takes the saved value of a parameter, in burn's layout.
fn take(values: &mut Tensors, param: &ParamInfo) -> TensorData {
    let data = values
        .remove(&param.name)
        .expect("names have been compared");
    if param.transposed {
        transpose(&data)
    } else {
        data
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

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
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

/// Reads a copy of the trained parameters, `[elements]` each, in one device read; the result has PyTorch's layout.
pub(crate) fn capture_copy(
    copy: Vec<Tensor<1>>,
    table: &ParamTable,
) -> Result<Tensors, DeviceError> {
    let mut tensors = Tensors::new();
    for (param, data) in table.iter().zip(device_read::vectors(copy)?) {
        let mut shaped = reshaped(data, param.shape.clone());
        if param.transposed {
            shaped = transpose(&shaped);
        }
        tensors.insert(param.name.clone(), shaped);
    }
    Ok(tensors)
}

fn reshaped(data: TensorData, shape: Vec<usize>) -> TensorData {
    let dtype = data.dtype();
    TensorData::from_bytes(data.into_bytes(), shape, dtype)
}

/// Loads a copy of the trained parameters to the device, `[elements]` each, in the table's order.
///
/// # Errors
///
/// Lists every name and shape that differs, and every tensor that is not of floats.
pub(crate) fn restore_copy(
    mut values: Tensors,
    table: &ParamTable,
    device: &Device,
) -> Result<Vec<Tensor<1>>, Mismatch> {
    compare(table, &values, is_of_kind)?; // a copy may be in `f32` although the model is in `bf16`
    let mut copy = Vec::new();
    for param in table {
        let flat = reshaped(take(&mut values, param), vec![param.num_elements()]);
        let dtype = flat.dtype();
        copy.push(Tensor::from_data(flat, (device, dtype)));
    }
    Ok(copy)
}

/// Checks that saved tensors have the names, shapes and types of a model.
///
/// # Errors
///
/// Lists every name, shape and type that differs.
pub(crate) fn check(table: &ParamTable, saved: &Tensors) -> Result<(), Mismatch> {
    compare(table, saved, |here, there| {
        // The device chooses the integer type of ints and bools, so only the types of floats must be equal.
        is_of_kind(here, there) && (!here.is_float() || here == there)
    })
}

/// Converts floats to the types of the model's parameters, so that [`check`] accepts them.
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
    here.is_float() == there.is_float() && here.is_bool() == there.is_bool()
}

/// Compares saved tensors with the model's; the error lists all differences.
fn compare(
    table: &ParamTable,
    saved: &Tensors,
    fits: impl Fn(DType, DType) -> bool,
) -> Result<(), Mismatch> {
    let mut differences = Vec::new();
    for param in table {
        match saved.get(&param.name) {
            Some(data) => differences.extend(difference(param, data, &fits)),
            None => differences.push(format!("it has no parameter `{}`", param.name)),
        }
    }
    for name in unknown_names(table, saved) {
        differences.push(format!("this model has no parameter `{name}`"));
    }
    Mismatch::check(&differences)
}

/// Returns the names of saved tensors that the model does not have.
fn unknown_names<'a>(table: &ParamTable, saved: &'a Tensors) -> Vec<&'a str> {
    let known: HashSet<_> = table.iter().map(|param| &param.name).collect();
    let mut unknown = Vec::new();
    for name in saved.keys() {
        if !known.contains(name) {
            unknown.push(name.as_str());
        }
    }
    unknown
}

fn difference(
    param: &ParamInfo,
    saved: &TensorData,
    fits: impl Fn(DType, DType) -> bool,
) -> Option<String> {
    let name = &param.name;
    let (here, there) = (param.saved_shape(), saved.shape().as_slice());
    if here != there {
        return Some(format!(
            "`{name}` is {there:?} in the file and {here:?} in this run"
        ));
    }
    let (here, there) = (param.dtype, saved.dtype());
    if !fits(here, there) {
        return Some(format!(
            "`{name}` is {there:?} in the file and {here:?} in this run"
        ));
    }
    None
}

impl ParamInfo {
    /// Returns the shape in PyTorch's layout.
    fn saved_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

/// Transposes a matrix on the host.
///
/// A transposed view on the device would be simpler, but results computed from its strides differ in the last bit
/// from those of a fresh parameter.
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
    fn frozen_parameters_and_buffers_are_restored_exactly() {
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
            "two parameters of the linear layer, two of the norm"
        );
    }

    #[test]
    fn bools_are_saved_as_bytes_on_any_device() {
        let byte = TensorData::from_bytes_vec(vec![1, 0], [2], DType::Bool(BoolStore::U8));
        let word = vec![1, 0, 0, 0, 0, 0, 0, 0];
        let word = TensorData::from_bytes_vec(word, [2], DType::Bool(BoolStore::U32));
        for on_gpu in [byte, word] {
            assert_eq!(native(on_gpu), TensorData::from([true, false]));
        }
    }

    #[test]
    fn errors_list_all_differences() {
        let table = ParamTable::with_frozen(&net());
        let mut values = capture(&net(), &table).expect("the device reads");
        values.remove("frozen.bias");
        values.insert("norm.weight".to_owned(), TensorData::from([1.0_f32]));
        values.insert("more".to_owned(), TensorData::from([1.0_f32]));
        let error = restore(net(), &table, values).expect_err("another model's");
        let expected = "it has no parameter `frozen.bias`; `norm.weight` is [1] in the file and [2] in this run; \
                        this model has no parameter `more`";
        assert_eq!(error.to_string(), expected);
    }
}
