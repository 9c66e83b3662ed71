//! Which token comes next: from logits and a draw to an id.

use crate::text::Sampling;

/// Picks the id that a draw in `[0, 1)` falls on.
pub(super) fn pick(logits: &[f32], how: &Sampling, draw: f64) -> i32 {
    let mut ranked: Vec<usize> = (0..logits.len()).collect();
    ranked.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    ranked.truncate(how.top_k.unwrap_or(logits.len()).max(1));
    let best = ranked[0];
    if how.temperature <= 0.0 {
        return best as i32;
    }
    let weight = |id: &usize| (f64::from(logits[*id] - logits[best]) / how.temperature).exp();
    let weights: Vec<f64> = ranked.iter().map(weight).collect();
    let weights = how
        .top_p
        .map_or(&weights[..], |share| nucleus(&weights, share));
    let mut left = draw * weights.iter().sum::<f64>();
    for (id, weight) in ranked.iter().zip(weights) {
        left -= weight;
        if left < 0.0 {
            return *id as i32;
        }
    }
    best as i32
}

/// The fewest of the largest weights that hold a share of all, and one at least.
fn nucleus(descending: &[f64], share: f64) -> &[f64] {
    let enough = share * descending.iter().sum::<f64>();
    let held = descending.iter().scan(0.0, |held, weight| {
        *held += weight;
        Some(*held)
    });
    let count = held.take_while(|held| *held < enough).count() + 1; // the one that completes it too
    &descending[..count.min(descending.len())]
}

/// The logarithm of an id's probability, in nats, under the model's own distribution.
pub(super) fn log_prob(logits: &[f32], id: i32) -> f64 {
    let peak = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|logit| (f64::from(*logit) - peak).exp())
        .sum();
    f64::from(logits[id as usize]) - peak - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> [f32; 3] {
        [0.7_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()]
    }

    fn warm() -> Sampling {
        Sampling {
            temperature: 1.0,
            ..Sampling::default()
        }
    }

    #[test]
    fn a_draw_picks_tokens_in_proportion_to_their_probability() {
        let how = warm();
        let picks = [0.0, 0.69, 0.71, 0.89, 0.91, 0.999].map(|draw| pick(&logits(), &how, draw));
        assert_eq!(picks, [0, 0, 1, 1, 2, 2]);
        let how = Sampling {
            top_k: Some(2),
            ..how
        };
        assert_eq!(pick(&logits(), &how, 0.999), 1);
        assert_eq!(pick(&logits(), &Sampling::default(), 0.999), 0);
    }

    #[test]
    fn top_p_keeps_the_fewest_tokens_that_hold_the_share() {
        let least = |top_p| {
            pick(
                &logits(),
                &Sampling {
                    top_p: Some(top_p),
                    ..warm()
                },
                0.9999,
            )
        };
        let picks = [0.0, 0.5, 0.69, 0.71, 0.89, 0.91, 1.0].map(least);
        assert_eq!(picks, [0, 0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn what_top_p_keeps_is_sampled_in_the_old_proportions() {
        let how = Sampling {
            top_p: Some(0.8),
            ..warm()
        };
        let picks = [0.77, 0.78].map(|draw| pick(&logits(), &how, draw)); // 0.7 / 0.9 is 0.777…
        assert_eq!(picks, [0, 1]);
    }

    #[test]
    fn top_p_counts_among_the_top_k_and_after_the_temperature() {
        let of_two = Sampling {
            top_k: Some(2),
            top_p: Some(0.75),
            ..warm()
        };
        assert_eq!(pick(&logits(), &of_two, 0.9999), 0); // 0.7 / 0.9 is enough of the two
        let flat = Sampling {
            temperature: 1e9,
            top_p: Some(0.6),
            ..warm()
        };
        assert_eq!(pick(&logits(), &flat, 0.9999), 1); // a third each: two are needed
    }

    #[test]
    fn logits_that_are_not_numbers_still_give_an_id() {
        for strange in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let how = Sampling {
                top_p: Some(0.9),
                ..warm()
            };
            assert!((0..3).contains(&pick(&[strange; 3], &how, 0.5)));
            assert!(log_prob(&[strange; 3], 0).is_nan());
        }
    }

    #[test]
    fn log_probabilities_are_those_of_a_softmax_and_stay_finite() {
        for (id, expected) in [(0, 0.7_f64), (1, 0.2), (2, 0.1)] {
            assert!((log_prob(&logits(), id) - expected.ln()).abs() < 1e-6);
        }
        assert_eq!(log_prob(&[1e30, 0.0], 0), 0.0);
    }
}
