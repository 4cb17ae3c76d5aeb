//! Files: the state directory, the spool that the hot path appends to, the ledger that readers fold
//! it into, and the trees of one-shot overlays.
//!
//! Start reading at [`layout`] (what lies where), then [`spool`] (what `aj exec` writes) and
//! [`ledger`] (what `aj jail` reads). Nothing here prints; repairs are told to a
//! [`Monitor`](crate::monitor::Monitor).
#![forbid(unsafe_code)]

pub mod again;
pub mod alive;
pub mod applied;
pub mod atomic;
pub mod began;
#[cfg(test)]
mod damage_tests;
mod database;
mod dirfd;
pub mod edit;
mod error;
pub(crate) mod fault;
mod filed;
mod fold;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod gc;
pub mod gone;
pub mod jobs;
pub mod kept;
pub mod layout;
pub mod ledger;
#[cfg(test)]
mod ledger_tests;
pub mod live;
pub mod lock;
mod named;
pub mod origin;
pub mod paused;
pub mod peek;
pub mod planted;
mod query;
pub mod quota;
pub mod refill;
mod remove;
pub mod sides;
mod spare;
pub mod spool;
pub mod sweep;
#[cfg(test)]
pub(crate) mod testing;
pub mod trees;
pub mod trim;
pub mod used;
pub mod volumes;
pub mod whiteout;
pub mod workspaces;

pub use error::{Error, Result};
