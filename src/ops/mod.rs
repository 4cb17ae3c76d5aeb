//! ops
pub mod ledger;
