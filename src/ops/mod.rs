//! ops
pub mod config;
pub mod exec;
