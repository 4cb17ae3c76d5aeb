//! One run of a command in a jail.
//!
//! `plan` (pure) says what the jail looks like; `launch` prepares what can fail on the host side
//! and clones; `init` is pid 1 inside: it applies the plan, gives up every privilege, starts the
//! command, reaps; `supervise` is the caller's side: it relays output, forwards signals, holds the
//! clock, and knows how it ended. They talk over `wire`.
#![forbid(unsafe_code)]

mod ended;
pub mod etc;
pub mod excerpt;
mod gitconfig;
mod init;
mod input;
pub mod launch;
mod outbox;
pub mod plan;
mod relay;
mod sink;
pub mod spec;
pub mod status;
pub mod supervise;
mod usage;
pub mod wire;
