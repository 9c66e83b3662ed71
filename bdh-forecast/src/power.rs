//! Power laws through one curve: `L(t) = L0 + A t^-α`.
//!
//! They ignore the learning rate. Where it decays towards the end they are biased high: a "no-anneal" extrapolation.

use super::no_prediction::NoPrediction;

/// The predicted end of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extrapolated {
    pub(super) value: f64,
    /// Whether no law fits, so that the value is the last one.
    pub(super) is_last_value: bool,
}

/// Predicts by the law through three evaluations whose steps double, such as 250, 500 and 1000: Aitken's Δ² process.
///
/// With `d1 = v1 - v2`, `d2 = v2 - v3` and `r = d1 / d2 = 2^α`, `L0 = v3 - d2 / (r - 1)`. There is no such law when
/// `d2 <= 0` or `r <= 1`; the prediction is then the last value. Uses the latest three such steps.
pub(super) fn closed_form(
    metric: &[(u64, f64)],
    horizon: u64,
) -> Result<Extrapolated, NoPrediction> {
    let Some((step, [first, second, third])) = latest_doubling(metric) else {
        return Err(NoPrediction::NoDoublingSteps);
    };
    let (before, after) = (first - second, second - third);
    let ratio = before / after;
    if after <= 0.0 || ratio <= 1.0 || !ratio.is_finite() {
        return Ok(Extrapolated {
            value: metric.last().map_or(third, |(_, value)| *value),
            is_last_value: true,
        });
    }
    let limit = third - after / (ratio - 1.0);
    let decay = (step as f64 / horizon as f64).powf(ratio.log2());
    Ok(Extrapolated {
        value: limit + (third - limit) * decay,
        is_last_value: false,
    })
}

/// Returns the latest step `t` evaluated at `t / 4`, `t / 2` and `t`, and the three values.
fn latest_doubling(metric: &[(u64, f64)]) -> Option<(u64, [f64; 3])> {
    for (step, last) in metric.iter().rev() {
        if *step == 0 || !step.is_multiple_of(4) {
            continue;
        }
        if let (Some(first), Some(second)) =
            (value_at(metric, step / 4), value_at(metric, step / 2))
        {
            return Some((*step, [first, second, *last]));
        }
    }
    None
}

fn value_at(metric: &[(u64, f64)], step: u64) -> Option<f64> {
    let index = metric.binary_search_by_key(&step, |(at, _)| *at).ok()?;
    Some(metric[index].1)
}

/// Bounds of the exponent.
const EXPONENTS: (f64, f64) = (0.05, 2.0);

/// Intervals of the grid of exponents that is tried first, evenly spaced on a logarithmic axis.
const GRID: i32 = 20;
/// Number of times that the spacing around the best exponent is halved.
const HALVINGS: usize = 12;

/// Least number of evaluations: three parameters, and one to check the fit.
const FEWEST: usize = 4;

/// Number of fits, each but the first with weights from the residuals of the one before.
const ROUNDS: usize = 4;

/// Predicts by the law that fits the curve best when outliers count less (Huber's loss).
///
/// The exponent comes from a grid that is refined, the rest in closed form: variable projection. Bounds: the law falls
/// (A ≥ 0), and where no value is negative, neither is its limit. The first eighth of the steps is left out where
/// enough remain, because curves begin with another law. Sources: P. Huber, "Robust estimation of a location
/// parameter", 1964; L. Choshen et al., "A hitchhiker's guide to scaling law estimation", 2025 (arXiv:2410.11840).
pub(super) fn robust(metric: &[(u64, f64)], horizon: u64) -> Result<f64, NoPrediction> {
    let points = late(metric);
    if points.len() < FEWEST {
        return Err(NoPrediction::FewEvaluations { needed: FEWEST });
    }
    let curve = Curve::of(points, horizon);
    let mut best = curve.best_fit(&vec![1.0; points.len()]);
    for _ in 1..ROUNDS {
        best = curve.best_fit(&huber_weights(&best.residuals));
    }
    if best.value.is_finite() {
        Ok(best.value)
    } else {
        Err(NoPrediction::NoFit)
    }
}

