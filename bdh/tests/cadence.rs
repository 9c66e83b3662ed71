//! A cadence fires on the steps of its plan, and its text form parses to the same cadence.

use bdh::cadence::{
    Span, at, between, epochs, every, first, fraction, last, log_spaced, never, samples, start,
    steps, tokens,
};
use bdh::clock::RunLength;
use bdh::{Cadence, Clock};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

/// Spans whose firings can be predicted, and which most runs of 300 steps reach.
fn counted_span() -> impl Strategy<Value = Span> {
    prop_oneof![
        (1..400_u64).prop_map(steps),
        (1..200_000_u64).prop_map(tokens),
        (1..5_000_u64).prop_map(samples),
        (1..20_u64).prop_map(epochs),
        (1..=1_000_u32).prop_map(|permille| fraction(f64::from(permille) / 1_000.0)),
    ]
}

/// Spans of any size and unit.
fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![
        counted_span(),
        (1..=u64::MAX).prop_map(tokens),
        (1..=u64::MAX).prop_map(epochs),
        (f64::MIN_POSITIVE..=1.0).prop_map(fraction),
        (0..u64::MAX, 1..1_000_000_000_u32).prop_map(|(s, ns)| Span::Time(Duration::new(s, ns))),
        (1..10_000_u64).prop_map(|seconds| Span::Time(Duration::from_secs(seconds))),
    ]
}

/// Cadences that make sense in some run, over the given spans.
fn cadence_of(
    span: impl Strategy<Value = Span> + Clone + 'static,
) -> impl Strategy<Value = Cadence> {
    let leaf = prop_oneof![
        Just(never()),
        Just(start()),
        Just(first()),
        Just(last()),
        span.clone().prop_map(every),
        prop::collection::vec(span.clone(), 1..5).prop_map(at),
        (1..40_u32).prop_map(log_spaced),
        (0..200_u64, 0..200_u64).prop_map(|(from, length)| between(from, from + length)),
        (0..200_u64, span).prop_filter_map("reversed", |(from, until)| match until {
            Span::Steps(until) if until < from => None,
            until => Some(between(from, until)),
        }),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a | b),
            (inner.clone(), inner).prop_map(|(a, b)| a & b),
        ]
    })
}

fn counted_cadence() -> impl Strategy<Value = Cadence> {
    cadence_of(counted_span().boxed())
}

fn any_cadence() -> impl Strategy<Value = Cadence> {
    cadence_of(any_span().boxed())
}

/// Counts of one step, as a training loop would add them up.
fn per_step() -> impl Strategy<Value = Clock> {
    let counts = (1..4_096_u64, 1..64_u64, 1..8_u64, 1..100_u64);
    counts.prop_map(
        |(tokens, samples, micro_batches, batches_per_epoch)| Clock {
            tokens,
            samples,
            micro_batches,
            batches_per_epoch,
            ..Clock::default()
        },
    )
}

/// Returns the due steps from `start` on, asked step by step with the clock alone.
fn observe(cadence: &Cadence, start: Option<Clock>, per_step: &Clock, num_steps: u64) -> Vec<u64> {
    let mut fired = Vec::new();
    let mut previous = start;
    loop {
        let now = previous.map_or(per_step.after(0), |clock| Clock {
            step: clock.step + 1,
            micro_batches: clock.micro_batches + per_step.micro_batches,
            tokens: clock.tokens + per_step.tokens,
            samples: clock.samples + per_step.samples,
            ..clock
        });
        if now.step > num_steps {
            return fired;
        }
        if cadence.is_due(previous.as_ref(), &now, num_steps) {
            fired.push(now.step);
        }
        previous = Some(now);
    }
}

