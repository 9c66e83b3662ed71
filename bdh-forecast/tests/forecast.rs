//! Promises of forecasts: no look-ahead, a reason for each missing number, no claim without baselines.

#[path = "support/curves.rs"]
mod curves;

use bdh_forecast::{
    Cut, CutTest, End, Forecast, ForecastError, Forecaster, Importance, Point, Predictor, Protocol,
    Report, Run, SeedNoise, StopRule,
};
use curves::{HORIZON, Law};

const HALF: Cut = Cut::Fraction(0.5);

fn report(runs: &[Run]) -> Report {
    let forecast = Forecast::of(runs.to_vec()).and_then(|forecast| forecast.cuts([HALF]));
    forecast.expect("runs and cut are valid").report()
}

fn test<'r>(report: &'r Report, protocol: &Protocol) -> &'r CutTest {
    let test = report.tests.iter().find(|test| test.protocol == *protocol);
    &test.expect("the runs allow this protocol").cuts[0]
}

fn point(test: &CutTest, predictor: Predictor, run: usize) -> Option<Point> {
    let cell = test.cell(predictor).expect("each predictor has a cell");
    cell.points.iter().find(|point| point.run == run).copied()
}

/// Spoils all records after half of the run.
fn spoil(run: &mut Run) {
    for series in run
        .norms
        .values_mut()
        .chain([&mut run.metric, &mut run.loss, &mut run.lr])
    {
        for (step, value) in series {
            if *step > HORIZON / 2 {
                *value = 1e3;
            }
        }
    }
}

#[test]
fn nothing_after_the_cut_is_read() {
    let runs = Law::default().sweep(20, 1);
    let before = report(&runs);
    let ends = [
        End::Finished(-1e3),
        End::Diverged {
            step: HORIZON / 2 + 1,
        },
    ];
    for (run, end) in [3, 11].into_iter().zip(ends) {
        let mut spoiled = runs.clone();
        spoil(&mut spoiled[run]);
        spoiled[run].end = end;
        spoiled[run].lr.retain(|(step, _)| *step <= HORIZON / 2);
        let after = report(&spoiled);
        for (test, spoiled) in before.tests.iter().zip(&after.tests) {
            for predictor in Predictor::ALL {
                let of = |test| {
                    point(test, predictor, run).map(|point| Point {
                        truth: None,
                        ..point
                    })
                };
                let (honest, spoiled) = (of(&test.cuts[0]), of(&spoiled.cuts[0]));
                assert_eq!(honest, spoiled, "{predictor}, {}", test.protocol);
                assert!(honest.is_some() || run < 8, "{predictor} predicts");
            }
        }
    }
}

#[test]
fn only_the_annealing_law_reads_whole_curves_of_others() {
    let mut runs = Law::default().sweep(20, 2);
    let before = report(&runs);
    runs.iter_mut().for_each(spoil);
    let after = report(&runs);
    for (test, spoiled) in before.tests.iter().zip(&after.tests) {
        for (cell, spoiled) in test.cuts[0].cells.iter().zip(&spoiled.cuts[0].cells) {
            let is_same = cell == spoiled;
            assert_eq!(
                is_same,
                cell.predictor != Predictor::Annealing,
                "{}",
                cell.predictor
            );
        }
    }
}

#[test]
fn protocols_hide_the_ends_they_should_hide() {
    let runs = Law::default().sweep(20, 3);
    let before = report(&runs);
    let protocols = [
        Protocol::LeaveGroupOut("depth".to_owned()),
        Protocol::Prequential,
    ];
    for protocol in protocols {
        // Run 12 must not see runs of its own depth, or later runs; both include itself.
        let is_hidden = |run: usize| match protocol {
            Protocol::Prequential => run >= 12,
            _ => run.is_multiple_of(3),
        };
        let mut spoiled = runs.clone();
        for (index, run) in spoiled
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| is_hidden(*index))
        {
            run.end = End::Finished(100.0 + index as f64);
        }
        let after = report(&spoiled);
        for predictor in Predictor::ALL {
            let value =
                |report| point(test(report, &protocol), predictor, 12).map(|point| point.predicted);
            assert_eq!(value(&before), value(&after), "{predictor}, {protocol}");
        }
    }
}

