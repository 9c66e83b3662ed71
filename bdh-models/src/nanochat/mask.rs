//! Which tokens a query may see, of the two windows that layers have.

use super::config::GptConfig;
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::Device;
use bdh::ops::Mask;

/// The masks of the two windows; not parameters, and in no checkpoint.
#[derive(Module, Debug)]
pub(super) struct Masks {
    /// Every token up to the query's own.
    long: Mask,
    /// The short window, where a layer has one that hides anything.
    short: Option<Mask>,
}

impl Masks {
    /// The masks that the layers of `config` need.
    pub(super) fn new(config: &GptConfig, device: &Device) -> Self {
        let len = config.sequence_len;
        let needs_short = (0..config.n_layer).any(|layer| config.window(layer) < len);
        Self {
            long: Mask::causal(len, device),
            short: needs_short.then(|| Mask::window(len, config.short_window(), device)),
        }
    }

    /// The mask of a layer that sees `window` tokens back.
    pub(super) fn of(&self, window: usize) -> &Mask {
        match &self.short {
            Some(short) if window < self.long.back() => short,
            _ => &self.long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_window_that_hides_nothing_has_no_mask_of_its_own() {
        let config = GptConfig {
            sequence_len: 100,
            ..GptConfig::default()
        };
        assert!(Masks::new(&config, &Device::flex()).short.is_none());
        let config = GptConfig {
            sequence_len: 130,
            ..GptConfig::default()
        };
        let masks = Masks::new(&config, &Device::flex());
        assert_eq!(masks.of(128).back(), 128);
        assert_eq!(masks.of(130).back(), 130);
    }
}