/// Decides whether a cadence is due from the definition of its words, without the formulas of the library.
fn is_named(cadence: &Cadence, step: u64, per_step: &Clock, num_steps: u64) -> bool {
    let arrival = |span: Span, times: u64| -> u64 {
        let first_step = |amount: u128, per_step: u64| amount.div_ceil(u128::from(per_step)) as u64;
        match span {
            Span::Steps(n) => n * times,
            Span::Tokens(n) => first_step(u128::from(n * times), per_step.tokens),
            Span::Samples(n) => first_step(u128::from(n * times), per_step.samples),
            Span::Epochs(n) => first_step(
                u128::from(n * times * per_step.batches_per_epoch),
                per_step.micro_batches,
            ),
            Span::Fraction(part) => {
                let permille = (part * 1_000.0).round() as u128; // as `counted_span` made it
                (permille * u128::from(times) * u128::from(num_steps)).div_ceil(1_000) as u64
            }
            other => panic!("{other:?} is not counted"),
        }
    };
    match cadence {
        Cadence::Never => false,
        Cadence::Start => step == 0,
        Cadence::First => step == 1,
        Cadence::Last => step == num_steps,
        Cadence::Every(span) => {
            let mut arrivals = (1..).map(|times| arrival(*span, times));
            arrivals.find(|&arrival| arrival >= step) == Some(step) && step > 0
        }
        Cadence::At(spans) => spans.iter().any(|&span| arrival(span, 1) == step),
        Cadence::LogSpaced { per_decade } => {
            let power = |i: u32| 10_f64.powf(f64::from(i) / f64::from(*per_decade));
            (0..=per_decade * 3).any(|i| power(i).round() as u64 == step)
        }
        Cadence::Between(from, until) => (arrival(*from, 1)..=arrival(*until, 1)).contains(&step),
        Cadence::Or(a, b) => {
            is_named(a, step, per_step, num_steps) || is_named(b, step, per_step, num_steps)
        }
        Cadence::And(a, b) => {
            is_named(a, step, per_step, num_steps) && is_named(b, step, per_step, num_steps)
        }
        other => panic!("{other:?} is new here"),
    }
}

fn firings(cadence: &Cadence, per_step: &Clock, num_steps: u64) -> BTreeSet<u64> {
    cadence.firings(per_step, num_steps).collect()
}

