use bdh::{AfterBackward, Callback, HookResult, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_step(&mut self, at: &AfterBackward<'_>) -> HookResult {
//                            ^ method `on_step` has an incompatible type for trait
        Ok(())
    }
}
