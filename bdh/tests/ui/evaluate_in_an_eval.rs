use bdh::{Callback, EvalEnd, HookResult, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        at.evaluate();
//         ^ no method named `evaluate` found
        Ok(())
    }
}
