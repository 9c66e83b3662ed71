//! Power laws through one curve: `L(t) = L0 + A t^-α`.
//!
//! They know nothing of the learning rate. Where it falls towards the end they are biased high: a "no-anneal"
//! extrapolation.

use super::silence::Silence;

/// Where a curve is said to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extrapolated {
    pub(super) value: f64,
    /// There is no law, and this is the last value instead.
    pub(super) is_last_value: bool,
}

/// The law through three points whose steps double, such as 250, 500 and 1000: Aitken's Δ² process.
///
/// With `d1 = v1 - v2`, `d2 = v2 - v3` and `r = d1 / d2 = 2^α`, `L0 = v3 - d2 / (r - 1)`. There is no such law when
/// `d2 <= 0` or `r <= 1`; then it is the last value. The latest three such steps that were evaluated are taken.
pub(super) fn closed_form(metric: &[(u64, f64)], horizon: u64) -> Result<Extrapolated, Silence> {
    let at = |step: u64| {
        let found = metric.binary_search_by_key(&step, |(at, _)| *at);
        found.ok().map(|index| metric[index].1)
    };
    let doubling = |(step, last): &(u64, f64)| {
        let apart = *step > 0 && step % 4 == 0;
        apart
            .then(|| Some((*step, at(step / 4)?, at(step / 2)?, *last)))
            .flatten()
    };
    let (step, first, second, third) = metric
        .iter()
        .rev()
        .find_map(doubling)
        .ok_or(Silence::NoDoublingSteps)?;
    let (before, after) = (first - second, second - third);
    let ratio = before / after;
    if after <= 0.0 || ratio <= 1.0 || !ratio.is_finite() {
        let value = metric.last().map_or(third, |(_, value)| *value);
        return Ok(Extrapolated {
            value,
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

/// Bounds of the exponent.
const EXPONENTS: (f64, f64) = (0.05, 2.0);

/// Exponents that are tried first, evenly spaced on a logarithmic axis; how often the space around the best is halved.
const GRID: i32 = 20;
const HALVINGS: usize = 12;

/// Evaluations that three parameters take, and one to see whether they fit.
const FEWEST: usize = 4;

/// How often the scale of the residuals is taken anew, and points weighed by it.
const ROUNDS: usize = 4;

/// The law that fits the curve best when points far off count less (Huber's loss).
///
/// The exponent comes from a grid that is refined, the rest in closed form: variable projection. Bounds: the law falls (A ≥ 0), and
/// where no value is negative, neither is its limit. The first eighth of the steps is left out where enough remain:
/// curves begin with another law. Sources: P. Huber, "Robust estimation of a location parameter", 1964; L. Choshen et
/// al., "A hitchhiker's guide to scaling law estimation", 2025 (arXiv:2410.11840).
pub(super) fn robust(metric: &[(u64, f64)], horizon: u64) -> Result<f64, Silence> {
    let points = late(metric);
    if points.len() < FEWEST {
        return Err(Silence::FewEvaluations { needed: FEWEST });
    }
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let fit = |exponent: f64, weights: &[f64]| {
        // Steps as shares of the horizon: there the power is 1, and the prediction the sum of both.
        let power = |step: u64| (step as f64 / horizon as f64).powf(-exponent);
        let powers: Vec<f64> = points.iter().map(|(step, _)| power(*step)).collect();
        let line = Line::falling(&powers, &values, weights);
        let residuals = line.residuals(&powers, &values);
        let error = residuals
            .iter()
            .zip(weights)
            .map(|(x, w)| w * x * x)
            .sum::<f64>();
        Fit {
            error,
            exponent,
            value: line.limit + line.slope,
            residuals,
        }
    };
    let mut weights = vec![1.0; points.len()];
    let mut best = least(&|exponent| fit(exponent, &weights));
    for _ in 1..ROUNDS {
        weights = huber(&best.residuals);
        best = least(&|exponent| fit(exponent, &weights));
    }
    best.value
        .is_finite()
        .then_some(best.value)
        .ok_or(Silence::NoFit)
}

/// A law with a given exponent.
struct Fit {
    error: f64,
    exponent: f64,
    value: f64,
    residuals: Vec<f64>,
}

/// The exponent with the least error.
fn least(fit: &dyn Fn(f64) -> Fit) -> Fit {
    let (low, high) = EXPONENTS;
    let mut factor = (high / low).powf(1.0 / f64::from(GRID));
    let better = |best: Fit, other: Fit| {
        if other.error < best.error {
            other
        } else {
            best
        }
    };
    let grid = (1..=GRID).map(|index| fit(low * factor.powi(index)));
    let mut best = grid.fold(fit(low), better);
    for _ in 0..HALVINGS {
        factor = factor.sqrt();
        let around = [best.exponent / factor, best.exponent * factor];
        best = around
            .into_iter()
            .map(|exponent| fit(exponent.clamp(low, high)))
            .fold(best, better);
    }
    best
}

/// The evaluations after the first eighth of those steps, if they are enough; at least those after step 0.
pub(super) fn late(metric: &[(u64, f64)]) -> &[(u64, f64)] {
    let last = metric.last().map_or(0, |(step, _)| *step);
    let after = |step: u64| &metric[metric.partition_point(|(at, _)| *at <= step)..];
    let late = after(last / 8);
    if late.len() < FEWEST { after(0) } else { late }
}

/// How much each point counts: less, the farther it is beyond 1.345 standard deviations.
fn huber(residuals: &[f64]) -> Vec<f64> {
    let mut sizes: Vec<f64> = residuals.iter().map(|x| x.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    // Of normal noise, the standard deviation is 1.4826 times the median size.
    let limit = 1.345 * 1.4826 * sizes[sizes.len() / 2];
    let weight = |x: &f64| {
        if x.abs() <= limit {
            1.0
        } else {
            limit / x.abs()
        }
    };
    residuals.iter().map(weight).collect()
}

/// `limit + slope * power`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) limit: f64,
    pub(super) slope: f64,
}

impl Line {
    /// The best by weighted least squares whose slope is not negative, nor its limit where no value is.
    pub(super) fn falling(powers: &[f64], values: &[f64], weights: &[f64]) -> Self {
        let sum = |of: &dyn Fn(usize) -> f64| -> f64 {
            weights.iter().enumerate().map(|(i, w)| w * of(i)).sum()
        };
        let total = sum(&|_| 1.0);
        let (x, y) = (sum(&|i| powers[i]) / total, sum(&|i| values[i]) / total);
        let covariance = sum(&|i| (powers[i] - x) * (values[i] - y));
        let variance = sum(&|i| (powers[i] - x).powi(2));
        let slope = if variance > 0.0 {
            (covariance / variance).max(0.0)
        } else {
            0.0
        };
        let limit = y - slope * x;
        if limit < 0.0 && values.iter().all(|value| *value >= 0.0) {
            let slope = sum(&|i| powers[i] * values[i]) / sum(&|i| powers[i].powi(2));
            return Self { limit: 0.0, slope };
        }
        Self { limit, slope }
    }

    fn residuals(self, powers: &[f64], values: &[f64]) -> Vec<f64> {
        let residual = |(power, value): (&f64, &f64)| value - self.limit - self.slope * power;
        powers.iter().zip(values).map(residual).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(steps: impl IntoIterator<Item = u64>, exponent: f64) -> Vec<(u64, f64)> {
        let value = |step: u64| (step, 2.5 + 30.0 * (step as f64).powf(-exponent));
        steps.into_iter().map(value).collect()
    }

    #[test]
    fn three_doubling_steps_give_the_law_in_closed_form() {
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
    fn without_a_law_the_closed_form_is_the_last_value() {
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
    fn the_closed_form_needs_steps_that_double() {
        let silent = Err(Silence::NoDoublingSteps);
        assert_eq!(closed_form(&law([100, 200, 300], 0.5), 1_000), silent);
        assert_eq!(closed_form(&[(0, 1.0), (0, 1.0)], 1_000), silent);
        let all = law((0..=14).map(|k| 100 * k), 0.5); // 1200, 600, 300 are the latest
        let three = law([300, 600, 1200], 0.5);
        assert_eq!(closed_form(&all, 9_000), closed_form(&three, 9_000));
    }

    #[test]
    fn the_robust_law_finds_the_end_in_spite_of_outliers() {
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
    fn the_robust_law_keeps_its_bounds() {
        let rising: Vec<_> = (1..=8).map(|k| (k * 100, k as f64)).collect();
        let found = robust(&rising, 1_000).expect("eight points");
        assert!((1.0..=8.0).contains(&found), "no law rises: {found}");
        let steep: Vec<_> = (1..=8).map(|k| (k * 100, 1.0 - k as f64 / 8.5)).collect();
        let found = robust(&steep, 100_000).expect("eight points");
        assert!(found >= 0.0, "a loss is not negative: {found}");
    }
}
