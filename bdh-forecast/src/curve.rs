//! Features of the beginning of a curve.

use super::early::{Early, until};
use std::f64::consts::LN_2;

/// Returns the features of a run's beginning; `None` for each one that the run does not have.
///
/// | feature | meaning |
/// |---|---|
/// | value | last evaluation |
/// | slope | its change per logarithm of the steps, since half of them |
/// | bend | change of the slope since it was taken at half of the steps |
/// | loss | mean training loss of the last eighth of the steps |
pub(super) fn features(run: Early<'_>) -> [Option<f64>; 4] {
    let Some((step, value)) = run.metric().last() else {
        return [None, None, None, recent_loss(run)];
    };
    let now = slope(run.metric());
    let before = slope(until(run.metric(), step / 2));
    let bend = match (now, before) {
        (Some(now), Some(before)) => Some(now - before),
        _ => None,
    };
    [Some(*value), now, bend, recent_loss(run)]
}

/// Returns the logarithm of a norm and its change per doubling of the steps; `None` where the norm was not above 0.
pub(super) fn norm_features(run: Early<'_>, name: &str) -> [Option<f64>; 2] {
    let series = run.norm(name);
    let Some(last) = series.last().and_then(log_of) else {
        return [None; 2];
    };
    let before = at_half(series).and_then(|entry| log_of(&entry));
    [
        Some(last.1),
        before.map(|before| per_doubling(before, last)),
    ]
}

/// Takes the logarithm of a value; `None` if it is not finite.
fn log_of((step, value): &(u64, f64)) -> Option<(u64, f64)> {
    let log = value.ln();
    log.is_finite().then_some((*step, log))
}

/// Returns the change per e-fold of the steps, from half of them to the last.
fn slope(series: &[(u64, f64)]) -> Option<f64> {
    let last = *series.last()?;
    let before = at_half(series)?;
    Some(per_doubling(before, last) / LN_2)
}

/// Returns the last entry after step 0 and up to half of the steps.
fn at_half(series: &[(u64, f64)]) -> Option<(u64, f64)> {
    let last = series.last()?;
    let before = *until(series, last.0 / 2).last()?;
    (before.0 > 0).then_some(before)
}

/// Returns the change while the number of steps doubles.
fn per_doubling(before: (u64, f64), last: (u64, f64)) -> f64 {
    (last.1 - before.1) / (last.0 as f64 / before.0 as f64).log2()
}

/// Returns the mean training loss of the last eighth of the steps, or the last loss if they have none.
fn recent_loss(run: Early<'_>) -> Option<f64> {
    let losses = run.loss();
    let last = losses.last()?.0;
    let from = losses.partition_point(|(step, _)| *step <= last - last / 8);
    let recent = &losses[from.min(losses.len() - 1)..];
    let sum: f64 = recent.iter().map(|(_, loss)| loss).sum();
    Some(sum / recent.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::run::Run;
    use super::*;

    /// The curve `8 - log2(step)` has the slope `-1 / ln 2` and no bend.
    #[test]
    fn logarithm_has_a_slope_and_no_bend() {
        let metric = (0..8).map(|k| (1 << k, 8.0 - f64::from(k))).collect();
        let loss = (1..=64).map(|step| (step, step as f64)).collect();
        let norms = [(
            "weight_norm".to_owned(),
            vec![(16, 2.0), (32, 4.0), (64, 16.0)],
        )]
        .into();
        let run = Run {
            metric,
            loss,
            norms,
            ..Run::default()
        };
        let [value, slope, bend, recent] = features(Early::new(&run, 100));
        assert_eq!((value, bend, recent), (Some(2.0), Some(0.0), Some(60.5)));
        assert!((slope.expect("seven points") + 1.0 / LN_2).abs() < 1e-12);
        let [norm, growth] =
            norm_features(Early::new(&run, 100), "weight_norm").map(Option::unwrap);
        assert!((norm - 16_f64.ln()).abs() < 1e-12 && (growth - 4_f64.ln()).abs() < 1e-12);
        let nothing = Early::new(&run, 0);
        assert_eq!(features(nothing), [None; 4]);
        assert_eq!(norm_features(nothing, "weight_norm"), [None; 2]);
    }
}
