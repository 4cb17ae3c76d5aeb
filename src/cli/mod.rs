//! The command line: one file per command, each a clap `Args` (doc comment = help) and `run`.
#![forbid(unsafe_code)]

pub mod apply;
mod changes;
pub mod diff;
pub mod error;
pub mod exit;
pub mod ui;
