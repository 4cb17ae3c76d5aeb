//! `aj`: see the library crate `agentjail`.

fn main() {}