#[test]
fn report_is_the_same_for_any_order_of_runs() {
    let mut runs = Law::default().sweep(18, 4);
    runs[5].end = End::Diverged { step: 300 };
    runs[6].end = End::Unfinished;
    let before = report(&runs);
    runs.reverse();
    runs.swap(2, 9);
    let after = report(&runs);
    assert_eq!(before, after);
    let json = |report| serde_json::to_string(report).expect("a report has only strings for keys");
    assert_eq!(json(&before), json(&after));
}

#[test]
fn missing_predictions_have_a_reason_and_no_score() {
    let mut runs = Law::default().sweep(10, 5);
    for run in &mut runs {
        run.metric
            .retain(|(step, _)| [0, 150, 350, 450].contains(step)); // no steps double
        run.norms.clear();
    }
    runs[7].lr.clear();
    let report = report(&runs);
    let text = report.to_string();
    let expected = [
        (
            Predictor::ClosedForm,
            10,
            "no three evaluations at steps t, 2t, 4t before the cut",
        ),
        (
            Predictor::PowerLaw,
            10,
            "fewer than 4 evaluations between step 0 and the cut",
        ),
        (
            Predictor::Norms,
            10,
            "no norm is recorded before the cut in all runs",
        ),
        (
            Predictor::Annealing,
            1,
            "no finished run with a similar learning-rate schedule so far",
        ),
    ];
    for (predictor, missing, reason) in expected {
        let cell = test(&report, &Protocol::LeaveOneOut)
            .cell(predictor)
            .expect("it is there");
        let (runs, why) = cell.silent.expect("a prediction is missing");
        assert_eq!(
            (runs, why.to_string().as_str()),
            (missing, reason),
            "{predictor}"
        );
        assert_eq!(cell.points.len(), 10 - missing);
        assert_eq!(
            cell.score, None,
            "a score over other runs would not be comparable"
        );
        let unwrapped = text.replace("\n    ", " ");
        assert!(
            unwrapped.contains(&format!("{predictor}, 50 %: no prediction"))
                && unwrapped.contains(reason),
            "{text}"
        );
    }
}

#[test]
fn fewer_than_eight_finished_runs_are_only_ranked() {
    let mut runs = Law::default().sweep(9, 6);
    runs[7].end = End::Diverged { step: 900 };
    runs[8].end = End::Unfinished;
    let seven = report(&runs);
    for cell in &test(&seven, &Protocol::LeaveOneOut).cells {
        assert_eq!(cell.mae(), None, "{}", cell.predictor);
    }
    let last = test(&seven, &Protocol::LeaveOneOut)
        .cell(Predictor::LastValue)
        .expect("it is there");
    assert!(last.spearman() > Some(0.5));
    assert!(test(&seven, &Protocol::LeaveOneOut).comparison.is_none() && seven.stopping.is_none());
    assert!(
        seven
            .predictions
            .iter()
            .all(|prediction| prediction.interval.is_none())
    );
    let text = seven.to_string();
    assert!(
        text.contains("fewer than 8 runs finished: only ranks are reported"),
        "{text}"
    );
    assert!(
        text.contains("ranking by the value at 50 %, best first: trial-"),
        "{text}"
    );
    assert!(!text.contains("beats"), "{text}");

    runs[7] = Law::default().sweep(8, 7).remove(7);
    let eight = report(&runs);
    let loo = test(&eight, &Protocol::LeaveOneOut);
    assert!(loo.cells.iter().all(|cell| cell.mae().is_some()) && loo.comparison.is_some());
    assert!(eight.predictions[0].interval.is_some());
}

#[test]
fn every_table_has_both_baselines() {
    let mut runs = Law::default().sweep(20, 8);
    let text = report(&runs).to_string();
    for part in text
        .split("\n\n")
        .filter(|part| part.contains("ridge: curve+settings  "))
    {
        for baseline in ["* settings only", "* value at the cut"] {
            assert!(part.contains(baseline), "{part}");
        }
    }
    // If settings do not differ, that baseline is missing, and the report explains why.
    for run in &mut runs {
        run.settings.clear();
    }
    let text = report(&runs).to_string();
    assert!(
        text.contains("settings only, 50 %: no prediction: no setting differs between the runs"),
        "{text}"
    );
    assert!(
        !text.contains("beats both baselines beyond chance:\n"),
        "{text}"
    );
}

