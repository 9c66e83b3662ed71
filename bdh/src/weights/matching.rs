//! Loading of the part of a file that fits a model, such as a pretrained backbone.

use super::{source, without_buffers};
use crate::error::CheckpointError;
use crate::params::{self, Mismatch, ParamInfo, ParamTable, Tensors};
use crate::printable::printable;
use burn::module::Module;
use burn::tensor::TensorData;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Most names on a line of a report.
const MOST_NAMES: usize = 8;

/// Loads every tensor of a file that has the name and shape of one in the model, and reports the rest.
///
/// All other parameters and buffers of the model keep their values: load a pretrained file before training, and the
/// new head stays as it was initialized. Types of files, names, layouts and conversions are those of
/// [`load_weights`](crate::load_weights), which refuses a file that does not fit completely.
///
/// # Errors
///
/// [`CheckpointError::Mismatch`] if no tensor of the file fits; the model is lost then.
/// [`CheckpointError::NoWeights`] if the path is not a file, [`CheckpointError::Damaged`] or [`CheckpointError::Io`] if
/// it cannot be read.
///
/// # Examples
///
/// ```
/// use bdh::burn::nn::LinearConfig;
///
/// # fn main() -> bdh::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("linear.safetensors");
/// let device = bdh::device("cpu")?;
/// bdh::save_weights(&LinearConfig::new(3, 2).init(&device), &path)?;
///
/// let model = LinearConfig::new(3, 2).with_bias(false).init(&device);
/// let (model, report) = bdh::load_matching(model, &path)?;
/// assert_eq!(report.loaded, ["weight"]);
/// assert_eq!(report.to_string(), "loaded 1 of 1 tensor\nnot in the model: bias");
/// # Ok(())
/// # }
/// ```
pub fn load_matching<M: Module>(
    model: M,
    path: impl AsRef<Path>,
) -> Result<(M, LoadReport), CheckpointError> {
    load_matching_prefixes(model, path, &[("", "")])
}

/// Loads the tensors of a file whose names begin with one of these prefixes, each replaced by the prefix beside it.
///
/// `[("backbone.", "encoder.")]` loads `backbone.0.weight` of the file into `encoder.0.weight` of the model, and nothing
/// outside of `backbone.`; `[("", "encoder.")]` loads a whole file into a part of the model; and two equal prefixes
/// select a part of the file. The first prefix that a name begins with decides. For the rest see [`load_matching`].
///
/// # Errors
///
/// The errors of [`load_matching`], and [`CheckpointError::Mismatch`] if two names of the file become one.
///
/// # Examples
///
/// ```no_run
/// # use bdh::burn::nn::Linear;
/// # use bdh::error::CheckpointError;
/// # fn start(model: Linear) -> Result<Linear, CheckpointError> {
/// let prefixes = [("backbone.", "encoder.")];
/// let (model, report) = bdh::load_matching_prefixes(model, "detector.safetensors", &prefixes)?;
/// println!("{report}");
/// # Ok(model)
/// # }
/// ```
pub fn load_matching_prefixes<M: Module>(
    model: M,
    path: impl AsRef<Path>,
    prefixes: &[(&str, &str)],
) -> Result<(M, LoadReport), CheckpointError> {
    let path = path.as_ref();
    let tensors = source::read(path)?;
    load(model, tensors, prefixes).map_err(|error| CheckpointError::Mismatch {
        path: path.to_owned(),
        what: error.to_string(),
    })
}

/// Tensors of a file and of a model that were loaded, and those that were not, by [`load_matching`].
///
/// `Display` prints a short list for people, with at most eight names a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Parameters and buffers of the model that have the file's values now, in the order of the model; a tied one with all
    /// its names, as `embed.weight (= head.weight)`.
    pub loaded: Vec<String>,
    /// Parameters and buffers of the model that are not in the file, and kept their values.
    pub missing: Vec<String>,
    /// Names in the file that no parameter of the model has, or that begin with no given prefix.
    pub unused: Vec<String>,
    /// Parameters that are in the file with another shape, or with integers for floats, and kept their values; each with
    /// both shapes or types.
    pub mismatched: Vec<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = self.loaded.len();
        let all = loaded + self.missing.len() + self.mismatched.len();
        let plural = if all == 1 { "" } else { "s" };
        write!(f, "loaded {loaded} of {all} tensor{plural}")?;
        write_names(f, "not in the file", &self.missing)?;
        write_names(f, "not in the model", &self.unused)?;
        write_names(f, "do not fit", &self.mismatched)
    }
}

