//! The system calls: the only module with `unsafe`. Each wrapper owns its descriptors and says why it is sound.
#![allow(unsafe_code)]

pub mod at;
pub mod copy;
mod error;
pub mod openat2;
pub mod xattr;

pub use error::{Error, Result, check};
