//! What a jail may do: presets, layers of settings, where each value came from. Pure: no I/O.
//!
//! Start at [`resolve()`]: it folds the sources, weakest first, into [`Settings`]:
//!
//! 1. built-in values, from [`Facts`] about the machine
//! 2. the preset that the user configuration's `[defaults]` name, unless a flag names another
//! 3. the user configuration's `[defaults]` and `[env]`
//! 4. the preset that `--preset` names: chosen for this run, so above the user's defaults
//! 5. the project's `aj.toml`, which may narrow what holds so far and nothing else
//! 6. what the workspace keeps for every command in it ([`stored`]), its preset in the place of 2
//! 7. flags
//! 8. `[limits.max]` of the user configuration, which nothing passes, and the host's hard limits
#![forbid(unsafe_code)]

pub mod envfile;
pub mod environment;
pub mod file;
pub mod flavor;
mod fold;
pub mod gpu;
pub mod hide;
pub mod keep;
pub mod key;
pub mod layer;
pub mod presets;
mod read;
pub mod require;
pub mod resolve;
pub mod rows;
pub mod settings;
pub mod stored;
mod suggest;
pub mod value;
pub mod volume;

pub use layer::{At, Layer};
pub use resolve::{Asked, Error, Facts, Resolved, Sources, resolve};
pub use settings::Settings;