/// Writes a line of names, if there are any.
fn write_names(f: &mut fmt::Formatter<'_>, what: &str, names: &[String]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    // Names come from a file: control characters in them must not reach a terminal.
    write!(f, "\n{what}: {}", printable(&few(names, MOST_NAMES)))
}

/// Returns the first names of a list with commas between them, and the number of the others.
fn few(names: &[String], most: usize) -> String {
    let shown = names.len().min(most);
    let mut text = names[..shown].join(", ");
    if names.len() > shown {
        text += &format!(" and {} more", names.len() - shown);
    }
    text
}

fn load<M: Module>(
    model: M,
    tensors: Tensors,
    prefixes: &[(&str, &str)],
) -> Result<(M, LoadReport), Mismatch> {
    let file = Renamed::new(without_buffers(tensors, &[])?, prefixes)?;
    let table = ParamTable::with_frozen(&model);
    let (fitting, report) = compare(file, &table);
    if report.loaded.is_empty() {
        return Err(nothing_fits(&table, &report));
    }
    let fitting = params::converted(&table, fitting);
    let model = params::restore_found(model, &table, fitting);
    Ok((model, report))
}

/// Returns the tensors of a file that fit a model, and the report.
fn compare(mut file: Renamed, table: &ParamTable) -> (Tensors, LoadReport) {
    let mut report = LoadReport::default();
    let mut fitting = Tensors::new();
    for param in table {
        let found = file.take(param);
        if found.is_empty() {
            report.missing.push(param.to_string());
        } else if let Some(misfit) = params::misfit(param, &found) {
            report.mismatched.push(misfit);
        } else {
            report.loaded.push(param.to_string());
            fitting.extend(found);
        }
    }
    report.unused = file.rest();
    (fitting, report)
}

fn nothing_fits(table: &ParamTable, report: &LoadReport) -> Mismatch {
    if !report.mismatched.is_empty() {
        let misfits = few(&report.mismatched, MOST_NAMES);
        return Mismatch::new(format!("none of its tensors fits: {misfits}"));
    }
    let ours: Vec<_> = table.iter().map(|param| param.name.clone()).collect();
    let (theirs, ours) = (few(&report.unused, 3), few(&ours, 3));
    Mismatch::new(format!(
        "none of its names is one of the model's: it has {theirs}; the model has {ours}; \
         `load_matching_prefixes` renames the beginnings of names"
    ))
}

/// Tensors of a file by the names that they have in a model.
struct Renamed {
    tensors: BTreeMap<String, Source>,
    /// Names in the file that begin with none of the prefixes.
    outside: Vec<String>,
}

/// Tensor of a file, with its name there.
struct Source {
    name: String,
    data: TensorData,
}

impl Renamed {
    fn new(tensors: Tensors, prefixes: &[(&str, &str)]) -> Result<Self, Mismatch> {
        let mut file = Self {
            tensors: BTreeMap::new(),
            outside: Vec::new(),
        };
        for (name, data) in tensors {
            let Some(new) = renamed(&name, prefixes) else {
                file.outside.push(name);
                continue;
            };
            if let Some(other) = file.tensors.get(&new) {
                let other = &other.name;
                return Err(Mismatch::new(format!(
                    "`{other}` and `{name}` would both be `{new}`; give them other prefixes"
                )));
            }
            file.tensors.insert(new, Source { name, data });
        }
        Ok(file)
    }

    /// Takes the tensor of a parameter; of a tied one, those under all of its names.
    fn take(&mut self, param: &ParamInfo) -> Tensors {
        let mut found = Tensors::new();
        for name in param.names() {
            if let Some(source) = self.tensors.remove(name) {
                found.insert(name.to_owned(), source.data);
            }
        }
        found
    }

    /// Returns the names in the file that were not taken.
    fn rest(self) -> Vec<String> {
        let mut names = self.outside;
        for source in self.tensors.into_values() {
            names.push(source.name);
        }
        names.sort();
        names
    }
}

