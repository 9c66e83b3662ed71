//! Lengths of runs: steps, epochs, tokens, samples, and time.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::AdamWConfig;
use bdh::cadence::{Span, epochs, every, fraction, last, samples, secs, steps, tokens};
use bdh::data::{TrainData, cycle};
use bdh::schedule::warmup_linear;
use bdh::{BoxError, MemorySink, TokenBatch};
use tiny::{Rows, Tiny};

/// Returns five batches.
fn five() -> Result<Vec<TokenBatch>, BoxError> {
    let mut rows = Rows::of(tiny::ROWS);
    (0..5).map(|_| rows.next_batch()).collect()
}

fn run_on(data: impl TrainData<Batch = TokenBatch>, duration: Span) -> tiny::Builder {
    tiny::bare(tiny::task(), data, Tiny::new(0.0), 1)
        .optimizer(AdamWConfig::new().build(), 0.01)
        .duration(duration)
}

fn planned(data: impl TrainData<Batch = TokenBatch>, duration: Span) -> Result<u64, BoxError> {
    Ok(run_on(data, duration).build()?.plan().steps)
}

#[test]
fn counted_durations_are_converted_to_steps() -> Result<(), BoxError> {
    assert_eq!(planned(cycle(five()?), epochs(3))?, 15);
    let halved = run_on(cycle(five()?), epochs(3)).grad_accum_steps(2);
    assert_eq!(
        halved.build()?.plan().steps,
        8,
        "the last step completes the third epoch"
    );
    let per_step = (tiny::ROWS * tiny::SEQ_LEN) as u64;
    assert_eq!(planned(Rows::of(tiny::ROWS), tokens(per_step * 7 + 1))?, 8);
    assert_eq!(
        planned(Rows::of(tiny::ROWS), samples(tiny::ROWS as u64 * 7))?,
        7
    );
    assert_eq!(planned(Rows::of(tiny::ROWS), steps(9))?, 9);
    Ok(())
}

#[test]
fn cadences_in_epochs_fire_at_their_ends() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let run = run_on(cycle(five()?), epochs(3)).eval_data("val", tiny::val());
    let run = run.eval(every(epochs(1))).sink(memory.clone()).build()?;
    assert!(
        run.plan().to_string().contains("5, 10, 15 (3×)"),
        "{}",
        run.plan()
    );
    run.fit()?;
    let evals: Vec<_> = memory
        .series("val/loss")
        .iter()
        .map(|(step, _)| *step)
        .collect();
    assert_eq!(evals, [5, 10, 15]);
    Ok(())
}

#[test]
fn a_duration_that_the_data_cannot_measure_is_refused() {
    let refused = |duration| {
        let run = run_on(tiny::Lost(Rows::of(2)), duration).build();
        run.expect_err("an unknown length").to_string()
    };
    assert!(
        refused(epochs(2)).starts_with("`duration` is 2 epochs: the training data does not know")
    );
    assert!(refused(tokens(99)).contains("`TrainData::batch_size`"));
    assert!(refused(fraction(0.5)).starts_with("`duration` is 50%"));
    assert!(refused(steps(0)).contains("at least 1 step"));
    let endless = run_on(Rows::of(2), steps(3))
        .eval_data("val", tiny::val())
        .eval(every(epochs(1)));
    let error = endless
        .build()
        .expect_err("endless data has no epochs")
        .to_string();
    assert!(error.contains("batches_per_epoch"), "{error}");
    let empty = run_on(cycle(Vec::new()), epochs(1))
        .build()
        .expect_err("no data");
    assert!(
        empty.to_string().starts_with("`train_data` is empty"),
        "{empty}"
    );
}

#[test]
fn a_timed_run_ends_by_time_and_its_schedule_follows_it() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let run = tiny::bare(tiny::task(), Rows::of(2), Tiny::new(0.0), 1)
        .optimizer(AdamWConfig::new().build(), warmup_linear(0.01, 0))
        .duration(secs(0.5))
        .eval_data("val", tiny::val())
        .eval(last())
        .sink(memory.clone())
        .build()?;
    let plan = run.plan().to_string();
    assert!(plan.contains("limited by time"), "{plan}");
    let began = std::time::Instant::now();
    let result = run.fit()?;
    assert!(began.elapsed().as_secs_f64() >= 0.5);
    assert_eq!(result.outcome, bdh::Outcome::Completed);
    let records = memory.records();
    let mut before = 0.0;
    for record in &records {
        let Some(rate) = record.scalar("lr") else {
            continue;
        };
        // The rate is that of some time within the step, however long a step takes on a busy machine.
        let share = 1.0 - rate / 0.01;
        let after = (record.clock.elapsed.as_secs_f64() / 0.5).min(1.0);
        let range = before - 1e-9..=after + 1e-9;
        assert!(range.contains(&share), "{share} is not in {range:?}");
        before = after;
    }
    assert_eq!(before, 1.0, "the last step reaches the end");
    let evals = memory.series("val/loss");
    assert_eq!(evals.len(), 1, "one eval, on the last step");
    assert_eq!(evals[0].0, records[records.len() - 1].clock.step);
    Ok(())
}

#[test]
fn a_resumed_timed_run_counts_the_time_before() -> Result<(), BoxError> {
    let scratch = tempfile::tempdir()?;
    let memory = MemorySink::default();
    let run = |seconds| {
        let run = run_on(Rows::of(2), secs(seconds)).checkpoint(last());
        run.run_dir(scratch.path().join("run"))
    };
    let before = run(0.2).build()?.fit()?.last.expect("a record").clock;
    let resumed = run(1.0).resume("auto").allow_changed(["trainer"]);
    resumed.sink(memory.clone()).build()?.fit()?;
    let times: Vec<f64> = memory
        .records()
        .iter()
        .map(|record| record.clock.elapsed.as_secs_f64())
        .collect();
    assert!(
        before.elapsed.as_secs_f64() <= times[0],
        "the clock continues"
    );
    assert!(times[times.len() - 1] >= 1.0);
    assert!(
        times[..times.len() - 1].iter().all(|time| *time < 1.0),
        "no step begins after the limit"
    );
    Ok(())
}
