//! The one test program. `cargo test --test main docs` runs what keeps the documents true,
//! `cargo test --test main cli` drives the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "tests: a panic is a failure, and output is for whoever reads the failure"
)]

mod common;
mod probe;
mod yard;

mod cli;
mod docs;
mod escape;
mod files;
mod input;
mod io;
mod jail;
mod jobs;
mod life;
mod live;
mod modes;
mod real;
mod term;
