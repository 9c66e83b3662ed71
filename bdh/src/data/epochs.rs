//! Training data from a function that makes an iterator for each epoch.

use super::TrainData;
use super::stream::flatten;
use crate::failure::BoxError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

type Batches<B> = Box<dyn Iterator<Item = Result<B, BoxError>> + Send>;
type Make<B> = Box<dyn Fn(u64) -> Batches<B> + Send>;

/// Endless training data of one iterator per epoch, made by [`epochs`].
pub struct Epochs<B> {
    make: Make<B>,
    batches_per_epoch: Option<u64>,
    next: Position,
    /// Rest of the epoch under way. Made when its first batch is due.
    batches: Option<Batches<B>>,
}

/// Place of the next batch, and the saved form of [`Epochs::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    epoch: u64,
    /// Batches of the epoch that were drawn.
    batch: u64,
}

/// Returns endless training data from a function that makes the batches of an epoch; the first epoch is 0.
///
/// The function must depend on nothing but the epoch: seed a shuffle with it. A resume calls it again for the saved epoch
/// and draws the batches before the saved one once more, which costs their time. Data that can seek is better off as
/// [`TrainData`] of its own. An epoch without batches is an error.
///
/// # Examples
///
/// ```
/// use bdh::data::{TrainData, epochs};
///
/// let mut data = epochs(|epoch| (0..3).map(move |batch| 10 * epoch + batch)).batches_per_epoch(3);
/// for expected in [0, 1, 2, 10, 11, 12, 20] {
///     assert_eq!(data.next_batch()?, expected);
/// }
/// # Ok::<(), bdh::BoxError>(())
/// ```
pub fn epochs<I>(make: impl Fn(u64) -> I + Send + 'static) -> Epochs<I::Item>
where
    I: IntoIterator<Item: 'static>,
    I::IntoIter: Send + 'static,
{
    Epochs::new(Box::new(move |epoch| {
        Box::new(make(epoch).into_iter().map(Ok))
    }))
}

impl<B> Epochs<B> {
    fn new(make: Make<B>) -> Self {
        Self {
            make,
            batches_per_epoch: None,
            next: Position { epoch: 0, batch: 0 },
            batches: None,
        }
    }

    /// Number of batches in every epoch, which cadences and durations in epochs need. Defaults to unknown.
    ///
    /// An epoch of another number of batches is an error.
    #[must_use]
    pub fn batches_per_epoch(mut self, batches: u64) -> Self {
        self.batches_per_epoch = Some(batches);
        self
    }

    /// Returns the next batch of the epoch under way, or `None` at its end.
    fn draw(&mut self) -> Result<Option<B>, BoxError> {
        let Position { epoch, batch } = self.next;
        let batches = self.batches.get_or_insert_with(|| (self.make)(epoch));
        let Some(drawn) = batches.next().transpose()? else {
            return Ok(None);
        };
        if let Some(known) = self.batches_per_epoch
            && batch == known
        {
            return Err(wrong_length(epoch, &format!("more than {batch}"), known));
        }
        self.next.batch += 1;
        Ok(Some(drawn))
    }

    /// Moves to the next epoch. Fails if the one before it had no batches, so the search for a batch always ends.
    fn end_epoch(&mut self) -> Result<(), BoxError> {
        self.batches = None;
        let Position { epoch, batch } = self.next;
        if batch == 0 {
            return Err(format!(
                "epoch {epoch} has no batches: the function of `epochs` must yield at least one an epoch"
            ).into());
        }
        if let Some(known) = self.batches_per_epoch
            && batch != known
        {
            return Err(wrong_length(epoch, &batch.to_string(), known));
        }
        self.next = Position {
            epoch: epoch + 1,
            batch: 0,
        };
        Ok(())
    }

    /// Makes the epoch of a saved position again, and skips the batches before the position.
    fn skip_to(&self, saved: Position) -> Result<Batches<B>, BoxError> {
        let mut batches = (self.make)(saved.epoch);
        for drawn in 0..saved.batch {
            if batches.next().transpose()?.is_none() {
                let Position { epoch, batch } = saved;
                return Err(format!(
                    "epoch {epoch} has {drawn} batches, and the saved position is after batch {batch}: resume with the same data"
                ).into());
            }
        }
        Ok(batches)
    }

    /// Checks that a saved position can exist, before any batch is drawn.
    fn check(&self, saved: Position) -> Result<(), BoxError> {
        let Position { epoch, batch } = saved;
        let longest = self.batches_per_epoch.unwrap_or(u64::MAX);
        if batch > longest || epoch > u64::MAX / 2 {
            // Epochs are numbered by a u64; only a damaged or crafted checkpoint is beyond half of them.
            let text =
                format!("the saved position, batch {batch} of epoch {epoch}, is out of range");
            return Err(text.into());
        }
        Ok(())
    }
}

/// Returns the error of an epoch whose number of batches differs from the one given.
fn wrong_length(epoch: u64, batches: &str, known: u64) -> BoxError {
    format!("epoch {epoch} has {batches} batches, and `batches_per_epoch` is {known}: give the right number, or none if epochs differ").into()
}

impl<B: 'static, E: Into<BoxError> + 'static> Epochs<Result<B, E>> {
    /// Ends the run with the error of an item, for iterators whose items are `Result`s.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::data::{TrainData, epochs};
    ///
    /// let mut data = epochs(|_| ["1", "2", "three"].map(str::parse::<u8>)).fallible();
    /// assert_eq!(data.next_batch()?, 1);
    /// assert_eq!(data.next_batch()?, 2);
    /// assert_eq!(data.next_batch().unwrap_err().to_string(), "invalid digit found in string");
    /// # Ok::<(), bdh::BoxError>(())
    /// ```
    #[must_use]
    pub fn fallible(self) -> Epochs<B> {
        let make = self.make;
        Epochs {
            make: Box::new(move |epoch| Box::new(make(epoch).map(flatten))),
            batches_per_epoch: self.batches_per_epoch,
            next: self.next,
            batches: None,
        }
    }
}

impl<B: Send + 'static> TrainData for Epochs<B> {
    type Batch = B;

    fn next_batch(&mut self) -> Result<B, BoxError> {
        loop {
            if let Some(batch) = self.draw()? {
                return Ok(batch);
            }
            self.end_epoch()?;
        }
    }

    fn batches_per_epoch(&self) -> Option<u64> {
        self.batches_per_epoch
    }

    fn state(&self) -> Value {
        json!(self.next)
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let saved = Position::deserialize(state)?;
        self.check(saved)?;
        self.batches = Some(self.skip_to(saved)?);
        self.next = saved;
        Ok(())
    }
}

