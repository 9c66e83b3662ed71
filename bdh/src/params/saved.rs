//! Saving and loading of a model's tensors, exact to the bit.

use super::ties::{self, Ties};
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
    Ties::of(model).visit(&model.valid(), &mut capture);
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
    Ok(restore_found(model, table, values))
}

/// Replaces the parameters and buffers that have a value of their name; the others stay. The values fit the model.
///
/// Clones of the model keep their values, running states included.
pub(crate) fn restore_found<M: Module>(model: M, table: &ParamTable, values: Tensors) -> M {
    let own = with_own_states(&model);
    drop(model); // otherwise all old values would stay in memory until all new ones exist
    let mut restore = Restore {
        table: table.iter(),
        values,
    };
    ties::map(own, &mut restore)
}

/// Mapper that replaces every tensor that has a value.
struct Restore<'a> {
    table: std::slice::Iter<'a, ParamInfo>,
    values: Tensors,
}

impl Restore<'_> {
    fn next(&mut self) -> Option<TensorData> {
        let info = self.table.next().expect("the table lists all tensors");
        take(&mut self.values, info)
    }
}

/// Takes the saved value of a parameter, in burn's layout, if there is one. The values of tied fields are equal.
fn take(values: &mut Tensors, param: &ParamInfo) -> Option<TensorData> {
    let mut taken = None;
    for field in param.fields() {
        if let Some(data) = values.remove(field.name) {
            taken.get_or_insert((data, field.transposed));
        }
    }
    match taken? {
        (data, true) => Some(transpose(&data)),
        (data, false) => Some(data),
    }
}

impl ModuleMapper for Restore<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(data) = self.next() else {
            return param;
        };
        param.map(|old| {
            let new = Tensor::<D>::from_data(data, (&old.device().inner(), old.dtype()));
            OnTape::of(&old).put(new)
        })
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let Some(data) = self.next() else {
            return param;
        };
        param.map(|old| Tensor::from_data(data, (&old.device(), old.dtype())))
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        let Some(data) = self.next() else {
            return param;
        };
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
        let data = take(&mut values, param).expect("names have been compared");
        let flat = reshaped(data, vec![param.num_elements()]);
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
        if !param.dtype.is_float() {
            continue;
        }
        for name in param.names() {
            if let Some(value) = values.get_mut(name)
                && value.dtype().is_float()
            {
                let data = std::mem::replace(value, TensorData::from([0.0]));
                *value = data.convert_dtype(param.dtype);
            }
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
        differences.extend(difference(param, saved, &fits));
    }
    for name in unknown_names(table, saved) {
        differences.push(format!("this model has no parameter `{name}`"));
    }
    Mismatch::check(&differences)
}

/// Returns the names of saved tensors that the model does not have.
fn unknown_names<'a>(table: &ParamTable, saved: &'a Tensors) -> Vec<&'a str> {
    let known: HashSet<_> = table.iter().flat_map(ParamInfo::names).collect();
    let mut unknown = Vec::new();
    for name in saved.keys() {
        if !known.contains(name.as_str()) {
            unknown.push(name.as_str());
        }
    }
    unknown
}

/// Describes the difference in shape or kind of a parameter's saved tensors, if there is one. Floats of any type are of
/// one kind.
pub(crate) fn misfit(param: &ParamInfo, saved: &Tensors) -> Option<String> {
    difference(param, saved, is_of_kind)
}

/// Describes the first difference of saved tensors from a parameter, which may be saved under any of its names.
fn difference(
    param: &ParamInfo,
    saved: &Tensors,
    fits: impl Fn(DType, DType) -> bool,
) -> Option<String> {
    let mut first: Option<Saved<'_>> = None;
    for field in param.fields() {
        let Some(data) = saved.get(field.name) else {
            continue;
        };
        let found = Saved { field, data };
        let difference = match &first {
            None => found.difference(param, &fits),
            Some(first) => found
                .difference(param, &fits)
                .or_else(|| first.conflict(&found)),
        };
        if difference.is_some() {
            return difference;
        }
        first.get_or_insert(found);
    }
    match first {
        Some(_) => None,
        None => Some(format!("it has no parameter `{param}`")),
    }
}

