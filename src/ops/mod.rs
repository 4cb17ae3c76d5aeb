//! ops
pub mod config;
