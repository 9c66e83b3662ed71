//! A complete run that is started again leaves the files of all sinks as they are.
#![cfg(all(feature = "tensorboard", feature = "wandb"))]

#[path = "../../bdh/tests/support/snapshot.rs"]
mod snapshot;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{every, last};
use bdh::{BoxError, Outcome};
use bdh_callbacks::wandb::Mode;
use bdh_callbacks::{Checkpoints, Console, Norms, TensorBoard, Wandb};
use snapshot::snapshot;

#[test]
fn files_of_every_sink_stay_as_they_are() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let scratch = tempfile::tempdir()?;
    let run = || {
        tiny::run(6)
            .eval(every(2))
            .checkpoint(last())
            .run_dir(scratch.path().join("run"))
            .resume("auto")
            .callback(Norms::default())
            .callback(Checkpoints::default())
            .sink(Console::default())
            .sink(TensorBoard::default())
            .sink(Wandb::from_env().mode(Mode::Offline))
    };
    let first = run().build()?.fit()?;
    assert_eq!(first.warnings, []);
    let before = snapshot(scratch.path());
    assert!(before.len() > 10, "{before:?}");
    let again = run().build()?.fit()?;
    assert_eq!(again.outcome, Outcome::Completed);
    assert_eq!(snapshot(scratch.path()), before);
    Ok(())
}
