//! Peaks of GPUs by the names that drivers report.

use super::DevicePeak;
use nvml_wrapper::Nvml;

/// Words of a driver's name, in lower case, that belong to a device. The entry with the most matching words counts.
const NAMES: &[(&[&str], DevicePeak)] = &[
    (&["gb200"], DevicePeak::Gb200Bf16),
    (&["b200"], DevicePeak::B200Bf16),
    (&["b100"], DevicePeak::B100Bf16),
    (&["h200", "nvl"], DevicePeak::H200NvlBf16),
    (&["h200", "pcie"], DevicePeak::H200NvlBf16), // the NVL is the only card for PCIe
    (&["h200"], DevicePeak::H200Bf16),
    (&["gh200"], DevicePeak::H200Bf16), // data sheet: 1,979 TFLOPS with sparsity, as the H200
    (&["h100", "nvl"], DevicePeak::H100NvlBf16),
    (&["h100", "pcie"], DevicePeak::H100PcieBf16),
    (&["h100"], DevicePeak::H100Bf16),
    (&["h800", "nvl"], DevicePeak::H800NvlBf16),
    (&["h800"], DevicePeak::H800Bf16),
    (&["a100"], DevicePeak::A100Bf16),
    (&["a800"], DevicePeak::A800Bf16),
    (&["a40"], DevicePeak::A40Bf16),
    (&["a30"], DevicePeak::A30Bf16),
    (&["l40s"], DevicePeak::L40sBf16),
    (&["l40", "s"], DevicePeak::L40sBf16), // `L40-S`
    (&["l4"], DevicePeak::L4Bf16),
    (&["mi355x"], DevicePeak::Mi355xBf16),
    (&["mi325x"], DevicePeak::Mi325xBf16),
    (&["mi300x"], DevicePeak::Mi300xBf16),
    (&["mi300a"], DevicePeak::Mi300aBf16),
    (&["mi250x"], DevicePeak::Mi250xBf16),
    (&["mi250"], DevicePeak::Mi250Bf16),
    (&["5090"], DevicePeak::Rtx5090Bf16),
    (&["4090"], DevicePeak::Rtx4090Bf16),
    (&["3090"], DevicePeak::Rtx3090Bf16),
];

/// Words of cards that share a number with a known card and have another peak, and of a part of a GPU.
const OTHER: [&str; 5] = ["ti", "super", "laptop", "d", "mig"];

impl DevicePeak {
    /// Returns the peak in bf16 of a GPU by its driver's name, such as `NVIDIA H100 80GB HBM3`, in any case.
    ///
    /// `None` for a device that is not in the table.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh_callbacks::DevicePeak;
    ///
    /// assert_eq!(DevicePeak::of_name("NVIDIA H100 PCIe"), Some(DevicePeak::H100PcieBf16));
    /// assert_eq!(DevicePeak::of_name("NVIDIA GeForce RTX 4090"), Some(DevicePeak::Rtx4090Bf16));
    /// assert_eq!(DevicePeak::of_name("llvmpipe"), None);
    /// ```
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let words: Vec<&str> = name
            .split(|letter: char| !letter.is_alphanumeric())
            .collect();
        if words.iter().any(|word| OTHER.contains(word)) {
            return None;
        }
        let mut found: Option<(usize, Self)> = None;
        for (parts, peak) in NAMES {
            let is_named = parts.iter().all(|part| words.contains(part));
            if is_named && found.is_none_or(|(most, _)| parts.len() > most) {
                found = Some((parts.len(), *peak));
            }
        }
        found.map(|(_, peak)| peak)
    }

    /// Returns the peak in bf16 of this machine's NVIDIA GPUs, from the name that their driver reports.
    ///
    /// `None` without the driver, for a GPU that is not in the table, and for GPUs of several kinds: the driver and CUDA
    /// may number these in different orders.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        let library = Nvml::init().ok()?;
        let mut found = None;
        for index in 0..library.device_count().ok()? {
            let name = library.device_by_index(index).ok()?.name().ok()?;
            let peak = Self::of_name(&name)?;
            if found.is_some_and(|other| other != peak) {
                return None;
            }
            found = Some(peak);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: the card's entry in `get_peak_flops` of nanochat.
    #[test]
    fn names_of_drivers_lead_to_their_peaks() {
        for (name, expected) in [
            ("NVIDIA H100 80GB HBM3", "h100-bf16"),
            ("nvidia h100 pcie", "h100-pcie-bf16"),
            ("NVIDIA H100 NVL", "h100-nvl-bf16"),
            ("NVIDIA H200", "h200-bf16"),
            ("NVIDIA H200 NVL", "h200-nvl-bf16"),
            ("NVIDIA GH200 480GB", "h200-bf16"),
            ("NVIDIA B200", "b200-bf16"),
            ("NVIDIA GB200", "gb200-bf16"),
            ("NVIDIA A100-SXM4-80GB", "a100-bf16"),
            ("NVIDIA A100-PCIE-40GB", "a100-bf16"),
            ("NVIDIA L40S", "l40s-bf16"),
            ("NVIDIA L40-S", "l40s-bf16"),
            ("NVIDIA L4", "l4-bf16"),
            ("AMD Instinct MI300X", "mi300x-bf16"),
            ("AMD Instinct MI250X / MI250", "mi250x-bf16"),
            ("NVIDIA GeForce RTX 5090", "rtx5090-bf16"),
            ("NVIDIA GeForce RTX 3090", "rtx3090-bf16"),
        ] {
            let found = DevicePeak::of_name(name).map(DevicePeak::name);
            assert_eq!(found, Some(expected), "{name}");
        }
    }

    #[test]
    fn cards_with_another_peak_are_unknown() {
        for name in [
            "",
            "NVIDIA L40",
            "NVIDIA A10",
            "NVIDIA A4000",
            "NVIDIA GeForce RTX 3090 Ti",
            "NVIDIA GeForce RTX 4090 D",
            "NVIDIA GeForce RTX 4090 Laptop GPU",
            "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
            "Tesla T4",
            "Apple M3 Max",
        ] {
            assert_eq!(DevicePeak::of_name(name), None, "{name}");
        }
    }

    #[test]
    fn every_peak_in_bf16_has_a_name() {
        for peak in DevicePeak::ALL {
            let is_named = NAMES.iter().any(|(_, named)| named == peak);
            assert_eq!(is_named, peak.name().ends_with("-bf16"), "{}", peak.name());
        }
    }
}
