//! The command line as a user meets it: streams, exit codes, errors.

mod install;
mod shell;
