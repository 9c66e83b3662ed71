use bdh::{HookResult, StepEnd, callback};

struct Watch;

#[callback]
impl Watch {
//   ^ #[callback] goes on `impl Callback for …`, where the hooks are written
    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        Ok(())
    }
}
