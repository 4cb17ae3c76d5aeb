//! What a jail may do: presets, layers of settings, where each value came from. Pure: no I/O.
#![forbid(unsafe_code)]

pub mod settings;
