use bdh::{AfterBackward, Callback, HookResult, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        at.stop("these gradients look bad");
//         ^ no method named `stop` found
        Ok(())
    }
}
