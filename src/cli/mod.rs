//! The command line: one file per command, each a clap `Args` (doc comment = help) and `run`.
#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod exit;
pub mod policy_flags;
pub mod ui;
