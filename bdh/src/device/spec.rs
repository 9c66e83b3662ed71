//! What the name of a device means, before anything is asked of the machine.

use crate::error::ConfigError;
use burn::tensor::Device;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One or several devices of a kind, by name: `cpu`, `cuda:1`, `cuda:0-7`, `cuda:0,2`, `vulkan`.
///
/// As a value of a flag it is parsed once, and refused with a sentence; [`open`](Self::open) finds the devices.
///
/// # Examples
///
/// ```
/// use bdh::DeviceSpec;
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
    /// Rising; empty stands for the best one there is.
    indices: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cpu,
    Cuda,
    Wgpu,
    Vulkan,
    Metal,
}

/// The kinds, the fastest first.
const KINDS: [Kind; 5] = [Kind::Cuda, Kind::Metal, Kind::Vulkan, Kind::Wgpu, Kind::Cpu];

/// More devices than any machine has: a slip of the finger should not make a list of millions.
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

    /// The cargo feature that brings this kind.
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
    /// Whether it is the CPU.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.kind == Kind::Cpu
    }

    /// Whether it is an NVIDIA GPU, or several.
    #[must_use]
    pub fn is_cuda(&self) -> bool {
        self.kind == Kind::Cuda
    }

    /// How many devices it stands for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.indices.len().max(1)
    }

    /// The same kind of device, `count` times, from the first one on; for the flag `--devices 8`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if it stands for another number of devices already, or `count` is 0.
    pub fn with_count(self, count: usize) -> Result<Self, ConfigError> {
        let first = self.indices.first().copied().unwrap_or(0);
        match self.count() {
            now if now == count => Ok(self),
            1 if (1..=MOST).contains(&count) => Ok(Self {
                indices: (first..first + count).collect(),
                ..self
            }),
            now => Err(ConfigError::Device(format!(
                "{count} devices are asked for, and `{self}` is {now}; give the number or the list, not both"
            ))),
        }
    }

    /// Finds the devices, ready for training (with autodiff).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if their feature was not compiled in, or this machine does not have them.
    pub fn open(&self) -> Result<Vec<Device>, ConfigError> {
        let mut found = found(self.kind)?;
        let name = self.kind.name();
        if found.is_empty() {
            return Err(ConfigError::Device(format!(
                "no device for `{self}`: this machine has no driver for {name}, or the driver found no device"
            )));
        }
        if self.is_cpu() {
            found = vec![found.swap_remove(0); self.count()];
        }
        let number = found.len();
        if let Some(beyond) = self.indices.iter().find(|index| **index >= number) {
            return Err(ConfigError::Device(format!(
                "no device {name}:{beyond}: there {}, up to {name}:{}",
                if number == 1 {
                    "is one".to_owned()
                } else {
                    format!("are {number}")
                },
                number - 1
            )));
        }
        let devices = if self.indices.is_empty() {
            vec![best(self.kind).unwrap_or_else(|| found.swap_remove(0))]
        } else {
            self.indices
                .iter()
                .map(|index| found[*index].clone())
                .collect()
        };
        Ok(devices.into_iter().map(Device::autodiff).collect())
    }
}

impl Default for DeviceSpec {
    /// The fastest device that this program was built for: whoever turned a GPU's feature on wants it used.
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
        let (name, indices) = match text.split_once(':') {
            None => (text, Some(BTreeSet::new())),
            Some((name, list)) => (name, parse_indices(list)),
        };
        let kind = match name {
            "flex" => Some(Kind::Cpu),
            "mps" => Some(Kind::Metal),
            _ => KINDS.into_iter().find(|kind| kind.name() == name),
        };
        // There is one CPU; a list of it says how many replicas share it.
        let is_right =
            |spec: &Self| !spec.is_cpu() || spec.indices.iter().copied().eq(0..spec.indices.len());
        kind.zip(indices)
            .map(|(kind, indices)| Self { kind, indices })
            .filter(is_right)
            .ok_or_else(|| {
                ConfigError::Device(format!(
                    "unknown device `{text}`; use cpu, cuda, cuda:1, cuda:0-7, wgpu, vulkan or metal"
                ))
            })
    }
}

/// Indices and ranges of them, separated by commas: at least one, and none twice.
fn parse_indices(list: &str) -> Option<BTreeSet<usize>> {
    let index = |text: &str| text.parse().ok().filter(|index| *index < MOST);
    let mut indices = BTreeSet::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let mut range = index(from)?..=index(to)?;
        if range.is_empty() || range.any(|index| !indices.insert(index)) {
            return None;
        }
    }
    Some(indices)
}

impl fmt::Display for DeviceSpec {
    /// As it is parsed; indices that follow one another are a range.
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

/// All devices of a kind, or which feature is missing.
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
        Kind::Cpu => {
            bdh_ops::start_threads().map_err(|error| {
                ConfigError::Device(format!(
                    "the CPU cannot be used, as the system gives no thread to compute on: {error}; a limit of processes, \
                     `ulimit -u`, or of memory may be reached, and fewer threads are used with `RAYON_NUM_THREADS=1`"
                ))
            })?;
            Ok(vec![Device::flex()])
        }
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

/// The device that the API itself prefers, where it has a preference.
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
    fn an_unknown_name_lists_those_that_work() {
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
    fn devices_print_as_they_are_read() {
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
    fn a_count_goes_on_from_the_first() {
        let counted =
            |text: &str, count| parse(text).with_count(count).map(|spec| spec.to_string());
        assert_eq!(counted("cuda", 8).expect("eight"), "cuda:0-7");
        assert_eq!(counted("cuda:2", 3).expect("three"), "cuda:2-4");
        assert_eq!(counted("cuda:0-7", 8).expect("the same"), "cuda:0-7");
        assert_eq!(counted("cpu", 1).expect("one"), "cpu");
        assert!(counted("cuda", 0).is_err());
        let error = counted("cuda:0-3", 8).expect_err("two answers").to_string();
        assert!(
            error.contains("8 devices") && error.contains("`cuda:0-3` is 4"),
            "{error}"
        );
    }

    #[test]
    fn the_default_device_is_one_that_was_built() {
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
    fn several_replicas_share_the_cpu_and_one_device_is_not_several() {
        assert_eq!(devices("cpu:0-2").expect("the CPU").len(), 3);
        let error = device("cpu:0-2").expect_err("three").to_string();
        assert!(error.contains("`cpu:0-2` is 3 devices"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_is_not_compiled_in_names_its_feature() {
        let error = device("cuda:0").expect_err("not compiled in").to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
