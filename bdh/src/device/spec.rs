//! Parsing of device names; finding the devices is a separate step.

use crate::error::ConfigError;
use burn::tensor::Device;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Name of one or more devices of a kind: `cpu`, `cuda:1`, `cuda:0-7`, `cuda:0,2`, `vulkan`.
///
/// Suits a command line flag: parsing checks the name, and [`open`](Self::open) finds the devices later.
///
/// # Examples
///
/// ```
/// use bdh::device::DeviceSpec;
///
/// let eight: DeviceSpec = "cuda:0-7".parse()?;
/// assert_eq!(eight.count(), 8);
/// assert_eq!("cuda".parse::<DeviceSpec>()?.with_count(8)?, eight);
/// assert!("gpu".parse::<DeviceSpec>().is_err());
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    kind: Kind,
    /// Indices of the devices; empty for the best one.
    indices: BTreeSet<usize>,
}

/// Kind of device, with its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cpu,
    Cuda,
    Wgpu,
    Vulkan,
    Metal,
}

/// All kinds, the fastest first.
const KINDS: [Kind; 5] = [Kind::Cuda, Kind::Metal, Kind::Vulkan, Kind::Wgpu, Kind::Cpu];

/// Limit of indices, above the number of devices of any machine, so a typing error does not make a list of millions.
const MOST: usize = 1024;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
        }
    }

    /// Parses a name, or one of other programs: `flex` for burn's backend, `mps` for PyTorch's Metal.
    fn parse(name: &str) -> Option<Self> {
        match name {
            "flex" => Some(Self::Cpu),
            "mps" => Some(Self::Metal),
            _ => KINDS.into_iter().find(|kind| kind.name() == name),
        }
    }

    /// Returns the cargo feature that enables this kind.
    fn feature(self) -> &'static str {
        if self == Self::Cpu {
            "flex"
        } else {
            self.name()
        }
    }

    fn is_built(self) -> bool {
        match self {
            Self::Cpu => cfg!(feature = "flex"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
        }
    }
}

impl DeviceSpec {
    /// Returns whether the name is the CPU's.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.kind == Kind::Cpu
    }

    /// Returns whether the name is that of one or more NVIDIA GPUs.
    #[must_use]
    pub fn is_cuda(&self) -> bool {
        self.kind == Kind::Cuda
    }

    /// Returns the number of devices.
    #[must_use]
    pub fn count(&self) -> usize {
        self.indices.len().max(1)
    }

    /// Extends the name to `count` devices from the first one on, for a flag such as `--devices 8`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if the name lists another number of devices already, or if `count` is 0.
    pub fn with_count(self, count: usize) -> Result<Self, ConfigError> {
        let first = self.indices.first().copied().unwrap_or(0);
        match self.count() {
            now if now == count => Ok(self),
            1 if (1..=MOST).contains(&count) => Ok(Self {
                indices: (first..first + count).collect(),
                ..self
            }),
            now => Err(ConfigError::Device(format!(
                "the number of devices is {count}, but `{self}` is {now}; use the number or the list, not both"
            ))),
        }
    }

    /// Opens the devices for training (with autodiff).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if their feature was not compiled in, or if this machine does not have them.
    pub fn open(&self) -> Result<Vec<Device>, ConfigError> {
        let found = found(self.kind)?;
        let Some(first) = found.first() else {
            return Err(self.none_found());
        };
        if self.is_cpu() {
            return Ok(vec![first.clone().autodiff(); self.count()]);
        }
        if self.indices.is_empty() {
            let device = best(self.kind).unwrap_or_else(|| first.clone());
            return Ok(vec![device.autodiff()]);
        }
        self.open_listed(&found)
    }

    /// Opens the devices of the list of indices.
    fn open_listed(&self, found: &[Device]) -> Result<Vec<Device>, ConfigError> {
        let mut devices = Vec::with_capacity(self.count());
        for index in &self.indices {
            let Some(device) = found.get(*index) else {
                return Err(self.out_of_range(*index, found.len()));
            };
            devices.push(device.clone().autodiff());
        }
        Ok(devices)
    }

    fn none_found(&self) -> ConfigError {
        ConfigError::Device(format!(
            "no device for `{self}`: this machine has no driver for {}, or the driver found no device",
            self.kind.name()
        ))
    }

    fn out_of_range(&self, index: usize, number: usize) -> ConfigError {
        let name = self.kind.name();
        let known = match number {
            1 => format!("the only one is {name}:0"),
            _ => format!("there are {number}, up to {name}:{}", number - 1),
        };
        ConfigError::Device(format!("no device {name}:{index}: {known}"))
    }
}

