use bdh::{Callback, HookResult, callback};
use bdh::hooks::FitEnd;

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_fit_end(&mut self, ctx: &FitEnd<'_>) -> HookResult {
        ctx.stop("it is late");
//          ^ no method named `stop` found
        Ok(())
    }
}
