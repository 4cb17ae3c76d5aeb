//! Real programs, unmodified: what they do inside is what they do outside.

pub mod project;
pub mod registry;

mod build;
mod caches;
mod caches_more;
mod files;
mod git;
mod jvm;
mod layouts;
mod node;
mod planted;
mod projects;
mod python;
mod root;
pub mod secrets;
mod secrets_again;
mod shell;
mod swaps;
mod system;
mod terminal;
pub mod tools;
mod trace;
