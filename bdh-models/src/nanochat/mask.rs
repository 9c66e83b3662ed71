//! Attention masks of the short and the long window.

use super::config::GptConfig;
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::Device;
use bdh::ops::Mask;

/// Masks of the two windows. They are not parameters and not in checkpoints.
#[derive(Module, Debug)]
pub(super) struct Masks {
    /// Mask of the long window: all tokens up to the query's own.
    long: Mask,
    /// Mask of the short window, if a layer has one that hides anything.
    short: Option<Mask>,
}

impl Masks {
    /// Creates the masks that the layers of `config` need.
    pub(super) fn new(config: &GptConfig, device: &Device) -> Self {
        let len = config.sequence_len;
        let needs_short = (0..config.n_layer).any(|layer| config.window(layer) < len);
        Self {
            long: Mask::causal(len, device),
            short: needs_short.then(|| Mask::window(len, config.short_window(), device)),
        }
    }

    /// Returns the mask of a layer that sees `window` earlier tokens.
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
    fn short_window_that_hides_nothing_has_no_mask() {
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
