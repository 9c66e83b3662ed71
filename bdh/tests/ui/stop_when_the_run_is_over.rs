use bdh::{Callback, FitEnd, HookResult, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_fit_end(&mut self, at: &FitEnd<'_>) -> HookResult {
        at.stop("it is late");
//         ^ no method named `stop` found
        Ok(())
    }
}
