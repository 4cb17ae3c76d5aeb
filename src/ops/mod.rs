//! ops
pub mod config;
pub mod doctor;
pub mod exec;
