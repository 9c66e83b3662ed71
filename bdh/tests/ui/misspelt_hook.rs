use bdh::{AfterBackward, Callback, HookResult, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn after_backwards(&mut self, at: &AfterBackward<'_>) -> HookResult {
//  ^ method `after_backwards` is not a member of trait `Callback`
        Ok(())
    }
}
