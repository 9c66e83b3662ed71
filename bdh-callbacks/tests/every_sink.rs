//! The suite that every sink passes: ours, and those that people write.

use bdh::testing::sink_conforms;
use bdh::{Jsonl, MemorySink};
use bdh_callbacks::Console;

#[test]
fn jsonl_conforms() {
    sink_conforms(|_| Jsonl::default());
}

#[test]
fn the_memory_conforms() {
    sink_conforms(|_| MemorySink::default());
}

#[test]
fn the_console_conforms() {
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
