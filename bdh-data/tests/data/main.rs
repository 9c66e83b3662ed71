//! The promises of the text data, through the public door.

mod corpora;
mod downloads;
mod mistakes;
mod packing;
mod tokenizers;
