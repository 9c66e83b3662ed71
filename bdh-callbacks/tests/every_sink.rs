//! Checks of `bdh::testing` for every sink of the crate.

use bdh::testing::sink_conforms;
use bdh::{Jsonl, MemorySink};
use bdh_callbacks::Console;

#[test]
fn jsonl_conforms() {
    sink_conforms(|_| Jsonl::default());
}

#[test]
fn memory_conforms() {
    sink_conforms(|_| MemorySink::default());
}

#[test]
fn console_conforms() {
    sink_conforms(|_| Console::default().line_every(1));
}

#[test]
#[cfg(feature = "tensorboard")]
fn tensorboard_conforms() {
    use bdh_callbacks::{Layout, TensorBoard};
    let layout = Layout::default().lines("loss", "both", ["train/loss", "val/loss"]);
    sink_conforms(|_| TensorBoard::default().layout(layout.clone()));
}

#[test]
#[cfg(feature = "wandb")]
fn wandb_conforms_offline_and_disabled() {
    use bdh_callbacks::Wandb;
    use bdh_callbacks::wandb::Mode;
    sink_conforms(|_| Wandb::from_env().mode(Mode::Offline));
    sink_conforms(|_| Wandb::from_env().mode(Mode::Offline).run_id("mine"));
    sink_conforms(|_| Wandb::from_env().mode(Mode::Disabled));
}
