use bdh::cadence::every;
use bdh::testing::{CallbackCheck, HookLog, tiny_run};
use bdh::{BoxError, MemorySink};
use bdh_smooth_loss::SmoothLoss;

#[test]
fn smooth_loss_conforms() {
    CallbackCheck::of(|| SmoothLoss::default().on(every(5)))
        .by_name("smooth_loss", "on = 5")
        .conforms();
}

#[test]
fn smooth_loss_is_called_on_every_step() -> Result<(), BoxError> {
    let hooks = HookLog::default();
    tiny_run(3)
        .callback(hooks.of(SmoothLoss::default()))
        .build()?
        .fit()?;
    hooks.expect("1: on_step  2: on_step  3: on_step");
    Ok(())
}

#[test]
fn average_is_that_of_the_losses() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let mut half = SmoothLoss::default().on(every(2));
    half.decay = 0.5;
    tiny_run(2)
        .sink(memory.clone())
        .callback(half)
        .build()?
        .fit()?;
    let losses = memory.series("train/loss");
    let average = 0.5 * losses[0].1 + 0.5 * losses[1].1;
    assert_eq!(memory.series("train/loss_smooth"), [(2, average)]);
    Ok(())
}
