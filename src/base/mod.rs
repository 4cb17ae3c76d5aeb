//! Small things every layer uses: ids, sizes, durations, clocks, terminal-safe text. No I/O but the clock.
#![forbid(unsafe_code)]

pub mod clock;
pub mod duration;
pub mod env;
pub mod id;
pub mod name;
pub mod quote;
pub mod size;
pub mod stamp;
pub mod text;
