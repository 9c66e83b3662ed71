use bdh::{Callback, HookResult, callback};
use bdh::hooks::EvalEnd;

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        ctx.evaluate();
//          ^ no method named `evaluate` found
        Ok(())
    }
}
