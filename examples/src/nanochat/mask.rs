//! Which tokens a query may see: added to the scores, computed once for the longest input.

use super::config::GptConfig;
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Tensor, TensorData};

/// Added to a score, it leaves an exponential of 0; a finite number would underflow, which is slow on a CPU.
const HIDDEN: f32 = f32::NEG_INFINITY;

/// The masks of the two windows; not parameters, and in no checkpoint.
#[derive(Module, Debug)]
pub(super) struct Masks {
    /// `[1, 1, seq_len, seq_len]`: every token up to the query's own.
    long: Tensor<4>,
    /// The same for the short window, where a layer has one that hides anything.
    short: Option<Tensor<4>>,
}

impl Masks {
    /// The masks that the layers of `config` need.
    pub(super) fn new(config: &GptConfig, device: &Device) -> Self {
        let len = config.sequence_len;
        let needs_short = (0..config.n_layer).any(|layer| config.window(layer) < len);
        Self {
            long: within(len, len, device),
            short: needs_short.then(|| within(len, config.short_window(), device)),
        }
    }

    /// The masks of the first `seq_len` positions.
    pub(super) fn narrow(&self, seq_len: usize) -> Self {
        let narrow = |mask: &Tensor<4>| mask.clone().narrow(2, 0, seq_len).narrow(3, 0, seq_len);
        Self { long: narrow(&self.long), short: self.short.as_ref().map(narrow) }
    }

    /// The mask of a layer that sees `window` tokens back.
    pub(super) fn of(&self, window: usize) -> Tensor<4> {
        let [_, _, _, len] = self.long.dims();
        match &self.short {
            Some(short) if window < len => short.clone(),
            _ => self.long.clone(),
        }
    }
}

/// 0 where a query sees a key, [`HIDDEN`] elsewhere: `[1, 1, len, len]`.
fn within(len: usize, window: usize, device: &Device) -> Tensor<4> {
    let sees = |query: usize, key: usize| key <= query && query - key <= window;
    let rows = (0..len)
        .flat_map(|query| (0..len).map(move |key| if sees(query, key) { 0.0 } else { HIDDEN }));
    Tensor::from_data(TensorData::new(rows.collect(), [1, 1, len, len]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mask: Tensor<4>) -> String {
        let [_, _, len, _] = mask.dims();
        let values =
            mask.into_data().try_to_vec::<f32>().expect("a float tensor holds f32 on the CPU");
        let rows = values.chunks(len);
        let row = |row: &[f32]| {
            row.iter().map(|&value| if value == 0.0 { 'x' } else { '.' }).collect::<String>()
        };
        rows.map(row).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_window_sees_itself_and_the_tokens_before() {
        let device = Device::flex();
        assert_eq!(seen(within(4, 4, &device)), "x... xx.. xxx. xxxx");
        assert_eq!(seen(within(4, 1, &device)), "x... xx.. .xx. ..xx");
    }

    #[test]
    fn a_short_window_that_hides_nothing_has_no_mask_of_its_own() {
        let config = GptConfig { sequence_len: 100, ..GptConfig::default() };
        assert!(Masks::new(&config, &Device::flex()).short.is_none());
        let config = GptConfig { sequence_len: 130, ..GptConfig::default() };
        let masks = Masks::new(&config, &Device::flex());
        assert!(masks.short.is_some());
        assert_eq!(seen(masks.narrow(3).of(128)), "x.. xx. xxx");
    }
}
