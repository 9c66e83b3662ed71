//! The slot that holds the trained model.

use std::ops::Deref;

/// A model that each step takes out, changes and puts back.
///
/// A copy would keep the old weights alive, so the optimizer could not work in place. The slot is empty only during a
/// change, and stays empty after a change that failed or panicked.
pub(super) struct ModelSlot<M>(Option<M>);

/// Guarantee behind the panics below: no code that runs during a change, or after a failed one, uses the model.
const IS_IN: &str = "the model is in its slot except during a change";

impl<M> ModelSlot<M> {
    pub(super) fn new(model: M) -> Self {
        Self(Some(model))
    }

    /// Returns the model, unless a change failed.
    pub(super) fn get(&self) -> Option<&M> {
        self.0.as_ref()
    }

    /// Changes the model. Returns the second value of the closure.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(M) -> (M, R)) -> R {
        let (model, result) = change(self.0.take().expect(IS_IN));
        self.0 = Some(model);
        result
    }

    /// Changes the model. If the change fails, the model is lost.
    pub(super) fn try_change<E>(
        &mut self,
        change: impl FnOnce(M) -> Result<M, E>,
    ) -> Result<(), E> {
        self.0 = Some(change(self.0.take().expect(IS_IN))?);
        Ok(())
    }

    /// Puts another model in the slot. Returns the previous one.
    pub(super) fn replace(&mut self, model: M) -> M {
        self.0.replace(model).expect(IS_IN)
    }

    pub(super) fn into_inner(self) -> M {
        self.0.expect(IS_IN)
    }
}

impl<M> Deref for ModelSlot<M> {
    type Target = M;

    fn deref(&self) -> &M {
        self.0.as_ref().expect(IS_IN)
    }
}