proptest! {
    #[test]
    fn predicted_firings_are_those_observed(
        cadence in counted_cadence(), per_step in per_step(), num_steps in 1..300_u64,
    ) {
        let predicted: Vec<u64> = cadence.firings(&per_step, num_steps).collect();
        prop_assert!(cadence.is_predictable());
        prop_assert_eq!(predicted, observe(&cadence, None, &per_step, num_steps));
    }

    #[test]
    fn firings_match_the_definition_of_the_words(
        cadence in counted_cadence(), per_step in per_step(), num_steps in 1..300_u64,
    ) {
        let named = (0..=num_steps).filter(|&step| is_named(&cadence, step, &per_step, num_steps));
        prop_assert!(cadence.firings(&per_step, num_steps).eq(named), "{}", cadence);
    }

    #[test]
    fn resumed_run_fires_on_the_remaining_steps(
        cadence in counted_cadence(), per_step in per_step(), num_steps in 1..300_u64, cut in 0.0..1.0,
    ) {
        let cut = (num_steps as f64 * cut) as u64;
        let whole = observe(&cadence, None, &per_step, num_steps);
        let rest: Vec<u64> = whole.into_iter().filter(|&step| step > cut).collect();

        let saved = serde_json::to_string(&per_step.after(cut)).expect("a clock is plain numbers");
        let read: Clock = serde_json::from_str(&saved).expect("as written above");
        prop_assert_eq!(read, per_step.after(cut));
        // The file does not have the length of an epoch: a trainer asks its data again.
        let clock = Clock { batches_per_epoch: per_step.batches_per_epoch, ..read };
        let read_again = cadence.to_string().parse().expect("text reads back");
        prop_assert_eq!(rest, observe(&read_again, Some(clock), &per_step, num_steps));
    }

    #[test]
    fn or_is_the_union_and_and_the_intersection(
        a in counted_cadence(), b in counted_cadence(), per_step in per_step(), num_steps in 1..200_u64,
    ) {
        let steps = |cadence: &Cadence| firings(cadence, &per_step, num_steps);
        prop_assert_eq!(steps(&(a.clone() | b.clone())), &steps(&a) | &steps(&b));
        prop_assert_eq!(steps(&(a.clone() & b.clone())), &steps(&a) & &steps(&b));
    }

    #[test]
    fn a_checked_cadence_fires_and_a_refused_one_does_not(
        cadence in counted_cadence(), per_step in per_step(), num_steps in 0..200_u64,
    ) {
        let fires = !firings(&cadence, &per_step, num_steps).is_empty();
        let passes = cadence.check(&per_step, num_steps).is_ok();
        prop_assert_eq!(passes, fires || cadence == never());
    }

    #[test]
    fn text_and_json_read_back_as_the_same_cadence(cadence in any_cadence()) {
        let text = cadence.to_string();
        prop_assert_eq!(text.parse(), Ok(cadence.clone()), "{}", text);

        let json = serde_json::to_string(&cadence).expect("a cadence is a string");
        prop_assert_eq!(&json, &format!("\"{text}\""));
        prop_assert_eq!(serde_json::from_str::<Cadence>(&json).expect("as written above"), cadence);
    }

    #[test]
    fn text_reads_back_as_the_same_span(span in any_span()) {
        prop_assert_eq!(span.to_string().parse(), Ok(span), "{}", span);
    }

    #[test]
    fn a_span_is_completed_by_the_steps_that_it_resolves_to(
        span in counted_span(), per_step in per_step(),
    ) {
        let first = (0..=u64::MAX).find(|&step| at([span]).is_due(None, &per_step.after(step), 1));
        let is_share = matches!(span, Span::Fraction(_));
        prop_assert_eq!(span.resolve_steps(&per_step), first.filter(|_| !is_share));
    }

    #[test]
    fn any_text_gives_a_cadence_or_an_error(text in any::<String>()) {
        let _ = text.parse::<Cadence>();
        let _ = text.parse::<Span>();
    }

    #[test]
    fn any_shuffle_of_the_grammar_gives_a_cadence_or_an_error(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "every", "at", "between", "and", "log-spaced", "per", "decade", "start", "last",
                "never", "step", "steps", "epoch", "epochs", "tokens", "h", "ns", "%", "|", "&", "(", ")", ",", "0",
                "7", "1.5", "1_0", "99999999999999999999999", "µ", "-",
            ]),
            0..12,
        ),
        gap in prop::sample::select(vec!["", " "]),
    ) {
        if let Ok(cadence) = words.join(gap).parse::<Cadence>() {
            prop_assert_eq!(cadence.to_string().parse(), Ok(cadence));
        }
        if let Ok(span) = words.join(gap).parse::<Span>() {
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }

    #[test]
    fn no_clock_or_run_length_makes_a_cadence_panic(
        cadence in any_cadence(), step in any::<u64>(), tokens in any::<u64>(), num_steps in any::<u64>(),
        micro_batches in any::<u64>(), batches_per_epoch in any::<u64>(), limit in any::<Duration>(),
    ) {
        let elapsed = Duration::MAX;
        let per_step = Clock { tokens, elapsed, micro_batches, batches_per_epoch, ..Clock::default() };
        let (previous, now) = (per_step.after(step.saturating_sub(1)), per_step.after(step));
        let _ = cadence.is_due(None, &now, num_steps);
        let _ = cadence.is_due(Some(&previous), &now, num_steps);
        let _ = cadence.is_due(Some(&previous), &now, limit);
        let _ = cadence.check(&per_step, limit);
    }

    #[test]
    fn a_timed_run_is_a_counted_run_if_steps_take_a_second(
        cadence in counted_cadence(), per_step in per_step(), num_steps in 1..300_u64,
    ) {
        let per_step = Clock { elapsed: Duration::from_secs(1), ..per_step };
        let length = RunLength::Time(Duration::from_secs(num_steps));
        let timed = (0..=num_steps).filter(|&step| {
            let previous = step.checked_sub(1).map(|step| per_step.after(step));
            cadence.is_due(previous.as_ref(), &per_step.after(step), length)
        });
        prop_assert!(timed.eq(cadence.firings(&per_step, num_steps)), "{}", cadence);
    }
}

#[test]
fn only_the_start_is_due_before_training() {
    let clock = Clock::default();
    for cadence in [start(), at([0, 500]), between(0, 100), start() | last()] {
        assert!(cadence.is_due(None, &clock, 1_000), "{cadence}");
    }
    for cadence in [
        Cadence::EVERY_STEP,
        every(100),
        first(),
        last(),
        log_spaced(4),
        Cadence::pythia(),
    ] {
        assert!(!cadence.is_due(None, &clock, 1_000), "{cadence}");
    }
}
