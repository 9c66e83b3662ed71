use bdh::{Callback, callback};
use bdh::hooks::StepEnd;

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_step(&mut self, ctx: &StepEnd<'_>) {}
//                                          ^ method `on_step` has an incompatible type for trait
}
