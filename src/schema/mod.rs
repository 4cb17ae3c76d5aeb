//! Versioned types of the JSON output and of the records on disk. No logic, no I/O.
//!
//! Conventions: snake_case keys, every key always present (`null` when absent), sizes in bytes,
//! durations in integer milliseconds with `_ms` in the name, times in RFC 3339 UTC, ids in full.
#![forbid(unsafe_code)]

pub mod changes;
pub mod discard;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod files;
pub mod fork;
pub mod gc;
pub mod jail;
pub mod job;
pub mod ledger;
pub mod pause;
pub mod policy;
pub mod stats;
pub mod top;
pub mod volume;
pub mod workspace;
