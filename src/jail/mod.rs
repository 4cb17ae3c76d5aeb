//! One run of a command in a jail.
//!
//! `launch` clones pid 1 as soon as it is known what kind of jail it will be; `plan` (pure) says
//! what the jail looks like, and `handover` brings that to pid 1. `init` is pid 1 inside: it applies
//! the plan (`cover` puts over the host's inodes what must be over them), gives up every privilege
//! (`confine`), starts the command, reaps; `supervise` is the caller's side: it relays output,
//! forwards signals, holds the clock, and knows how it ended. A command on a `terminal` has one of the
//! jail's own, and what it leaves on the `screen` is undone. They talk over `wire`. What is the same
//! in many jails is `ready`-made: `etc`, and the `root` that everything is mounted on. `nested` is what
//! `init` does instead where a container or the kernel's first file system is around us.
#![forbid(unsafe_code)]

mod attend;
pub mod census;
pub mod confine;
mod cover;
pub(crate) mod cwd;
mod ended;
pub mod etc;
pub mod excerpt;
pub mod freeze;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gitconfig;
mod gitkeys;
mod handover;
pub mod hands;
mod init;
mod input;
pub mod join;
pub mod launch;
pub mod limits;
pub mod lite;
mod live;
mod mask;
mod miseconfig;
mod nested;
pub mod observe;
mod outbox;
mod overlay;
pub mod plan;
pub mod ready;
mod relay;
pub mod root;
mod screen;
mod serve;
pub mod spec;
pub mod status;
pub mod supervise;
mod terminal;
mod usage;
mod watcher;
pub mod wire;

pub use usage::UNSEEN;
