//! Optimizer state of nanochat: `optim_NNNNNN_rank0.pt`.

use super::ImportError;
use super::groups::{TorchGroup, TorchParam, groups};
use crate::nanochat::config::GptConfig;
use bdh::burn::tensor::TensorData;
use bdh::checkpoint::TorchFile;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// State under the names of our optimizers, `<parameter>.<field>`, and in burn's layouts.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tensors: BTreeMap<String, TensorData>,
    pub(super) counters: BTreeMap<String, Value>,
}

/// Returns the file of a step's optimizer state, which must be that of a single process.
pub(super) fn file_of(dir: &Path, step: u64) -> Result<PathBuf, ImportError> {
    let of_rank = |rank: usize| dir.join(format!("optim_{step:06}_rank{rank}.pt"));
    let path = of_rank(0);
    if !path.is_file() {
        let why = "there is no such file; nanochat writes it beside the weights, which load without it too";
        return Err(refused(&path, why));
    }
    if of_rank(1).exists() {
        let why = "it is divided among the processes of several GPUs, and only that of one process is read; load the \
                   weights alone, or continue with nanochat";
        return Err(refused(&path, why));
    }
    Ok(path)
}

/// Reads the state of all parameters after `step` updates. A parameter without one starts anew.
pub(super) fn read(path: &Path, config: &GptConfig, step: u64) -> Result<State, ImportError> {
    let file = TorchFile::open(path)?;
    let reader = Reader { path, file: &file };
    let mut state = State::default();
    for (index, group) in groups(config).iter().enumerate() {
        let places = reader.places(index, group)?;
        if group.is_muon {
            reader.muon(group, places[0], step, &mut state)?;
            continue;
        }
        for (param, place) in group.params.iter().zip(places) {
            reader.adamw(param, place, &mut state)?;
        }
    }
    reader.check_end(groups(config).len())?;
    Ok(state)
}

/// Open file of an optimizer state.
struct Reader<'a> {
    path: &'a Path,
    file: &'a TorchFile,
}

impl Reader<'_> {
    /// Returns the numbers of a group's parameters, by which their states are kept.
    fn places(&self, index: usize, group: &TorchGroup) -> Result<Vec<u64>, ImportError> {
        let found = &self.file.values()["param_groups"][index];
        let kind = if group.is_muon { "muon" } else { "adamw" };
        let mut places = Vec::new();
        for place in found["params"].as_array().into_iter().flatten() {
            places.extend(place.as_u64());
        }
        if found["kind"] == kind && places.len() == group.params.len() {
            return Ok(places);
        }
        let (first, count) = (&group.params[0].name, group.params.len());
        let why = format!(
            "its group {index} is not that of `{first}`, of the kind {kind} with {count} parameters; the state is of \
             another model or another version of nanochat"
        );
        Err(refused(self.path, why))
    }

    /// Checks that there are no more groups.
    fn check_end(&self, count: usize) -> Result<(), ImportError> {
        let groups = self.file.values()["param_groups"].as_array();
        let found = groups.map_or(0, Vec::len);
        if found == count {
            return Ok(());
        }
        let why = format!("it has {found} groups of parameters instead of {count}");
        Err(refused(self.path, why))
    }

    /// Reads the state of a parameter in AdamW.
    fn adamw(&self, param: &TorchParam, place: u64, state: &mut State) -> Result<(), ImportError> {
        let Some(entry) = self.entry(place) else {
            return Ok(());
        };
        let Some(steps) = entry["step"].as_u64() else {
            let why = format!("its state {place} has no number of steps");
            return Err(refused(self.path, why));
        };
        for (theirs, ours) in [("exp_avg", "average"), ("exp_avg_sq", "square")] {
            let values = self.floats(place, theirs, &param.shape)?;
            state.insert(param, ours, &values, &param.shape);
        }
        state.count(param, steps);
        Ok(())
    }

    /// Reads the states of a group in Muon, which are stacked under its first parameter.
    fn muon(
        &self,
        group: &TorchGroup,
        place: u64,
        steps: u64,
        state: &mut State,
    ) -> Result<(), ImportError> {
        if self.entry(place).is_none() {
            return Ok(());
        }
        let params = &group.params;
        let shape = params[0].shape.as_slice();
        let lines = lines(shape);
        for (theirs, ours, each) in [
            ("momentum_buffer", "momentum", shape),
            ("second_momentum_buffer", "variance", lines.as_slice()),
        ] {
            let whole: Vec<_> = [params.len()].iter().chain(each).copied().collect();
            let stack = self.floats(place, theirs, &whole)?;
            let size = each.iter().product();
            for (param, values) in params.iter().zip(stack.chunks_exact(size)) {
                state.insert(param, ours, values, each);
            }
        }
        for param in params {
            state.count(param, steps);
        }
        Ok(())
    }

    /// Returns the plain values of a parameter's state; `None` if the parameter was never updated.
    fn entry(&self, place: u64) -> Option<&Value> {
        self.file.values()["state"].get(place.to_string())
    }

    /// Reads a tensor of a parameter's state, as f32.
    fn floats(&self, place: u64, field: &str, shape: &[usize]) -> Result<Vec<f32>, ImportError> {
        let name = format!("state.{place}.{field}");
        if let Some(found) = self.file.shape(&name)
            && found != shape
        {
            let why = format!("its `{name}` is {found:?}, and the model needs {shape:?}");
            return Err(refused(self.path, why));
        }
        match self.file.tensor(&name)? {
            Some(data) => Ok(data.iter::<f32>().collect()),
            None => Err(refused(self.path, format!("it has no `{name}`"))),
        }
    }
}

impl State {
    /// Adds a tensor of a parameter, which is transposed if that of a linear layer is.
    fn insert(&mut self, param: &TorchParam, field: &str, values: &[f32], shape: &[usize]) {
        let data = match *shape {
            [rows, columns] if param.is_linear => {
                TensorData::new(transposed(values, columns), [columns, rows])
            }
            _ => TensorData::new(values.to_vec(), shape.to_vec()),
        };
        self.tensors.insert(format!("{}.{field}", param.name), data);
    }

    /// Adds the number of updates of a parameter.
    fn count(&mut self, param: &TorchParam, steps: u64) {
        let name = format!("{}.steps", param.name);
        self.counters.insert(name, steps.into());
    }
}

/// Returns the shape of the mean squares of a matrix, which are taken along its shorter side.
fn lines(shape: &[usize]) -> Vec<usize> {
    let (rows, columns) = (shape[0], shape[1]);
    if rows >= columns {
        vec![rows, 1]
    } else {
        vec![1, columns]
    }
}

/// Returns the values of the transpose of a matrix.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let mut transposed = Vec::with_capacity(values.len());
    for column in 0..columns {
        transposed.extend(values.iter().skip(column).step_by(columns));
    }
    transposed
}

fn refused(path: &Path, why: impl Into<String>) -> ImportError {
    ImportError::Optimizer {
        path: path.to_owned(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_has_columns_for_rows() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(transposed(&values, 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(transposed(&values, 1), values);
    }
}