/// Evaluations to fit.
#[derive(Debug, Default)]
struct Curve {
    /// Steps as shares of the horizon.
    shares: Vec<f64>,
    values: Vec<f64>,
}

/// A law with a given exponent.
#[derive(Debug)]
struct Fit {
    /// Weighted sum of squared residuals.
    error: f64,
    exponent: f64,
    /// Value at the horizon.
    value: f64,
    residuals: Vec<f64>,
}

impl Curve {
    fn of(points: &[(u64, f64)], horizon: u64) -> Self {
        let mut curve = Self::default();
        for (step, value) in points {
            // As shares of the horizon: there the power is 1, and the prediction the sum of both coefficients.
            curve.shares.push(*step as f64 / horizon as f64);
            curve.values.push(*value);
        }
        curve
    }

    /// Finds the exponent with the least error.
    fn best_fit(&self, weights: &[f64]) -> Fit {
        let (low, high) = EXPONENTS;
        let mut factor = (high / low).powf(1.0 / f64::from(GRID));
        let mut best = self.fit(low, weights);
        for index in 1..=GRID {
            best = best.or_better(self.fit(low * factor.powi(index), weights));
        }
        for _ in 0..HALVINGS {
            factor = factor.sqrt();
            for exponent in [best.exponent / factor, best.exponent * factor] {
                best = best.or_better(self.fit(exponent.clamp(low, high), weights));
            }
        }
        best
    }

    fn fit(&self, exponent: f64, weights: &[f64]) -> Fit {
        let powers: Vec<f64> = self.shares.iter().map(|s| s.powf(-exponent)).collect();
        let line = Line::falling(&powers, &self.values, weights);
        let residuals = line.residuals(&powers, &self.values);
        let mut error = 0.0;
        for (residual, weight) in residuals.iter().zip(weights) {
            error += weight * residual * residual;
        }
        Fit {
            error,
            exponent,
            value: line.limit + line.slope,
            residuals,
        }
    }
}

impl Fit {
    fn or_better(self, other: Self) -> Self {
        if other.error < self.error {
            other
        } else {
            self
        }
    }
}

/// Returns the evaluations after the first eighth of the steps if they are enough, otherwise those after step 0.
pub(super) fn late(metric: &[(u64, f64)]) -> &[(u64, f64)] {
    let last = metric.last().map_or(0, |(step, _)| *step);
    let late = after(metric, last / 8);
    if late.len() < FEWEST {
        return after(metric, 0);
    }
    late
}

fn after(metric: &[(u64, f64)], step: u64) -> &[(u64, f64)] {
    &metric[metric.partition_point(|(at, _)| *at <= step)..]
}

/// Returns Huber's weights: 1 up to 1.345 standard deviations (95 % efficiency for normal noise), less beyond.
fn huber_weights(residuals: &[f64]) -> Vec<f64> {
    let mut sizes: Vec<f64> = residuals.iter().map(|x| x.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    // The standard deviation of normal noise is 1.4826 times its median absolute value.
    let limit = 1.345 * 1.4826 * sizes[sizes.len() / 2];
    let mut weights = Vec::with_capacity(residuals.len());
    for residual in residuals {
        let size = residual.abs();
        weights.push(if size <= limit { 1.0 } else { limit / size });
    }
    weights
}

/// The line `limit + slope * power`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) limit: f64,
    pub(super) slope: f64,
}

impl Line {
    /// Fits by weighted least squares, without a negative slope, nor a negative limit where no value is negative.
    pub(super) fn falling(powers: &[f64], values: &[f64], weights: &[f64]) -> Self {
        let total = weighted_sum(weights, |_| 1.0);
        let x = weighted_sum(weights, |i| powers[i]) / total;
        let y = weighted_sum(weights, |i| values[i]) / total;
        let covariance = weighted_sum(weights, |i| (powers[i] - x) * (values[i] - y));
        let variance = weighted_sum(weights, |i| (powers[i] - x).powi(2));
        let slope = if variance > 0.0 {
            (covariance / variance).max(0.0)
        } else {
            0.0
        };
        let limit = y - slope * x;
        if limit < 0.0 && values.iter().all(|value| *value >= 0.0) {
            return Self::without_limit(powers, values, weights);
        }
        Self { limit, slope }
    }

