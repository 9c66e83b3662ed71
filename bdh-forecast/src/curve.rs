//! What the beginning of a curve says.

use super::early::{Early, until};
use std::f64::consts::LN_2;

/// Features of the beginning; one that a run does not have is `None`.
///
/// | feature | is |
/// |---|---|
/// | value | the last evaluation |
/// | slope | its change per logarithm of the steps, since half of them |
/// | bend | by how much the slope changed since it was taken at half of them |
/// | loss | the mean training loss of the last eighth of the steps |
pub(super) fn features(run: Early<'_>) -> [Option<f64>; 4] {
    let value = run.metric().last();
    let now = slope(run.metric());
    let before = value.and_then(|(step, _)| slope(until(run.metric(), step / 2)));
    let bend = now.zip(before).map(|(now, before)| now - before);
    [value.map(|(_, value)| *value), now, bend, recent_loss(run)]
}

/// The value of a norm, and its slope, both of logarithms; `None` where it was not above 0.
pub(super) fn norm_features(run: Early<'_>, name: &str) -> [Option<f64>; 2] {
    let log = |entry: &(u64, f64)| Some((entry.0, entry.1.ln())).filter(|(_, log)| log.is_finite());
    let series = run.norm(name);
    let Some(logs) = half(series).map(|(before, last)| [log(&before), log(&last)]) else {
        return [series.last().and_then(log).map(|(_, log)| log), None];
    };
    let [before, last] = logs;
    let change = before
        .zip(last)
        .map(|(before, last)| per_doubling(before, last));
    [last.map(|(_, log)| log), change]
}

/// The change per e-fold of the steps, from half of them to the last.
fn slope(series: &[(u64, f64)]) -> Option<f64> {
    half(series).map(|(before, last)| per_doubling(before, last) / LN_2)
}

/// The last entry, and the one before or at half its step.
fn half(series: &[(u64, f64)]) -> Option<((u64, f64), (u64, f64))> {
    let last = series.last()?;
    let before = until(series, last.0 / 2)
        .last()
        .filter(|(step, _)| *step > 0)?;
    Some((*before, *last))
}

/// The change while the number of steps doubles.
fn per_doubling(before: (u64, f64), last: (u64, f64)) -> f64 {
    (last.1 - before.1) / (last.0 as f64 / before.0 as f64).log2()
}

fn recent_loss(run: Early<'_>) -> Option<f64> {
    let losses = run.loss();
    let last = losses.last()?.0;
    let recent = &losses[losses.partition_point(|(step, _)| *step <= last - last / 8)..];
    let recent = if recent.is_empty() {
        &losses[losses.len() - 1..]
    } else {
        recent
    };
    Some(recent.iter().map(|(_, loss)| loss).sum::<f64>() / recent.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::run::Run;
    use super::*;

    /// 8 - log2 of the step has the slope -1 / ln 2 and no bend.
    #[test]
    fn a_logarithm_has_a_slope_and_no_bend() {
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