#[test]
fn mean_of_the_others_has_no_ranks() {
    let report = report(&Law::default().sweep(12, 9));
    let cells = &test(&report, &Protocol::LeaveOneOut).cells;
    let score = |cell: &bdh_forecast::Cell| cell.score.clone().expect("all predict");
    assert!(
        score(&cells[0]).ranks.is_none(),
        "the correlation would be -1 by construction"
    );
    assert!(cells[1..].iter().all(|cell| score(cell).ranks.is_some()));
    let error = score(&cells[0]).error.expect("twelve runs");
    assert_eq!(error.r2, Some(0.0), "the mean is the reference");
}

#[test]
fn diverged_runs_count_as_the_worst() {
    let mut runs = Law::default().sweep(14, 10);
    runs[2].end = End::Diverged { step: 200 };
    runs[3].end = End::Diverged { step: 900 };
    runs[4].end = End::Finished(f64::NAN);
    let report = report(&runs);
    assert_eq!((report.finished, report.diverged), (11, 3));
    let test = test(&report, &Protocol::LeaveOneOut);
    assert_eq!((test.predicted, test.diverged_by_then), (13, 1));
    for cell in &test.cells {
        assert!(
            cell.points.iter().all(|point| point.run != 2),
            "its end is known"
        );
        assert!(cell.points.iter().all(|point| point.predicted.is_finite()));
        let diverged = cell.points.iter().filter(|point| point.truth.is_none());
        assert_eq!(diverged.map(|point| point.run).collect::<Vec<_>>(), [3, 4]);
    }
    // They count in ranks; only one of the three had diverged by the cut.
    let last = test
        .cell(Predictor::LastValue)
        .and_then(bdh_forecast::Cell::spearman);
    assert!(last < Some(0.9), "{last:?}");
}

#[test]
fn replicates_give_the_noise_and_do_not_leak() {
    let mut runs = Law::default().sweep(12, 11);
    let settings = runs[0].settings.clone();
    for (seed, end) in [(0, 1.0), (1, 1.2), (2, 1.4)] {
        runs[seed].settings = settings.clone();
        runs[seed].settings.insert("seed".to_owned(), seed as f64);
        runs[seed].end = End::Finished(end);
    }
    let noise = SeedNoise::of(&runs).expect("three replicates");
    assert!((noise.std - 0.2).abs() < 1e-12, "{noise:?}");
    assert_eq!((noise.runs, noise.configurations), (3, 1));
    let before = report(&runs);
    assert!(
        !before
            .settings
            .iter()
            .any(|setting| setting.contains("seed"))
    );
    runs[1].end = End::Finished(50.0);
    runs[2].end = End::Diverged { step: 900 };
    let after = report(&runs);
    for predictor in Predictor::ALL {
        let value = |report| point(test(report, &Protocol::LeaveOneOut), predictor, 0);
        assert_eq!(value(&before), value(&after), "{predictor}");
    }
}

/// Ten runs of cost 1 to 10. The value at half of each run is its end, except that the second best looks best.
#[test]
fn promotion_has_the_computed_cost_and_regret() {
    let run = |index: u32| Run {
        name: format!("{index:02}"),
        horizon: 100,
        metric: vec![(50, if index == 2 { 0.0 } else { f64::from(index) })],
        end: End::Finished(f64::from(index)),
        cost: f64::from(index),
        ..Run::default()
    };
    let mut runs: Vec<Run> = (1..=10).map(run).collect();
    let promoted = |runs: &[Run]| {
        let report = report(runs);
        let cell = test(&report, &Protocol::LeaveOneOut)
            .cell(Predictor::LastValue)
            .expect("it is there");
        let ranks = cell
            .score
            .clone()
            .expect("it predicts")
            .ranks
            .expect("ten runs");
        assert_eq!(ranks.recall_3, 1.0);
        ranks.promoted
    };
    let [one, three] = promoted(&runs);
    assert_eq!((one.k, one.regret, three.k, three.regret), (1, 1.0, 3, 0.0));
    assert!(
        (one.spent - (0.5 * 55.0 + 0.5 * 2.0) / 55.0).abs() < 1e-12,
        "{one:?}"
    );
    assert!(
        (three.spent - (0.5 * 55.0 + 0.5 * 6.0) / 55.0).abs() < 1e-12,
        "{three:?}"
    );
    runs[0].cost = 0.0; // unknown cost: all runs count the same, c/N + (k/n)(1 - c/N)
    let [one, three] = promoted(&runs);
    assert!((one.spent - 0.55).abs() < 1e-12 && (three.spent - 0.65).abs() < 1e-12);
}

