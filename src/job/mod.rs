//! Jobs: the log of a command in the background, and when it is ready.
//!
//! `frame` is what a record looks like, `segments` where records lie, `write` and `read`
//! add and follow them, [`watch`] waits for more. [`ready`] says when a job is ready.
#![forbid(unsafe_code)]

mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod read;
pub mod ready;
mod segments;
pub mod watch;
pub mod write;

pub use frame::{Entry, Stream};
pub use segments::Key;

#[cfg(test)]
mod log_tests;
