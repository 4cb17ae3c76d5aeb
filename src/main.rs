//! `aj`: see the library crate `agentjail`.

use std::process::ExitCode;

use agentjail::cli;
use agentjail::sys::{alloc::Arena, signal, umask};

#[global_allocator]
static ALLOCATOR: Arena = Arena;

fn main() -> ExitCode {
    umask::take();
    signal::ignore_sigxfsz();
    cli::complete::reply_if_asked();
    cli::run(std::env::args_os())
}
