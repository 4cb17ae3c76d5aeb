//! The command line as a user meets it: streams, exit codes, errors.

mod again;
mod caches;
mod changes;
mod doctor;
mod forks;
mod gc;
mod imports;
mod install;
mod json;
mod kept;
mod patch;
mod policy;
mod promote;
mod shell;
mod stats;
mod tools;
mod top;
mod volumes;
mod workspace_faults;
mod workspaces;