#[test]
fn runs_that_ended_before_a_step_are_left_out_and_counted() {
    let mut runs = Law::default().sweep(12, 12);
    for run in &mut runs[..3] {
        run.horizon = 250;
        run.metric.retain(|(step, _)| *step <= 250);
    }
    let forecast = Forecast::of(runs).and_then(|f| f.cuts([Cut::Step(250), Cut::Step(1_000)]));
    let report = forecast.expect("valid").report();
    let [at_250, at_1000] = &report.tests[0].cuts[..] else {
        panic!("two cuts")
    };
    assert_eq!((at_250.predicted, at_250.ended_by_then), (9, 3));
    assert_eq!((at_1000.predicted, at_1000.ended_by_then), (0, 12));
    assert!(at_1000.cells.iter().all(|cell| cell.score.is_none()));
    assert!(
        report
            .to_string()
            .contains("3 run(s) ended before the cut and are left out")
    );
}

#[test]
fn run_in_progress_is_predicted_from_what_is_available() {
    let mut runs = Law::default().sweep(30, 13);
    let mut now = runs.pop().expect("thirty runs");
    let truth = now.final_value().expect("it finished");
    now.end = End::Unfinished;
    let until = |step: u64| {
        let mut run = now.clone();
        let series = [&mut run.metric, &mut run.loss, &mut run.lr];
        run.norms
            .values_mut()
            .chain(series)
            .for_each(|series| series.retain(|entry| entry.0 <= step));
        run
    };
    let forecaster = Forecaster::new(runs.clone()).expect("names differ");
    let early = forecaster.predict(&until(500)).expect("it was evaluated");
    assert_eq!(
        (early.step, early.predictor, early.others),
        (500, Predictor::Process, 29)
    );
    assert!((early.value - truth).abs() < 0.05, "{early:?}, {truth}");
    assert!(
        early
            .interval
            .is_some_and(|interval| interval.holds(early.value))
    );
    let nothing = Run {
        metric: Vec::new(),
        loss: Vec::new(),
        ..until(0)
    };
    let from_settings = forecaster.predict(&nothing).expect("settings differ");
    assert_eq!(
        (from_settings.step, from_settings.predictor),
        (0, Predictor::SettingsProcess)
    );
    assert_eq!(
        (from_settings.last, from_settings.settings_only),
        (None, Some(from_settings.value))
    );
    assert_eq!(early.last, Some(until(500).metric[10].1));
    let at_the_end = forecaster.predict(&until(1_000)).expect("it was evaluated");
    assert!((at_the_end.value - truth).abs() < 0.01, "{at_the_end:?}");

    let few = Forecaster::new(runs[..5].to_vec()).expect("names differ");
    let line = few.predict(&until(500)).expect("it was evaluated");
    assert_eq!((line.predictor, line.interval), (Predictor::Affine, None));
    let none = Forecaster::new(Vec::new()).expect("no names");
    let last = none.predict(&until(500)).expect("it was evaluated");
    assert_eq!(
        (last.predictor, last.value),
        (Predictor::LastValue, until(500).metric[10].1)
    );
    let error = none.predict(&nothing).expect_err("nothing is known");
    assert_eq!(
        error.to_string(),
        "run `trial-029` cannot be predicted at step 0: it has no evaluation yet, and only 0 other runs have ended (8 are \
         needed)"
    );
}

#[test]
fn stop_rule_saves_the_steps_it_does_not_run() {
    let mut runs = Law::default().sweep(40, 14);
    runs[20].end = End::Diverged { step: 100 };
    let whole = 39.0 + 0.1;
    let cuts = [Cut::Fraction(0.75), HALF];
    let saving = StopRule { regret: 0.01 }
        .replay(&runs, &cuts)
        .expect("names differ");
    let unspent: f64 = saving
        .stopped
        .iter()
        .map(|stop| 1.0 - stop.prediction.step as f64 / 1_000.0)
        .sum();
    assert!(
        (saving.saved - unspent / whole).abs() < 1e-12,
        "{}",
        saving.saved
    );
    assert!(
        saving.saved > 0.2 && saving.regret <= 0.05,
        "{} {}",
        saving.saved,
        saving.regret
    );
    let first = runs
        .iter()
        .position(|run| run.name == saving.stopped[0].prediction.run);
    assert!(
        first >= Some(8),
        "without eight finished runs there is no interval"
    );
    for stop in &saving.stopped {
        let low = stop
            .prediction
            .interval
            .expect("a stop needs an interval")
            .low;
        assert!(low > stop.best - 0.01, "{stop:?}");
    }
    let none = StopRule { regret: -1e9 }
        .replay(&runs, &cuts)
        .expect("names differ");
    assert!(none.stopped.is_empty() && none.saved == 0.0 && none.regret == 0.0);
}

