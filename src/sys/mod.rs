//! The system calls: the only module with `unsafe`. Each wrapper owns its descriptors and says why it is sound.
#![allow(unsafe_code)]

pub mod caps;
pub mod clone;
mod error;
pub mod fd;
pub mod landlock;
pub mod mount;
pub mod net;
pub mod ns;
pub mod pidfd;
pub mod probe;
pub mod seccomp;
pub mod signal;

pub use error::{Error, Result, check};
