//! From start to end: exit codes, the clock, signals, violent ends, what is left behind, limits.

mod codes;
mod killed;
mod limits;
mod many;
mod pause;
mod quota;
mod resources;
mod signals;
mod timeout;
