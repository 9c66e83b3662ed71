//! The place of the model that is trained.

use std::ops::Deref;

/// A model that steps change in place: they take it out, and put it back.
///
/// A copy would keep the old weights alive, and the optimizer from working in place. The slot is empty only during a
/// change, and for good after a change that failed or panicked.
pub(super) struct ModelSlot<M>(Option<M>);

/// Nothing that runs during a change, or after one that failed, asks for the model.
const IS_IN: &str = "the model is in its slot except during a change";

impl<M> ModelSlot<M> {
    pub(super) fn new(model: M) -> Self {
        Self(Some(model))
    }

    /// The model, unless a change failed.
    pub(super) fn get(&self) -> Option<&M> {
        self.0.as_ref()
    }

    /// Changes the model; the second value is handed out.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(M) -> (M, R)) -> R {
        let (model, result) = change(self.0.take().expect(IS_IN));
        self.0 = Some(model);
        result
    }

    /// Changes the model, unless that fails: then it is gone.
    pub(super) fn try_change<E>(
        &mut self,
        change: impl FnOnce(M) -> Result<M, E>,
    ) -> Result<(), E> {
        self.0 = Some(change(self.0.take().expect(IS_IN))?);
        Ok(())
    }

    /// Puts another model in its place, and gives this one back.
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
