//! The command line as a user meets it: streams, exit codes, errors.

mod caches;
mod changes;
mod doctor;
mod install;
mod json;
mod policy;
mod shell;
mod tools;
