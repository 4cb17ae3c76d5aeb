//! The command line: one file per command, each a clap `Args` (doc comment = help) and `run`.
#![forbid(unsafe_code)]

pub mod error;
pub mod exit;
pub mod jail;
mod jail_view;
mod state;
pub mod ui;
