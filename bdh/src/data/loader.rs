//! Datasets and data loaders of burn, as data of a run.

mod burn_loader;
mod caught;
mod dataset_loader;
mod pass;
mod reader;
mod recipe;
mod share;

pub use burn_loader::{BurnLoader, burn_loader};
pub use dataset_loader::DatasetLoader;
