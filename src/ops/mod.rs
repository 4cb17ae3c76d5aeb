//! ops
pub mod changes;
pub mod config;
pub mod doctor;
pub mod exec;
pub mod ledger;
pub mod project;
pub mod secrets;
pub mod tools;