impl Default for DeviceSpec {
    /// Returns the fastest device that this program was built for.
    fn default() -> Self {
        let kind = KINDS
            .into_iter()
            .find(|kind| kind.is_built())
            .unwrap_or(Kind::Cpu);
        Self {
            kind,
            indices: BTreeSet::new(),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        parse_spec(text).ok_or_else(|| {
            ConfigError::Device(format!(
                "unknown device `{text}`; use cpu, cuda, cuda:1, cuda:0-7, wgpu, vulkan or metal"
            ))
        })
    }
}

/// Parses a kind of device with optional indices.
fn parse_spec(text: &str) -> Option<DeviceSpec> {
    let (name, indices) = match text.split_once(':') {
        None => (text, BTreeSet::new()),
        Some((name, list)) => (name, parse_indices(list)?),
    };
    let kind = Kind::parse(name)?;
    // There is one CPU; a list from 0 on gives the number of replicas that share it.
    let is_from_zero = indices.iter().copied().eq(0..indices.len());
    if kind == Kind::Cpu && !is_from_zero {
        return None;
    }
    Some(DeviceSpec { kind, indices })
}

/// Parses indices and ranges, separated by commas: at least one, and none twice.
fn parse_indices(list: &str) -> Option<BTreeSet<usize>> {
    let mut indices = BTreeSet::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let mut range = parse_index(from)?..=parse_index(to)?;
        if range.is_empty() || range.any(|index| !indices.insert(index)) {
            return None;
        }
    }
    Some(indices)
}

fn parse_index(text: &str) -> Option<usize> {
    text.parse().ok().filter(|index| *index < MOST)
}

impl fmt::Display for DeviceSpec {
    /// Writes the name in the form that is parsed; consecutive indices become a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        let mut rest = self.indices.iter().copied().peekable();
        let mut before = ':';
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last {
                _ if last == first => write!(f, "{before}{first}")?,
                _ => write!(f, "{before}{first}-{last}")?,
            }
            before = ',';
        }
        Ok(())
    }
}

impl Serialize for DeviceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Lists all devices of a kind.
fn found(kind: Kind) -> Result<Vec<Device>, ConfigError> {
    #[cfg(any(
        feature = "cuda",
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal"
    ))]
    use burn::tensor::DeviceType;
    match kind {
        #[cfg(feature = "flex")]
        Kind::Cpu => cpu().map(|device| vec![device]),
        #[cfg(feature = "cuda")]
        Kind::Cuda => Ok(Device::enumerate(DeviceType::Cuda).to_vec()),
        #[cfg(feature = "wgpu")]
        Kind::Wgpu => Ok(Device::enumerate(DeviceType::Wgpu).to_vec()),
        #[cfg(feature = "vulkan")]
        Kind::Vulkan => Ok(Device::enumerate(DeviceType::Vulkan).to_vec()),
        #[cfg(feature = "metal")]
        Kind::Metal => Ok(Device::enumerate(DeviceType::Metal).to_vec()),
        #[allow(
            unreachable_patterns,
            reason = "with all features there is no kind left"
        )]
        _ => Err(ConfigError::Device(format!(
            "this program was built without `{0}`; build it with `--features {0}`",
            kind.feature()
        ))),
    }
}

