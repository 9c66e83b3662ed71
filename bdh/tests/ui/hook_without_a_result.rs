use bdh::{Callback, StepEnd, callback};

struct Watch;

#[callback]
impl Callback for Watch {
    fn on_step(&mut self, at: &StepEnd<'_>) {}
//                                         ^ method `on_step` has an incompatible type for trait
}