    /// Fits the slope alone, with a limit of 0.
    fn without_limit(powers: &[f64], values: &[f64], weights: &[f64]) -> Self {
        let products = weighted_sum(weights, |i| powers[i] * values[i]);
        let squares = weighted_sum(weights, |i| powers[i].powi(2));
        Self {
            limit: 0.0,
            slope: products / squares,
        }
    }

    fn residuals(self, powers: &[f64], values: &[f64]) -> Vec<f64> {
        powers
            .iter()
            .zip(values)
            .map(|(power, value)| value - self.limit - self.slope * power)
            .collect()
    }
}

fn weighted_sum(weights: &[f64], term: impl Fn(usize) -> f64) -> f64 {
    weights.iter().enumerate().map(|(i, w)| w * term(i)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(steps: impl IntoIterator<Item = u64>, exponent: f64) -> Vec<(u64, f64)> {
        let value = |step: u64| (step, 2.5 + 30.0 * (step as f64).powf(-exponent));
        steps.into_iter().map(value).collect()
    }

    #[test]
    fn three_doubling_steps_determine_the_law() {
        for exponent in [0.1, 0.35, 0.5, 1.0, 1.7] {
            let metric = law([250, 500, 1000], exponent);
            let truth = law([2_520], exponent)[0].1;
            let found = closed_form(&metric, 2_520).expect("three points");
            assert!((found.value - truth).abs() < 1e-9, "{found:?} and {truth}");
            assert!(!found.is_last_value);
        }
        // α = 1, L0 = 1, A = 1000, by hand: d1 = 2, d2 = 1, r = 2, L0 = 2 - 1, and 1 + 1 · 1000 / 4000.
        let metric = [(250, 5.0), (500, 3.0), (1000, 2.0)];
        assert_eq!(
            closed_form(&metric, 4_000).map(|found| found.value),
            Ok(1.25)
        );
    }

    #[test]
    fn closed_form_without_a_law_is_the_last_value() {
        for values in [
            [3.0, 2.0, 1.0],
            [3.0, 2.0, 2.0],
            [3.0, 2.0, 2.5],
            [3.0, 2.9, 2.0],
        ] {
            let metric: Vec<_> = [250, 500, 1000].into_iter().zip(values).collect();
            let last = Extrapolated {
                value: values[2],
                is_last_value: true,
            };
            assert_eq!(closed_form(&metric, 2_000), Ok(last), "{values:?}");
        }
    }

    #[test]
    fn closed_form_needs_doubling_steps() {
        let missing = Err(NoPrediction::NoDoublingSteps);
        assert_eq!(closed_form(&law([100, 200, 300], 0.5), 1_000), missing);
        assert_eq!(closed_form(&[(0, 1.0), (0, 1.0)], 1_000), missing);
        let all = law((0..=14).map(|k| 100 * k), 0.5); // 1200, 600, 300 are the latest
        let three = law([300, 600, 1200], 0.5);
        assert_eq!(closed_form(&all, 9_000), closed_form(&three, 9_000));
    }

    #[test]
    fn robust_law_resists_outliers() {
        let mut metric = law((1..=20).map(|k| 50 * k), 0.5);
        let truth = law([5_000], 0.5)[0].1;
        let clean = robust(&metric, 5_000).expect("twenty points");
        assert!((clean - truth).abs() < 1e-4, "{clean} and {truth}");
        metric[9].1 += 1.0;
        metric[15].1 += 2.0;
        let spiked = robust(&metric, 5_000).expect("twenty points");
        assert!((spiked - truth).abs() < 1e-3, "{spiked} and {truth}");
    }

    #[test]
    fn robust_law_respects_its_bounds() {
        let rising: Vec<_> = (1..=8).map(|k| (k * 100, k as f64)).collect();
        let found = robust(&rising, 1_000).expect("eight points");
        assert!((1.0..=8.0).contains(&found), "no law rises: {found}");
        let steep: Vec<_> = (1..=8).map(|k| (k * 100, 1.0 - k as f64 / 8.5)).collect();
        let found = robust(&steep, 100_000).expect("eight points");
        assert!(found >= 0.0, "a loss is not negative: {found}");
    }
}
