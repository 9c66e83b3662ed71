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
    /// Mask of the short window, if a layer has one.
    short: Option<Mask>,
}

impl Masks {
    /// Creates the masks that the layers of `config` need.
    pub(super) fn new(config: &GptConfig, device: &Device) -> Self {
        let (len, short) = (config.sequence_len, config.short_window());
        let has_short = (0..config.n_layer).any(|layer| config.window(layer) == short);
        let long = Mask::causal(len, device);
        let short = match has_short {
            false => None,
            true if short < len => Some(Mask::window(len, short, device)),
            // Hides nothing of a training sequence, but of longer inputs something else than the long one.
            true => Some(long.clone().with_back(short)),
        };
        Self { long, short }
    }

    /// Returns the mask of a layer that sees `window` earlier tokens.
    pub(super) fn of(&self, window: usize) -> &Mask {
        match &self.short {
            Some(short) if window == short.back() => short,
            _ => &self.long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_window_may_be_wider_than_the_sequence() {
        let config = GptConfig {
            sequence_len: 100,
            ..GptConfig::default()
        };
        let masks = Masks::new(&config, &Device::flex());
        assert_eq!((masks.of(128).back(), masks.of(100).back()), (128, 100));
        let config = GptConfig {
            sequence_len: 130,
            ..GptConfig::default()
        };
        let masks = Masks::new(&config, &Device::flex());
        assert_eq!(masks.of(128).back(), 128);
        assert_eq!(masks.of(130).back(), 130);
    }
}