#[cfg(feature = "flex")]
fn cpu() -> Result<Device, ConfigError> {
    // Started here, where a failure is an error: later it would be a panic in the middle of an operation.
    bdh_ops::start_threads().map_err(|error| {
        ConfigError::Device(format!(
            "cannot use the CPU: the system refused to start threads: {error}; a limit on processes (`ulimit -u`) or \
             memory may be reached; `RAYON_NUM_THREADS=1` uses fewer threads"
        ))
    })?;
    Ok(Device::flex())
}

/// Returns the device that the API prefers, if it has a preference.
fn best(kind: Kind) -> Option<Device> {
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
    use burn::tensor::DeviceKind::DefaultDevice;
    match kind {
        #[cfg(feature = "wgpu")]
        Kind::Wgpu => Some(Device::wgpu(DefaultDevice)),
        #[cfg(feature = "vulkan")]
        Kind::Vulkan => Some(Device::vulkan(DefaultDevice)),
        #[cfg(feature = "metal")]
        Kind::Metal => Some(Device::metal(DefaultDevice)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{device, devices};

    fn parse(text: &str) -> DeviceSpec {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn errors_for_unknown_names_list_known_names() {
        let unknown = [
            "gpu",
            "cuda:x",
            "cpu:1",
            "",
            "tpu:0",
            "CPU",
            "cuda:",
            "cuda:-1",
            "cuda:2-1",
            "cuda:0,0",
            "cuda:0-3,2",
            "cuda:0-",
            "cuda:0-99999999999",
            "cuda:1024",
            "cuda:0 1",
            "cpu:0,2",
        ];
        for name in unknown {
            let error = device(name).expect_err("unknown").to_string();
            assert!(
                error.contains(name) && error.contains("use cpu, cuda"),
                "{error}"
            );
        }
    }

    #[test]
    fn names_print_in_the_form_that_is_parsed() {
        for text in [
            "cpu",
            "cpu:0-3",
            "cuda",
            "cuda:3",
            "cuda:0-7",
            "cuda:0,2-3,7",
            "vulkan:1",
        ] {
            assert_eq!(parse(text).to_string(), text);
            let json = serde_json::to_string(&parse(text)).expect("a string");
            assert_eq!(
                serde_json::from_str::<DeviceSpec>(&json).expect("a device"),
                parse(text)
            );
        }
        assert!(serde_json::from_str::<DeviceSpec>("\"tpu\"").is_err());
        assert_eq!(parse("cuda:3,1,2").to_string(), "cuda:1-3");
        assert_eq!(
            (parse("mps"), parse("flex")),
            (parse("metal"), parse("cpu"))
        );
    }

    #[test]
    fn counts_start_at_the_first_device() {
        let counted =
            |text: &str, count| parse(text).with_count(count).map(|spec| spec.to_string());
        assert_eq!(counted("cuda", 8).expect("eight"), "cuda:0-7");
        assert_eq!(counted("cuda:2", 3).expect("three"), "cuda:2-4");
        assert_eq!(counted("cuda:0-7", 8).expect("the same"), "cuda:0-7");
        assert_eq!(counted("cpu", 1).expect("one"), "cpu");
        assert!(counted("cuda", 0).is_err());
        let error = counted("cuda:0-3", 8).expect_err("two numbers").to_string();
        assert!(
            error.contains("devices is 8") && error.contains("`cuda:0-3` is 4"),
            "{error}"
        );
    }

    #[test]
    fn the_default_device_was_compiled_in() {
        let feature_given = cfg!(any(
            feature = "flex",
            feature = "cuda",
            feature = "wgpu",
            feature = "vulkan",
            feature = "metal"
        ));
        assert_eq!(DeviceSpec::default().kind.is_built(), feature_given);
    }

    #[test]
    #[cfg(feature = "flex")]
    fn replicas_can_share_the_cpu() {
        assert_eq!(devices("cpu:0-2").expect("the CPU").len(), 3);
        let error = device("cpu:0-2").expect_err("three").to_string();
        assert!(error.contains("`cpu:0-2` is 3 devices"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn errors_for_missing_backends_name_the_feature() {
        let error = device("cuda:0").expect_err("not compiled in").to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
