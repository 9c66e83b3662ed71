//! The search space: all parameters of a sweep.

use crate::distribution::Distribution;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

/// The parameters of a sweep, each a dimension of the unit cube, in alphabetical order.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Paths of names, and distributions.
    dimensions: Vec<(Vec<String>, Distribution)>,
}

/// A parameter whose values cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "method `grid` cannot count the values of `{name}`: give it `values`, whole `min` and `max`, or \
     `distribution: q_uniform`"
)]
pub struct GridError {
    /// Name of the parameter, behind the names above it.
    pub name: String,
}

impl Space {
    pub(crate) fn new(dimensions: Vec<(Vec<String>, Distribution)>) -> Self {
        Self { dimensions }
    }

    /// Number of dimensions to search, without constant parameters.
    #[must_use]
    pub fn len(&self) -> usize {
        let constant = self
            .dimensions
            .iter()
            .filter(|(_, values)| values.is_constant());
        self.dimensions.len() - constant.count()
    }

    /// Whether there is nothing to search.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the values at a point of the unit cube, with one coordinate for each dimension to search.
    ///
    /// Nested parameters are nested objects.
    #[must_use]
    pub fn at(&self, point: &[f64]) -> Map<String, Value> {
        let mut coordinates = point.iter();
        let mut all = Map::new();
        for (path, distribution) in &self.dimensions {
            let p = if distribution.is_constant() {
                None
            } else {
                coordinates.next()
            };
            insert(&mut all, path, distribution.value(*p.unwrap_or(&0.5)));
        }
        all
    }

    /// Returns the random point of trial `index`, from 0, of the sweep with this seed.
    #[must_use]
    pub fn random_point(&self, seed: u64, index: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        (0..self.len()).map(|_| rng.random()).collect()
    }

    /// Returns the values at the random point of trial `index`, from 0, of the sweep with this seed.
    #[must_use]
    pub fn random(&self, seed: u64, index: u64) -> Map<String, Value> {
        self.at(&self.random_point(seed, index))
    }

    /// Returns all combinations of values, the last parameter varying fastest.
    ///
    /// # Errors
    ///
    /// If the values of a parameter cannot be counted.
    pub fn grid(&self) -> Result<Grid<'_>, GridError> {
        let mut counts = Vec::with_capacity(self.dimensions.len());
        let mut count: u64 = 1;
        for (path, distribution) in &self.dimensions {
            let Some(values) = distribution.grid_len() else {
                let name = path.join(".");
                return Err(GridError { name });
            };
            counts.push(values);
            count = count.saturating_mul(values);
        }
        Ok(Grid {
            space: self,
            counts,
            count,
            next: 0,
        })
    }
}

/// Puts a value where its path leads.
fn insert(into: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => drop(into.insert(name.clone(), value)),
        [name, rest @ ..] => {
            let below = into
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

/// The combinations of a grid, in order; `nth` takes constant time.
#[derive(Debug)]
pub struct Grid<'a> {
    space: &'a Space,
    /// Number of values of each parameter.
    counts: Vec<u64>,
    count: u64,
    next: u64,
}

impl Grid<'_> {
    /// Returns the combination with this index, from 0.
    fn combination(&self, index: u64) -> Map<String, Value> {
        // The last parameter varies fastest, so its index is the last digit.
        let mut rest = index;
        let mut indices = vec![0; self.counts.len()];
        for (digit, count) in indices.iter_mut().zip(&self.counts).rev() {
            *digit = rest % count;
            rest /= count;
        }
        let mut all = Map::new();
        for ((path, distribution), index) in self.space.dimensions.iter().zip(indices) {
            insert(&mut all, path, distribution.grid_value(index));
        }
        all
    }
}

impl Iterator for Grid<'_> {
    type Item = Map<String, Value>;

    fn next(&mut self) -> Option<Self::Item> {
        self.nth(0)
    }

    fn nth(&mut self, skipped: usize) -> Option<Self::Item> {
        let number = self.next.saturating_add(skipped as u64);
        self.next = number.saturating_add(1).min(self.count);
        (number < self.count).then(|| self.combination(number))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.count - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Grid<'_> {}
