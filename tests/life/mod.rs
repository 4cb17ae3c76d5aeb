//! From start to end: exit codes, the clock, signals, violent ends, what is left behind, limits.

mod codes;
mod killed;
mod resources;
mod signals;
mod timeout;
