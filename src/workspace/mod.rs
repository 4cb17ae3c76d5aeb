//! Workspace trees: what a jail changed (`diff`), how it comes back to the host (`apply`), and what the jail
//! sees (`view`).
#![forbid(unsafe_code)]

pub mod apply;
mod cargo;
pub mod carry;
mod change;
pub mod compare;
pub mod diff;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gitbase;
pub mod gitconfig;
pub mod gitcreds;
mod gone;
pub mod hostexec;
pub mod import;
mod judge;
mod manifest;
pub mod measure;
pub mod merge;
pub mod mirror;
mod names;
pub mod original;
pub mod patch;
mod patterns;
pub mod private;
mod put;
mod remove;
mod scan;
mod stack;
mod temporary;
#[cfg(test)]
mod tests;
mod trail;
mod upper;
pub mod view;

pub(crate) use upper::ORIGIN;
mod ways;

pub use stack::Uppers;
