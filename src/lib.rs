//! `agentjail`: run what you do not trust in a jail on your own Linux machine.
//!
//! The map, from the bottom up. A module uses modules of lower layers only; `tests/docs/layers.rs`
//! reads every `use crate::` line and holds this table.
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | 0 | [`base`] | ids, names, sizes, durations, `AJ_*` variables, terminal-safe text |
//! | 1 | [`sys`] | the system calls: the only module with `unsafe` |
//! | 2 | [`schema`], [`monitor`] | versioned types of the JSON output and of the records on disk · progress and warnings |
//! | 3 | [`policy`], [`store`], [`host`] | what is allowed (pure) · files and ledger · what this machine can do |
//! | 4 | [`jail`], [`workspace`], [`job`] | one run: plan, launch, init, supervise · trees: diff, apply and what a jail sees · logs of the background |
//! | 5 | [`ops`] | one function per user action; domain modules meet here only |
//! | 6 | [`cli`] | clap and the terminal |
//!
//! # Invariants, phrased as absences
//! - `policy` and `schema` do no I/O. `cli` never calls `sys`, `store` or `jail`.
//! - Nothing between `clone3` and the jail's `execve` decides: the plan was made before.
//! - Nothing here starts a thread or an async runtime before the jail runs.
//! - No path that a jail wrote is ever opened by name: trees are walked by descriptor.
//! - No daemon: a supervisor lives exactly as long as the jail it watches.
//!
//! # Processes
//! ```text
//! aj exec ── launcher ──clone3──> init (pid 1 of the jail) ──vfork──> command
//!    │ holds the pidfd, pipes, timers; relays output; forwards signals; writes the ledger spool
//! ```
//! See `ARCHITECTURE.md` for the reasons.
#![deny(unsafe_code)]

pub mod base;
pub mod cli;
pub mod host;
pub mod jail;
pub mod job;
pub mod monitor;
pub mod ops;
pub mod policy;
pub mod schema;
pub mod store;
pub mod sys;
pub mod workspace;
