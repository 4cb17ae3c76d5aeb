//! The system calls: the only module with `unsafe`. Each wrapper owns its descriptors and says why it is sound.
#![allow(unsafe_code)]

pub mod alloc;
pub mod at;
pub mod caps;
pub mod cgroup;
pub mod clone;
pub mod copy;
pub mod cpu;
pub mod detach;
pub mod entries;
mod error;
pub mod exchange;
pub mod fd;
pub mod landlock;
#[cfg(all(target_arch = "x86_64", any(test, target_env = "musl")))]
mod memory;
pub mod mount;
pub mod net;
pub mod ns;
pub mod openat2;
pub mod pidfd;
pub mod probe;
pub mod quota;
pub mod screen;
pub mod seccomp;
pub mod shared;
pub mod signal;
pub mod sink;
pub mod terminal;
pub mod title;
pub mod umask;
pub mod xattr;

pub use error::{Error, Result, check, errno};
