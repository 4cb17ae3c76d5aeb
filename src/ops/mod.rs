//! ops
pub mod changes;
pub mod config;
pub mod exec;
pub mod ledger;
