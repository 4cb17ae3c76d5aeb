//! `aj`: see the library crate `agentjail`.

use std::process::ExitCode;

use agentjail::cli;

fn main() -> ExitCode {
    cli::complete::reply_if_asked();
    cli::run(std::env::args_os())
}
