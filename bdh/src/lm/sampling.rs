//! Sampling of the next token from logits.

use crate::text::Sampling;

/// Returns the id that a draw in `[0, 1)` falls on.
pub(super) fn pick(logits: &[f32], sampling: &Sampling, draw: f64) -> i32 {
    let ranked = ranked(logits, sampling.top_k);
    let best = ranked[0];
    if sampling.temperature <= 0.0 {
        return best as i32;
    }
    let weights = weights(logits, &ranked, sampling);
    let mut left = draw * weights.iter().sum::<f64>();
    for (id, weight) in ranked.iter().zip(weights) {
        left -= weight;
        if left < 0.0 {
            return *id as i32;
        }
    }
    best as i32 // rounding, or logits that are not finite
}

/// Returns the ids by descending logit, cut to the top k.
fn ranked(logits: &[f32], top_k: Option<usize>) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    ids.truncate(top_k.unwrap_or(logits.len()).max(1));
    ids
}

/// Returns the unnormalized probabilities of the ranked ids, cut to the top p.
fn weights(logits: &[f32], ranked: &[usize], sampling: &Sampling) -> Vec<f64> {
    let best = logits[ranked[0]];
    let mut weights = Vec::with_capacity(ranked.len());
    for id in ranked {
        // Relative to the best logit, so that `exp` cannot overflow.
        weights.push((f64::from(logits[*id] - best) / sampling.temperature).exp());
    }
    if let Some(share) = sampling.top_p {
        weights.truncate(nucleus_len(&weights, share));
    }
    weights
}

/// Returns the number of weights, in descending order, that reach a share of their sum; at least one.
fn nucleus_len(descending: &[f64], share: f64) -> usize {
    let enough = share * descending.iter().sum::<f64>();
    let (mut reached, mut len) = (descending[0], 1);
    while reached < enough && len < descending.len() {
        reached += descending[len];
        len += 1;
    }
    len
}

/// Returns the logarithm of an id's probability, in nats, under the model's own distribution.
pub(super) fn log_prob(logits: &[f32], id: i32) -> f64 {
    let peak = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let mut sum = 0.0;
    for logit in logits {
        sum += (f64::from(*logit) - peak).exp();
    }
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
    fn draws_pick_tokens_in_proportion_to_their_probability() {
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
    fn top_p_keeps_the_fewest_tokens_that_reach_the_share() {
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
    fn top_p_keeps_the_proportions_of_the_tokens() {
        let how = Sampling {
            top_p: Some(0.8),
            ..warm()
        };
        let picks = [0.77, 0.78].map(|draw| pick(&logits(), &how, draw)); // 0.7 / 0.9 is 0.777…
        assert_eq!(picks, [0, 1]);
    }

    #[test]
    fn top_p_applies_after_temperature_and_top_k() {
        let of_two = Sampling {
            top_k: Some(2),
            top_p: Some(0.75),
            ..warm()
        };
        assert_eq!(pick(&logits(), &of_two, 0.9999), 0); // 0.7 / 0.9 reaches 0.75 alone
        let flat = Sampling {
            temperature: 1e9,
            top_p: Some(0.6),
            ..warm()
        };
        assert_eq!(pick(&logits(), &flat, 0.9999), 1); // a third each: two are needed
    }

    #[test]
    fn non_finite_logits_give_an_id() {
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
    fn log_probabilities_are_a_softmax_and_stay_finite() {
        for (id, expected) in [(0, 0.7_f64), (1, 0.2), (2, 0.1)] {
            assert!((log_prob(&logits(), id) - expected.ln()).abs() < 1e-6);
        }
        assert_eq!(log_prob(&[1e30, 0.0], 0), 0.0);
    }
}
