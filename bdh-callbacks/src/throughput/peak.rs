//! Peak performance of devices, for MFU.

use serde::{Deserialize, Serialize};

macro_rules! peaks {
    ($($(#[$doc:meta])* $name:ident $text:literal $flops:literal),+ $(,)?) => {
        /// Device and precision with a known peak, for dense matrix products with sums in f32.
        ///
        /// Peaks of bf16 and tf32 are those of tensor cores, peaks of fp32 those of ordinary cores. Vendors often publish
        /// figures with sparsity, which are twice as high. Peaks of bf16 agree with the tables of nanochat and torchtitan
        /// (`get_peak_flops` of both), so that MFUs can be compared. Peaks of tf32 and fp32 are those of the vendors' data
        /// sheets, as quoted by others. All are at the boost clock and the full power limit. For a card that runs with
        /// less, or one that is missing here, set `peak_flops`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
        #[non_exhaustive]
        pub enum DevicePeak {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl DevicePeak {
            /// All known peaks.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the name in configuration files, such as `h100-bf16`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// Returns the peak in operations per second.
            #[must_use]
            pub fn flops(self) -> f64 {
                match self { $(Self::$name => $flops),+ }
            }
        }
    };
}

peaks! {
    // GB200, B100, H800, A800, A40, A30 and the cards of AMD from MI355X on: `get_peak_flops` of nanochat alone.
    /// `gb200-bf16`, one GPU
    Gb200Bf16 "gb200-bf16" 2.5e15,
    // NVIDIA Blackwell data sheet, HGX B200: 4.5 PFLOPS with sparsity. Its tf32 (2.2) is rounded, its fp32 was 80 and
    // then 75, so both are left out.
    /// `b200-bf16`
    B200Bf16 "b200-bf16" 2.25e15,
    /// `b100-bf16`
    B100Bf16 "b100-bf16" 1.8e15,
    // H200 data sheet, with sparsity: SXM 1,979 TFLOPS, from the same chip as the H100 SXM; NVL 1,671.
    /// `h200-bf16`, SXM
    H200Bf16 "h200-bf16" 989.4e12,
    /// `h200-nvl-bf16`
    H200NvlBf16 "h200-nvl-bf16" 835.5e12,
    // "NVIDIA H100 Tensor Core GPU Architecture" white paper, table 2; NVL: data sheet, 1,671 TFLOPS with sparsity.
    /// `h100-bf16`, SXM
    H100Bf16 "h100-bf16" 989.4e12,
    /// `h100-tf32`, SXM
    H100Tf32 "h100-tf32" 494.7e12,
    /// `h100-fp32`, SXM
    H100Fp32 "h100-fp32" 66.9e12,
    /// `h100-pcie-bf16`
    H100PcieBf16 "h100-pcie-bf16" 756.0e12,
    /// `h100-pcie-tf32`
    H100PcieTf32 "h100-pcie-tf32" 378.0e12,
    /// `h100-pcie-fp32`
    H100PcieFp32 "h100-pcie-fp32" 51.2e12,
    /// `h100-nvl-bf16`, one card
    H100NvlBf16 "h100-nvl-bf16" 835.5e12,
    /// `h800-bf16`
    H800Bf16 "h800-bf16" 756.0e12,
    /// `h800-nvl-bf16`
    H800NvlBf16 "h800-nvl-bf16" 989.4e12,
    // A100 data sheet; SXM and PCIe have the same peaks.
    /// `a100-bf16`
    A100Bf16 "a100-bf16" 312.0e12,
    /// `a100-tf32`
    A100Tf32 "a100-tf32" 156.0e12,
    /// `a100-fp32`
    A100Fp32 "a100-fp32" 19.5e12,
    /// `a800-bf16`
    A800Bf16 "a800-bf16" 312.0e12,
    /// `a40-bf16`
    A40Bf16 "a40-bf16" 149.7e12,
    /// `a30-bf16`
    A30Bf16 "a30-bf16" 165.0e12,
    // L40S and L4 data sheets. The L4's 242 TFLOPS are with sparsity. Sources disagree on its tf32 and fp32.
    /// `l40s-bf16`
    L40sBf16 "l40s-bf16" 362.05e12,
    /// `l40s-tf32`
    L40sTf32 "l40s-tf32" 183.0e12,
    /// `l40s-fp32`
    L40sFp32 "l40s-fp32" 91.6e12,
    /// `l4-bf16`
    L4Bf16 "l4-bf16" 121.0e12,
    // "NVIDIA RTX Blackwell", "Ada" and "Ampere GA102 GPU Architecture" white papers. The advertised figures of GeForce
    // cards are with sums in f16, and twice those with sums in f32.
    /// `rtx5090-bf16`
    Rtx5090Bf16 "rtx5090-bf16" 209.5e12,
    /// `rtx4090-bf16`
    Rtx4090Bf16 "rtx4090-bf16" 165.2e12,
    /// `rtx4090-tf32`
    Rtx4090Tf32 "rtx4090-tf32" 82.6e12,
    /// `rtx4090-fp32`
    Rtx4090Fp32 "rtx4090-fp32" 82.6e12,
    /// `rtx3090-bf16`
    Rtx3090Bf16 "rtx3090-bf16" 71.0e12,
    /// `rtx3090-fp32`
    Rtx3090Fp32 "rtx3090-fp32" 35.6e12,
    // AMD Instinct MI300X data sheet. For its other precisions no second source was found.
    /// `mi300x-bf16`
    Mi300xBf16 "mi300x-bf16" 1307.4e12,
    /// `mi355x-bf16`
    Mi355xBf16 "mi355x-bf16" 2.5e15,
    /// `mi325x-bf16`
    Mi325xBf16 "mi325x-bf16" 1307.4e12,
    /// `mi300a-bf16`
    Mi300aBf16 "mi300a-bf16" 980.6e12,
    /// `mi250x-bf16`
    Mi250xBf16 "mi250x-bf16" 383.0e12,
    /// `mi250-bf16`
    Mi250Bf16 "mi250-bf16" 362.1e12,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peak_is_found_by_its_name() {
        for peak in DevicePeak::ALL {
            let found: DevicePeak =
                serde_json::from_value(peak.name().into()).expect("a known name");
            assert_eq!(found, *peak);
            assert!((1e12..1e16).contains(&peak.flops()), "{}", peak.name());
        }
    }

    /// Expected values: `get_peak_flops` of nanochat, in TFLOPS, so that MFUs can be compared.
    #[test]
    fn bf16_peaks_are_those_of_nanochat() {
        let nanochat = [
            ("b200", 2250.0),
            ("h200-nvl", 836.0),
            ("h200", 989.0),
            ("h100-nvl", 835.0),
            ("h100-pcie", 756.0),
            ("h100", 989.0),
            ("a100", 312.0),
            ("l40s", 362.0),
            ("l4", 121.0),
            ("gb200", 2500.0),
            ("b100", 1800.0),
            ("h800", 756.0),
            ("h800-nvl", 989.0),
            ("a800", 312.0),
            ("a40", 149.7),
            ("a30", 165.0),
            ("mi355x", 2500.0),
            ("mi325x", 1307.4),
            ("mi300x", 1307.4),
            ("mi300a", 980.6),
            ("mi250x", 383.0),
            ("mi250", 362.1),
            ("rtx5090", 209.5),
            ("rtx4090", 165.2),
            ("rtx3090", 71.0),
        ];
        let bf16 = DevicePeak::ALL
            .iter()
            .filter(|peak| peak.name().ends_with("-bf16"));
        assert_eq!(bf16.count(), nanochat.len());
        for (name, teraflops) in nanochat {
            let name = format!("{name}-bf16");
            let peak: DevicePeak = serde_json::from_value(name.clone().into()).expect("known");
            assert!(
                (peak.flops() / 1e12 / teraflops - 1.0).abs() < 1e-3,
                "{name}"
            );
        }
    }

    /// Tensor cores are half as fast in tf32 as in bf16.
    #[test]
    fn tf32_peaks_are_half_of_bf16_peaks() {
        let of = |name: String| DevicePeak::ALL.iter().find(|peak| peak.name() == name);
        for peak in DevicePeak::ALL
            .iter()
            .filter(|peak| peak.name().ends_with("-tf32"))
        {
            let bf16 = of(peak.name().replace("tf32", "bf16")).expect("the same device's");
            assert!(
                (2.0 * peak.flops() / bf16.flops() - 1.0).abs() < 0.02,
                "{}",
                peak.name()
            );
        }
    }

    #[test]
    fn unknown_device_is_refused_with_the_known_ones() {
        let error =
            serde_json::from_value::<DevicePeak>("h10-bf16".into()).expect_err("a typing error");
        assert!(error.to_string().contains("`h100-bf16`"), "{error}");
    }
}
