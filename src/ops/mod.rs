//! ops
pub mod changes;
