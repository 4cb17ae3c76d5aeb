//! The command line as a user meets it: streams, exit codes, errors.

mod doctor;
mod install;
mod shell;
mod tools;
