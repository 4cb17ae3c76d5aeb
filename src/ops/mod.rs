//! ops
pub mod caches;
pub mod changes;
pub mod config;
pub mod discard;
pub mod doctor;
pub mod exec;
pub mod files;
mod keep;
pub mod ledger;
pub mod pause;
pub mod project;
pub mod repository;
pub mod screen;
pub mod secrets;
pub mod stats;
pub mod tools;
pub mod top;
pub mod workspaces;
