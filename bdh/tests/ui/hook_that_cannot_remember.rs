use bdh::{Callback, HookResult, StepEnd, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_step(&self, at: &StepEnd<'_>) -> HookResult {
//             ^ method `on_step` has an incompatible type for trait
        Ok(())
    }
}