/// Replaces the first prefix that a name begins with; `None` if it begins with none.
fn renamed(name: &str, prefixes: &[(&str, &str)]) -> Option<String> {
    for (from, to) in prefixes {
        if let Some(rest) = name.strip_prefix(from) {
            return Some(format!("{to}{rest}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Net {
        encoder: Linear,
        head: Linear,
    }

    fn net() -> Net {
        let device = Device::flex().autodiff();
        Net {
            encoder: LinearConfig::new(2, 2).init(&device),
            head: LinearConfig::new(2, 3).init(&device).no_grad(),
        }
    }

    fn file(tensors: &[(&str, TensorData)]) -> Tensors {
        let tensors = tensors.iter();
        tensors
            .map(|(name, data)| ((*name).to_owned(), data.clone()))
            .collect()
    }

    fn detector() -> Tensors {
        file(&[
            (
                "module.backbone.weight",
                [[1.0_f64, 2.0], [3.0, 4.0]].into(),
            ),
            ("module.backbone.steps", [7_i64].into()),
            ("module.head.bias", [0.5_f32, 0.5].into()),
            ("module.neck.weight", [1.0_f32].into()),
        ])
    }

    #[test]
    fn a_part_of_a_file_loads_under_another_name_and_the_rest_is_listed() {
        let before = net();
        let (bias, head) = (before.encoder.bias.clone(), before.head.weight.clone());
        let prefixes = [("backbone.", "encoder."), ("head.", "head.")];
        let (after, report) = load(before, detector(), &prefixes).expect("a weight that fits");
        let weight = after.encoder.weight.val();
        // The file has PyTorch's layout.
        let transposed = TensorData::from([[1.0_f32, 3.0], [2.0, 4.0]]);
        assert_eq!(weight.clone().into_data(), transposed);
        assert!(weight.is_require_grad() && !after.head.weight.is_require_grad());
        let kept = after.encoder.bias.expect("a bias").val().into_data();
        assert_eq!(kept, bias.expect("a bias").val().into_data());
        assert_eq!(after.head.weight.val().into_data(), head.val().into_data());
        let expected = LoadReport {
            loaded: vec!["encoder.weight".to_owned()],
            missing: vec!["encoder.bias".to_owned(), "head.weight".to_owned()],
            unused: vec!["backbone.steps".to_owned(), "neck.weight".to_owned()],
            mismatched: vec!["`head.bias` is [2] in the file and [3] in this run".to_owned()],
        };
        assert_eq!(report, expected);
        let text = "loaded 1 of 4 tensors\n\
                    not in the file: encoder.bias, head.weight\n\
                    not in the model: backbone.steps, neck.weight\n\
                    do not fit: `head.bias` is [2] in the file and [3] in this run";
        assert_eq!(report.to_string(), text);
    }

    #[test]
    fn a_file_with_nothing_in_common_is_refused_with_both_lists_of_names() {
        let refusal = |tensors, prefixes: &[(&str, &str)]| {
            let error = load(net(), tensors, prefixes).expect_err("another model");
            error.to_string()
        };
        let expected = "none of its names is one of the model's: it has backbone.steps, backbone.weight, \
                        head.bias and 1 more; the model has encoder.weight, encoder.bias, head.weight and 1 more; \
                        `load_matching_prefixes` renames the beginnings of names";
        assert_eq!(refusal(detector(), &[("neck.", "x.")]), expected);
        let integers = file(&[("encoder.bias", [1_i64, 2].into())]);
        let expected =
            "none of its tensors fits: `encoder.bias` is I64 in the file and F32 in this run";
        assert_eq!(refusal(integers, &[("", "")]), expected);
        let expected = "`backbone.weight` and `neck.weight` would both be `x.weight`; give them other prefixes";
        let both = [("backbone.", "x."), ("neck.", "x.")];
        assert_eq!(refusal(detector(), &both), expected);
    }

    #[test]
    fn a_long_report_is_short_and_has_no_control_characters() {
        let report = LoadReport {
            unused: (0..20).map(|index| format!("{index}\u{1b}")).collect(),
            ..LoadReport::default()
        };
        let text = report.to_string();
        assert!(text.ends_with(" and 12 more") && !text.contains('\u{1b}'));
    }
}
