use bdh::{HookResult, callback};
use bdh::hooks::StepEnd;

struct Watch;

#[callback]
impl Watch {
//   ^ #[callback] belongs on `impl Callback for …`, the block with the hooks
    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        Ok(())
    }
}
