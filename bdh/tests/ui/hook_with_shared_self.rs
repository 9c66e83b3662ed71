use bdh::{Callback, HookResult, callback};
use bdh::hooks::StepEnd;

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_step(&self, ctx: &StepEnd<'_>) -> HookResult {
//             ^ method `on_step` has an incompatible type for trait
        Ok(())
    }
}
