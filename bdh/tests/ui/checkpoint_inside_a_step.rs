use bdh::{BeforeOptimizerStep, Callback, CheckpointRequest, HookResult, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn before_optimizer_step(&mut self, at: &BeforeOptimizerStep<'_>) -> HookResult {
        at.checkpoint(CheckpointRequest { name: "now".to_owned(), pinned: true });
//         ^ no method named `checkpoint` found
        Ok(())
    }
}
