//! The system calls: the only module with `unsafe`. Each wrapper owns its descriptors and says why it is sound.
#![allow(unsafe_code)]

mod error;
pub mod seccomp;
pub use error::{Error, Result, check};