#[test]
fn odd_runs_and_cuts_never_panic() {
    let runs = Law::default().sweep(9, 15);
    let twice = [runs.clone(), runs[..1].to_vec()].concat();
    let error = Forecast::of(twice).expect_err("a name occurs twice");
    assert_eq!(
        error.to_string(),
        "two runs are called `trial-000`: give each run a unique name"
    );
    let error = Forecast::of(vec![Run::default()]).expect_err("the horizon is 0");
    assert_eq!(error, ForecastError::NoHorizon(String::new()));
    let bad = Forecast::of(runs.clone()).and_then(|f| f.cuts([Cut::Fraction(f64::NAN)]));
    assert!(matches!(bad, Err(ForecastError::BadCut(_))));

    let odd = |spoil: fn(&mut Run)| {
        let mut runs = runs.clone();
        runs.iter_mut().for_each(spoil);
        runs
    };
    let sweeps = [
        Vec::new(),
        runs[..1].to_vec(),
        runs[..2].to_vec(),
        odd(|run| run.metric.clear()),
        odd(|run| run.metric.iter_mut().for_each(|entry| entry.1 = f64::NAN)),
        odd(|run| run.metric.iter_mut().for_each(|entry| entry.1 = 1.0)),
        odd(|run| run.end = End::Finished(1.0)),
        odd(|run| run.end = End::Diverged { step: 0 }),
        odd(|run| run.end = End::Diverged { step: u64::MAX }),
        odd(|run| run.end = End::Unfinished),
        odd(|run| run.horizon = u64::MAX),
        odd(|run| run.horizon = 1),
        odd(|run| run.lr.iter_mut().for_each(|entry| entry.1 = -1.0)),
        odd(|run| run.cost = f64::NEG_INFINITY),
        odd(|run| run.metric.reverse()),
        odd(|run| run.metric.iter_mut().for_each(|entry| entry.1 *= 1e300)),
        odd(|run| *run.settings.entry("lr".to_owned()).or_default() = f64::NAN),
    ];
    for (index, runs) in sweeps.into_iter().enumerate() {
        let report = report(&runs);
        assert!(
            !report.to_string().is_empty() && serde_json::to_string(&report).is_ok(),
            "{index}"
        );
        for run in &runs {
            let forecaster = Forecaster::new(runs.clone()).expect("names differ");
            let value = forecaster.predict(run).map(|prediction| prediction.value);
            assert!(
                value.is_ok_and(f64::is_finite) || run.metric.iter().all(|x| !x.1.is_finite()),
                "{index}"
            );
        }
    }
    let mut reversed = runs.clone();
    for run in &mut reversed {
        run.metric.reverse();
    }
    assert_eq!(report(&reversed), report(&runs), "series are sorted");
}

#[test]
fn text_fits_into_a_hundred_columns() {
    let mut runs = Law::default().sweep(25, 16);
    runs[3].end = End::Diverged { step: 100 };
    runs[4].end = End::Unfinished;
    runs[5].settings.insert("only_here".to_owned(), 1.0);
    let cuts = Cut::SHARES
        .into_iter()
        .chain([Cut::Step(100), Cut::Step(333)]);
    for runs in [&runs[..], &runs[..6]] {
        let forecast = Forecast::of(runs.to_vec()).and_then(|forecast| forecast.cuts(cuts.clone()));
        let text = forecast.expect("valid").report().to_string();
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{longest:?}\n{text}");
        assert!(
            text.contains("step 333") && text.contains("only_here"),
            "{text}"
        );
    }
}

#[test]
fn importance_from_a_draw_finds_the_same_setting() {
    let most = |runs: usize| {
        let runs = Law::default().sweep(runs, 1);
        let importance = Importance::of(&runs).expect("runs of different names");
        assert_eq!(importance, Importance::of(&runs).expect("the same runs"));
        importance
            .into_iter()
            .next()
            .expect("a setting that matters")
    };
    let (all, drawn) = (most(256), most(1_000));
    assert_eq!(all.name, drawn.name);
    let overlap = all.between.low < drawn.between.high && drawn.between.low < all.between.high;
    assert!(overlap && drawn.between.low > 0.0, "{all:?} and {drawn:?}");
}
