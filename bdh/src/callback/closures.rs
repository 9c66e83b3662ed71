//! Callbacks of one hook, made of a closure.

use super::Callback;
use crate::callback;
use crate::failure::HookResult;
use crate::hook::hook_table;

macro_rules! closures {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        #[doc = concat!("Makes a callback of a closure that is called at [`", stringify!($method), "`](Callback::", stringify!($method), ").")]
        ///
        /// It acts on every step, and a run takes one of its name: [`every`](crate::Attach::every) and
        /// [`named`](crate::Attach::named) change that.
        pub fn $method<F: FnMut(&crate::event::$event<'_>) -> HookResult + Send>(hook: F) -> impl Callback {
            struct Closure<F>(F);

            #[callback]
            impl<F: FnMut(&crate::event::$event<'_>) -> HookResult + Send> Callback for Closure<F> {
                fn name(&self) -> String {
                    stringify!($method).to_owned()
                }

                fn $method(&mut self, at: &crate::event::$event<'_>) -> HookResult {
                    (self.0)(at)
                }
            }

            Closure(hook)
        }
    )+};
}

hook_table!(closures);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::every;
    use crate::callback::Attach;

    #[test]
    fn a_closure_has_the_one_hook_that_it_is_named_after() {
        let stop = on_step(|at| {
            at.stop("enough");
            Ok(())
        });
        assert_eq!(
            (stop.name(), stop.hooks().to_string()),
            ("on_step".into(), "on_step".into())
        );
        let norm = after_backward(|at| {
            at.log("norm", at.gradients.l2());
            Ok(())
        });
        let norm = norm.every(every(10)).named("norm");
        assert_eq!(
            (norm.name(), norm.hooks().to_string()),
            ("norm".into(), "after_backward".into())
        );
    }
}
