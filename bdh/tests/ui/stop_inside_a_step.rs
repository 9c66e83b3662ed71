use bdh::{Callback, HookResult, callback};
use bdh::hooks::AfterBackward;

struct Watch;

#[callback]
impl Callback for Watch {
    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        ctx.stop("these gradients look bad");
//          ^ no method named `stop` found
        Ok(())
    }
}
