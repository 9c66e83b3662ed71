//! All parameters of a sweep together.

use crate::distribution::Distribution;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

/// The parameters of a sweep, each a dimension of the unit cube, in alphabetical order.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    dimensions: Vec<(Vec<String>, Distribution)>,
}

/// A parameter whose values cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "method `grid` cannot count the values of `{name}`: give it `values`, whole `min` and `max`, or \
     `distribution: q_uniform`"
)]
pub struct GridError {
    /// The parameter, with the names above it.
    pub name: String,
}

impl Space {
    pub(crate) fn new(dimensions: Vec<(Vec<String>, Distribution)>) -> Self {
        Self { dimensions }
    }

    /// Dimensions in which there is something to search.
    #[must_use]
    pub fn len(&self) -> usize {
        self.searched().count()
    }

    /// Whether there is nothing to search.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn searched(&self) -> impl Iterator<Item = &Distribution> {
        self.dimensions
            .iter()
            .map(|(_, values)| values)
            .filter(|values| !values.is_constant())
    }

    /// The values at a point of the unit cube, one number for each dimension in which there is something to search;
    /// parameters below parameters are objects below objects.
    #[must_use]
    pub fn at(&self, point: &[f64]) -> Map<String, Value> {
        let mut point = point.iter();
        let values = self.dimensions.iter().map(|(_, distribution)| {
            let p = if distribution.is_constant() {
                None
            } else {
                point.next()
            };
            distribution.value(p.copied().unwrap_or(0.5))
        });
        self.named(values)
    }

    /// A random point of the unit cube: that of trial `index`, from 0, of the sweep with this seed.
    #[must_use]
    pub fn random_point(&self, seed: u64, index: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        (0..self.len()).map(|_| rng.random()).collect()
    }

    /// The values at that point.
    #[must_use]
    pub fn random(&self, seed: u64, index: u64) -> Map<String, Value> {
        self.at(&self.random_point(seed, index))
    }

    /// Every combination, the last parameter varying fastest.
    ///
    /// # Errors
    ///
    /// If the values of a parameter cannot be counted.
    pub fn grid(&self) -> Result<Grid<'_>, GridError> {
        let counts = self.dimensions.iter().map(|(path, distribution)| {
            distribution.grid_len().ok_or_else(|| GridError {
                name: path.join("."),
            })
        });
        let counts: Vec<u64> = counts.collect::<Result<_, _>>()?;
        let count = counts
            .iter()
            .fold(1_u64, |all, count| all.saturating_mul(*count));
        Ok(Grid {
            space: self,
            counts,
            count,
            next: 0,
        })
    }

    fn named(&self, values: impl Iterator<Item = Value>) -> Map<String, Value> {
        let mut all = Map::new();
        for ((path, _), value) in self.dimensions.iter().zip(values) {
            insert(&mut all, path, value);
        }
        all
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

/// The combinations of a grid, in order; `nth` goes to any of them at once.
#[derive(Debug)]
pub struct Grid<'a> {
    space: &'a Space,
    /// Values of each parameter.
    counts: Vec<u64>,
    count: u64,
    next: u64,
}

impl Grid<'_> {
    /// The combination with this number, from 0.
    fn combination(&self, number: u64) -> Map<String, Value> {
        let mut rest = number;
        let dimensions = self.space.dimensions.iter().zip(&self.counts).rev();
        let mut values: Vec<_> = dimensions
            .map(|((_, distribution), count)| {
                let value = distribution.grid_value(rest % count);
                rest /= count;
                value
            })
            .collect();
        values.reverse();
        self.space.named(values.into_iter())
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
