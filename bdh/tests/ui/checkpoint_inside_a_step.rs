use bdh::{Callback, HookResult, callback};
use bdh::checkpoint::CheckpointRequest;
use bdh::hooks::BeforeOptimizerStep;

struct Watch;

#[callback]
impl Callback for Watch {
    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        ctx.checkpoint(CheckpointRequest { name: "now".to_owned(), pinned: true });
//          ^ no method named `checkpoint` found
        Ok(())
    }
}
