//! What devices could do at best, for MFU.

use serde::{Deserialize, Serialize};

macro_rules! peaks {
    ($($(#[$doc:meta])* $name:ident $text:literal $flops:literal),+ $(,)?) => {
        /// A device and a precision whose peak is known: dense matrix products, with sums in f32.
        ///
        /// After the vendors' papers that the source names; those that give figures with sparsity only are halved.
        /// The figures have not been held against the papers yet: for a published MFU, look yours up and set
        /// `peak_flops`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
        #[non_exhaustive]
        pub enum DevicePeak {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl DevicePeak {
            /// All that are known.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name that a configuration uses, such as `h100-bf16`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// Operations per second.
            #[must_use]
            pub fn flops(self) -> f64 {
                match self { $(Self::$name => $flops),+ }
            }
        }
    };
}

peaks! {
    // NVIDIA B200: "Blackwell Architecture Technical Brief", 4.5 PFLOPS with sparsity.
    /// `b200-bf16`
    B200Bf16 "b200-bf16" 2.25e15,
    // NVIDIA H200: data sheet, 1,979 TFLOPS bf16 and 989 tf32 with sparsity; the chip is that of the H100 SXM.
    /// `h200-bf16`
    H200Bf16 "h200-bf16" 989.4e12,
    // NVIDIA H100: "H100 Tensor Core GPU Architecture" white paper, table 2, without sparsity.
    /// `h100-bf16`: SXM
    H100Bf16 "h100-bf16" 989.4e12,
    /// `h100-tf32`: SXM
    H100Tf32 "h100-tf32" 494.7e12,
    /// `h100-fp32`: SXM, without tensor cores
    H100Fp32 "h100-fp32" 66.9e12,
    /// `h100-pcie-bf16`
    H100PcieBf16 "h100-pcie-bf16" 756.0e12,
    // NVIDIA A100: "A100 Tensor Core GPU Architecture" white paper, table 1.
    /// `a100-bf16`
    A100Bf16 "a100-bf16" 312.0e12,
    /// `a100-tf32`
    A100Tf32 "a100-tf32" 156.0e12,
    /// `a100-fp32`: without tensor cores
    A100Fp32 "a100-fp32" 19.5e12,
    // NVIDIA L40S and L4: data sheets, 733 and 242 TFLOPS with sparsity.
    /// `l40s-bf16`
    L40sBf16 "l40s-bf16" 362.0e12,
    /// `l4-bf16`
    L4Bf16 "l4-bf16" 121.0e12,
    // NVIDIA GeForce: "Ada GPU Architecture" and "GA102" white papers, bf16 with f32 accumulation.
    /// `rtx4090-bf16`
    Rtx4090Bf16 "rtx4090-bf16" 165.2e12,
    /// `rtx3090-bf16`
    Rtx3090Bf16 "rtx3090-bf16" 71.0e12,
    // AMD: data sheet of the Instinct MI300X.
    /// `mi300x-bf16`
    Mi300xBf16 "mi300x-bf16" 1307.4e12,
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

    #[test]
    fn an_unknown_device_is_told_the_known_ones() {
        let error =
            serde_json::from_value::<DevicePeak>("h10-bf16".into()).expect_err("a typing error");
        assert!(error.to_string().contains("`h100-bf16`"), "{error}");
    }
}