impl<B> fmt::Debug for Epochs<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs")
            .field("batches_per_epoch", &self.batches_per_epoch)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(data: &mut Epochs<u64>, batches: usize) -> Vec<u64> {
        (0..batches)
            .map(|_| data.next_batch().expect("there is a batch"))
            .collect()
    }

    #[test]
    fn the_function_gets_the_number_of_each_epoch() {
        let mut data = epochs(|epoch| vec![epoch; 2]);
        assert_eq!(draw(&mut data, 5), [0, 0, 1, 1, 2]);
        assert_eq!(data.state(), json!({ "epoch": 2, "batch": 1 }));
    }

    #[test]
    fn epochs_may_differ_in_length_if_no_length_is_given() {
        let mut data = epochs(|epoch| 0..=epoch);
        assert_eq!(draw(&mut data, 6), [0, 0, 1, 0, 1, 2]);
        assert_eq!(TrainData::batches_per_epoch(&data), None);
    }

    #[test]
    fn an_epoch_without_batches_is_an_error_each_time() {
        let mut data = epochs(|epoch| 0..1 - epoch.min(1));
        assert_eq!(draw(&mut data, 1), [0]);
        for _ in 0..2 {
            let error = data.next_batch().expect_err("no batch");
            assert_eq!(
                error.to_string(),
                "epoch 1 has no batches: the function of `epochs` must yield at least one an epoch"
            );
        }
    }

    #[test]
    fn epochs_of_another_length_than_given_are_errors() {
        let mut short = epochs(|_| 0..2).batches_per_epoch(3);
        draw(&mut short, 2);
        assert_eq!(
            short.next_batch().expect_err("no batch").to_string(),
            "epoch 0 has 2 batches, and `batches_per_epoch` is 3: give the right number, or none if epochs differ"
        );

        let mut endless = epochs(|_| 0..).batches_per_epoch(3);
        draw(&mut endless, 3);
        assert_eq!(
            endless.next_batch().expect_err("no batch").to_string(),
            "epoch 0 has more than 3 batches, and `batches_per_epoch` is 3: give the right number, or none if epochs differ"
        );
    }

    #[test]
    fn positions_that_do_not_exist_are_refused() {
        let refused = |mut data: Epochs<u64>, saved: Value| {
            let error = data.load_state(&saved).expect_err("no such position");
            assert_eq!(data.state(), json!({ "epoch": 0, "batch": 0 }));
            assert_eq!(draw(&mut data, 1), [0], "the data is as it was");
            error.to_string()
        };
        assert_eq!(
            refused(epochs(|_| 0..3), json!({ "epoch": 7, "batch": 4 })),
            "epoch 7 has 3 batches, and the saved position is after batch 4: resume with the same data"
        );
        assert_eq!(
            refused(
                epochs(|_| 0..).batches_per_epoch(3),
                json!({ "epoch": 0, "batch": u64::MAX })
            ),
            "the saved position, batch 18446744073709551615 of epoch 0, is out of range"
        );
        assert_eq!(
            refused(epochs(|_| 0..3), json!({ "epoch": u64::MAX, "batch": 0 })),
            "the saved position, batch 0 of epoch 18446744073709551615, is out of range"
        );
        assert!(!refused(epochs(|_| 0..3), json!(null)).is_empty());
    }

    #[test]
    fn errors_of_items_end_the_run_and_the_resume() {
        let make = || epochs(|_| [Ok(1), Err("a file is missing"), Ok(2)]).fallible();
        let mut data = make();
        assert_eq!(draw(&mut data, 1), [1]);
        assert_eq!(
            data.next_batch().expect_err("no batch").to_string(),
            "a file is missing"
        );
        assert_eq!(data.state(), json!({ "epoch": 0, "batch": 1 }));

        let error = make().load_state(&json!({ "epoch": 0, "batch": 2 }));
        assert_eq!(
            error.expect_err("no batch").to_string(),
            "a file is missing"
        );
    }

    #[test]
    fn settings_survive_fallible() {
        let data = epochs(|_| [Ok::<_, BoxError>(1)])
            .batches_per_epoch(1)
            .fallible();
        assert_eq!(TrainData::batches_per_epoch(&data), Some(1));
    }
}