/// Field of a model that holds a parameter: its name, and whether PyTorch stores the transpose.
struct Field<'a> {
    name: &'a str,
    transposed: bool,
}

impl ParamInfo {
    /// Iterates over the fields that hold the parameter: one, or several if it is tied.
    fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let first = Field {
            name: &self.name,
            transposed: self.transposed,
        };
        let others = self.aliases.iter().map(|alias| Field {
            name: &alias.name,
            transposed: alias.transposed,
        });
        std::iter::once(first).chain(others)
    }
}

/// Saved tensor of a field.
struct Saved<'a> {
    field: Field<'a>,
    data: &'a TensorData,
}

impl Saved<'_> {
    /// Describes the difference from the parameter in shape or type, if there is one.
    fn difference(&self, param: &ParamInfo, fits: impl Fn(DType, DType) -> bool) -> Option<String> {
        let name = self.field.name;
        let mut here = param.shape.clone();
        if self.field.transposed {
            here.reverse();
        }
        let there = self.data.shape().as_slice();
        if here != there {
            return Some(format!(
                "`{name}` is {there:?} in the file and {here:?} in this run"
            ));
        }
        let (here, there) = (param.dtype, self.data.dtype());
        if !fits(here, there) {
            return Some(format!(
                "`{name}` is {there:?} in the file and {here:?} in this run"
            ));
        }
        None
    }

    /// Describes the conflict with the saved tensor of another field of the same parameter, if their values differ.
    fn conflict(&self, other: &Self) -> Option<String> {
        let is_equal = if self.field.transposed == other.field.transposed {
            self.data.as_bytes() == other.data.as_bytes()
        } else {
            transpose(self.data).as_bytes() == other.data.as_bytes()
        };
        if is_equal {
            return None;
        }
        let (first, second) = (self.field.name, other.field.name);
        Some(format!(
            "`{first}` and `{second}` have different values in the file, but are one tied parameter in this run; to \
             keep both, create `{second}` by itself, not as a clone"
        ))
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
    use burn::nn::{Linear, LinearConfig};
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

    /// A linear layer whose matrix is a parameter elsewhere too. Files have its transpose under the layer's name.
    #[derive(Module, Debug)]
    struct Tied {
        table: Param<Tensor<2>>,
        linear: Linear,
    }

    fn tied() -> Tied {
        let config = LinearConfig::new(3, 2).with_bias(false);
        let linear = config.init(&Device::flex().autodiff());
        Tied {
            table: linear.weight.clone(),
            linear,
        }
    }

    #[test]
    fn a_tied_parameter_is_saved_once_and_loaded_by_any_of_its_names() {
        let from = tied();
        let table = ParamTable::with_frozen(&from);
        let saved = capture(&from, &table).expect("the device reads");
        assert_eq!(saved.keys().collect::<Vec<_>>(), ["table"]);
        let value = saved["table"].clone();
        let (first, second) = (
            ("table", value.clone()),
            ("linear.weight", transpose(&value)),
        );
        for file in [
            vec![first.clone()],
            vec![second.clone()],
            vec![first, second],
        ] {
            let file = file.into_iter().map(|(name, data)| (name.to_owned(), data));
            let into = restore(tied(), &table, file.collect()).expect("one value for both");
            assert_eq!(into.table.val().into_data(), value);
            assert_eq!(into.linear.weight.val().into_data(), value);
        }
    }

    #[test]
    fn two_values_of_a_tied_parameter_are_refused() {
        let table = ParamTable::with_frozen(&tied());
        let mut values = capture(&tied(), &table).expect("the device reads");
        let other = capture(&tied(), &table).expect("the device reads");
        values.insert("linear.weight".to_owned(), transpose(&other["table"]));
        let error = restore(tied(), &table, values).expect_err("two values");
        let expected = "`table` and `linear.weight` have different values in the file, but are one tied parameter in \
                        this run; to keep both, create `linear.weight` by itself, not as a clone";
        assert_eq!(error.to_string(), expected);
        let error = restore(tied(), &table, Tensors::new()).expect_err("nothing");
        assert_eq!(
            error.to_string(),
            "it has no parameter `table (= linear.weight)`"
        );
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
