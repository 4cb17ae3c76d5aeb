//! ops
pub mod caches;
pub mod changes;
pub mod config;
pub mod discard;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod files;
pub mod gc;
mod inside;
pub mod jobs;
mod keep;
pub mod ledger;
pub mod pause;
pub mod project;
pub mod ps;
pub mod repository;
pub mod screen;
pub mod secrets;
pub mod side_by_side;
pub mod stats;
pub mod tools;
pub mod top;
pub mod volumes;
pub mod workspaces;

/// Make what is the caller's and not ours, with the caller's umask.
pub use crate::sys::umask::with_callers as with_umask;
