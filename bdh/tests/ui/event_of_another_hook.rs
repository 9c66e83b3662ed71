use bdh::{Callback, HookResult, callback};
use bdh::hooks::AfterBackward;

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_step(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
//                             ^ method `on_step` has an incompatible type for trait
        Ok(())
    }
}
