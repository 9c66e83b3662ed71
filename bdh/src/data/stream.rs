//! Evaluation data from a function that makes an iterator.

use super::EvalData;
use crate::failure::BoxError;
use std::fmt;

type Batches<B> = Box<dyn Iterator<Item = Result<B, BoxError>>>;
type Make<B> = Box<dyn Fn() -> Batches<B> + Send>;

/// Evaluation data of one iterator per eval, made by [`stream`].
pub struct Stream<B> {
    make: Make<B>,
    num_batches: Option<usize>,
}

/// Returns evaluation data from a function that makes an iterator over its batches, which is called at each eval.
///
/// One batch is in memory at a time. The function must make the same batches each time, so that evals can be compared.
///
/// # Examples
///
/// ```
/// use bdh::data::{EvalData, stream};
///
/// let data = stream(|| (0..3).map(|batch| vec![batch; 1000])).num_batches(3);
/// for _ in 0..2 {
///     assert_eq!(data.batches().count(), 3); // an eval begins anew
/// }
/// ```
pub fn stream<I>(make: impl Fn() -> I + Send + 'static) -> Stream<I::Item>
where
    I: IntoIterator<Item: 'static>,
    I::IntoIter: 'static,
{
    Stream {
        make: Box::new(move || Box::new(make().into_iter().map(Ok))),
        num_batches: None,
    }
}

impl<B> Stream<B> {
    /// Number of batches, for progress bars. Defaults to unknown.
    #[must_use]
    pub fn num_batches(mut self, batches: usize) -> Self {
        self.num_batches = Some(batches);
        self
    }
}

impl<B: 'static, E: Into<BoxError> + 'static> Stream<Result<B, E>> {
    /// Ends the run with the error of an item, for iterators whose items are `Result`s.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::data::{EvalData, stream};
    ///
    /// let data = stream(|| ["1", "two"].map(str::parse::<u8>)).fallible();
    /// let mut batches = data.batches();
    /// assert_eq!(batches.next().transpose()?, Some(1));
    /// assert!(batches.next().is_some_and(|batch| batch.is_err()));
    /// # Ok::<(), bdh::BoxError>(())
    /// ```
    #[must_use]
    pub fn fallible(self) -> Stream<B> {
        let make = self.make;
        Stream {
            make: Box::new(move || Box::new(make().map(flatten))),
            num_batches: self.num_batches,
        }
    }
}

/// Returns the batch of an item that is a `Result` itself, or the error of either.
pub(super) fn flatten<B, E: Into<BoxError>>(
    item: Result<Result<B, E>, BoxError>,
) -> Result<B, BoxError> {
    item?.map_err(Into::into)
}

impl<B: Send + 'static> EvalData for Stream<B> {
    type Batch = B;

    fn batches(&self) -> Box<dyn Iterator<Item = Result<B, BoxError>> + '_> {
        (self.make)()
    }

    fn num_batches(&self) -> Option<usize> {
        self.num_batches
    }
}

impl<B> fmt::Debug for Stream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("num_batches", &self.num_batches)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn each_eval_begins_anew_and_draws_only_the_batches_it_takes() {
        let drawn = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&drawn);
        let data = stream(move || {
            let counter = Arc::clone(&counter);
            (0..10).inspect(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            })
        });
        let first = |batches: usize| -> Vec<i32> {
            let taken = data.batches().take(batches);
            taken.collect::<Result<_, _>>().expect("no batch fails")
        };
        assert_eq!(first(2), [0, 1]);
        assert_eq!(first(3), [0, 1, 2]);
        assert_eq!(drawn.load(Ordering::Relaxed), 5);
        assert!(data.in_memory().is_empty());
    }

    #[test]
    fn the_number_of_batches_is_known_if_it_is_given() {
        let data = stream(|| 0..3);
        assert_eq!(EvalData::num_batches(&data), None);
        let data = stream(|| [Ok::<_, BoxError>(0)]).num_batches(1).fallible();
        assert_eq!(EvalData::num_batches(&data), Some(1));
    }

    #[test]
    fn errors_of_items_come_with_their_text() {
        let data = stream(|| [Ok(1), Err("a file is missing")]).fallible();
        let texts: Vec<_> = data
            .batches()
            .map(|batch| batch.map_err(|error| error.to_string()))
            .collect();
        assert_eq!(texts, [Ok(1), Err("a file is missing".to_owned())]);
    }
}
