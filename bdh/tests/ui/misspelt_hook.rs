use bdh::{Callback, HookResult, callback};
use bdh::hooks::AfterBackward;

struct Watch;

#[callback]
impl Callback for Watch {
    fn after_backwards(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
//  ^ method `after_backwards` is not a member of trait `Callback`
        Ok(())
    }
}
