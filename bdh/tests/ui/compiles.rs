//! What the other cases get wrong, done right: if this does not compile, the others say nothing.

use bdh::{AfterBackward, Callback, CheckpointRequest, HookResult, StepEnd, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        at.log("grad_norm", at.gradients.l2());
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        at.evaluate();
        at.checkpoint(CheckpointRequest { name: "precious".to_owned(), pinned: true });
        at.stop("enough");
        Ok(())
    }
}
