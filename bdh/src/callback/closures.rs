//! Callbacks made from a closure, one function for each hook.

use super::Callback;
use crate::callback;
use crate::failure::HookResult;
use crate::hook::hook_table;

macro_rules! closures {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        #[doc = concat!("Makes a callback that calls a closure in the hook [`", stringify!($method), "`](Callback::", stringify!($method), ").")]
        ///
        #[doc = concat!("The callback is named `", stringify!($method), "` and acts on every step; [`named`](crate::CallbackExt::named) and")]
        /// [`on`](crate::CallbackExt::on) change that. Two callbacks of a run need two names.
        pub fn $method<F: FnMut(&crate::event::$event<'_>) -> HookResult + Send>(hook: F) -> impl Callback {
            struct Closure<F>(F);

            #[callback]
            impl<F: FnMut(&crate::event::$event<'_>) -> HookResult + Send> Callback for Closure<F> {
                fn name(&self) -> String {
                    stringify!($method).to_owned()
                }

                fn $method(&mut self, ctx: &crate::event::$event<'_>) -> HookResult {
                    (self.0)(ctx)
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
    use crate::callback::CallbackExt;

    #[test]
    fn closure_callback_has_the_hook_of_its_name() {
        let stop = on_step(|ctx| {
            ctx.stop("enough");
            Ok(())
        });
        assert_eq!(
            (stop.name(), stop.hooks().to_string()),
            ("on_step".into(), "on_step".into())
        );
        let norm = after_backward(|ctx| {
            ctx.log("norm", ctx.gradients.l2());
            Ok(())
        });
        let norm = norm.on(every(10)).named("norm");
        assert_eq!(
            (norm.name(), norm.hooks().to_string()),
            ("norm".into(), "after_backward".into())
        );
    }
}
