//! Frozen parameters: unchanged to the bit until the end of the freezing.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{every, fraction, steps};
use bdh::hooks::{after_backward, on_micro_batch, on_step};
use bdh::testing::resume_exact;
use bdh::{BoxError, Callback, MemorySink, Replay, freeze};
use tiny::Seen;

#[test]
fn frozen_parameters_keep_their_bits_until_the_end() -> Result<(), BoxError> {
    let seen = Seen::new();
    let noted = seen.clone();
    let watch = on_step(move |ctx| {
        noted.push(tiny::weights(ctx.model::<tiny::Tiny>().expect("its type")));
        Ok(())
    });
    let before = tiny::weights(&tiny::Tiny::new(0.0));
    let run = tiny::run(5)
        .freeze(freeze("head.*").until(steps(3)))
        .callback(watch);
    let run = run.build()?;
    let plan = run.plan().to_string();
    assert!(
        plan.contains("frozen until 3 steps: 99 parameters in 2 tensors (head.*)"),
        "{plan}"
    );
    run.fit()?;
    let [embed, head] = [0, 1].map(|tensor| {
        let changed = |weights: &Vec<Vec<u32>>| weights[tensor] != before[tensor];
        seen.all().iter().map(changed).collect::<Vec<_>>()
    });
    assert_eq!(embed, [true; 5]);
    assert_eq!(head, [false, false, false, true, true]);
    Ok(())
}

#[test]
fn a_run_with_frozen_parameters_resumes_exactly() {
    resume_exact([1, 3, 4], &[], || {
        tiny::run(6).freeze(freeze("embed.*").until(steps(3)))
    });
}

#[test]
fn no_hook_sees_gradients_of_frozen_parameters() -> Result<(), BoxError> {
    let seen = Seen::new();
    let (parts, whole) = (seen.clone(), seen.clone());
    let run = tiny::run(2)
        .grad_accum_steps(2)
        .freeze(freeze("head.*").until(1));
    let of_part = on_micro_batch(move |ctx| {
        parts.push(format!("part {}", ctx.gradients.iter().count()));
        Ok(())
    });
    let of_whole = after_backward(move |ctx| {
        whole.push(format!("whole {}", ctx.gradients.iter().count()));
        Ok(())
    });
    run.callback(of_part).callback(of_whole).build()?.fit()?;
    assert_eq!(seen.text(), "part 1 part 1 whole 1 part 3 part 3 whole 3");
    Ok(())
}

#[test]
fn a_step_in_which_everything_is_frozen_changes_nothing() -> Result<(), BoxError> {
    let seen = Seen::new();
    let noted = seen.clone();
    let watch = on_step(move |ctx| {
        noted.push(tiny::weights(ctx.model::<tiny::Tiny>().expect("its type")));
        Ok(())
    });
    let memory = MemorySink::default();
    let run = tiny::run(3)
        .freeze(freeze("*").until(2))
        .clip_grad_norm(1.0);
    let run = run.callback(watch).callback(norm()).sink(memory.clone());
    run.build()?.fit()?;
    let before = tiny::weights(&tiny::Tiny::new(0.0));
    let unchanged: Vec<_> = seen
        .all()
        .iter()
        .map(|weights| *weights == before)
        .collect();
    assert_eq!(unchanged, [true, true, false]);
    assert_eq!(memory.series("norm")[..2], [(1, 0.0), (2, 0.0)]);
    Ok(())
}

/// Returns a callback that records the norm of all gradients that a hook sees.
fn norm() -> impl Callback {
    after_backward(|ctx| {
        ctx.log("norm", ctx.gradients.l2());
        Ok(())
    })
}

#[test]
fn a_replay_shows_the_gradients_that_the_run_had() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir()?;
    let (ours, replayed) = (MemorySink::default(), MemorySink::default());
    let run = tiny::run(4).freeze(freeze("head.*").until(fraction(0.5)));
    let run = run
        .run_dir(dir.path().join("run"))
        .checkpoint(every(1))
        .keep_checkpoints(9);
    run.callback(norm()).sink(ours.clone()).build()?.fit()?;
    let replay =
        Replay::builder(tiny::task(), tiny::Tiny::new(0.0)).train_data(tiny::Rows::of(tiny::ROWS));
    let replay = replay.checkpoints(dir.path().join("run")).gradients(true);
    replay
        .callback(norm())
        .sink(replayed.clone())
        .build()?
        .run()?;
    // The checkpoint of a step shows the gradients of the next one; that of the last, gradients that the run never had.
    let (ours, replayed) = (ours.series("norm"), replayed.series("norm"));
    assert_eq!(ours.len(), 4);
    assert_eq!(replayed[..3], ours[1..]);
    Ok(())
}

#[test]
fn a_pattern_that_matches_nothing_is_refused_with_the_nearest_names() {
    let error = tiny::run(2)
        .freeze("haed.*")
        .build()
        .expect_err("no such name");
    let text = error.to_string();
    assert!(
        text.starts_with("`freeze` is haed.*: no trained parameter") && text.contains("`head."),
        "{text}"
    );
    let error = tiny::run(2)
        .freeze("*")
        .build()
        .expect_err("nothing would train");
    assert!(
        error
            .to_string()
            .contains("would be frozen for the whole run"),
        "{error}"
    );
}
