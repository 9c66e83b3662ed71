//! Correct callback: if this case does not compile, the errors of the other cases prove nothing.

use bdh::{Callback, HookResult, callback};
use bdh::checkpoint::CheckpointRequest;
use bdh::hooks::{AfterBackward, StepEnd};

struct Watch;

#[callback]
impl Callback for Watch {
    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        ctx.log("grad_norm", ctx.gradients.l2());
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        ctx.evaluate();
        ctx.checkpoint(CheckpointRequest { name: "precious".to_owned(), pinned: true });
        ctx.stop("enough");
        Ok(())
    }
}
