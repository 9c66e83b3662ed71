//! TensorBoard event files, written without TensorFlow: by a sink of [`bdh`], or by any program.
//!
//! [`EventWriter`] works without a trainer. The sink `TensorBoard` needs the feature `sink`; without that feature
//! neither bdh nor burn is compiled.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `sink` | `TensorBoard`, a sink for the runs of bdh | yes |

#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "sink"), doc = "\n[`bdh`]: https://crates.io/crates/bdh")]

mod event_file;
mod events;
mod layout;
mod markdown;
mod png;
mod proto;
mod shown;
#[cfg(feature = "sink")]
mod sink;
mod summary;
mod writer;

pub use layout::Layout;
pub use shown::Shown;
#[cfg(feature = "sink")]
pub use sink::TensorBoard;
pub use writer::EventWriter;
