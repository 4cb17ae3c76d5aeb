//! What this machine can do: facts that were read, mechanisms that were tried for real, and from
//! them, purely, what is wrong and how to mend it.
//!
//! `facts` the types · `read` facts by reading a few files · `mounts` the table of mounts · `places`
//! what lies where on which file system · `attempt` one mechanism at a time in a child of its own ·
//! `cgroups` where a group for a jail could be made · `cause` from a failed step to its causes · `fix` the text for each cause · `report` the rows of
//! `aj doctor`.
//!
//! Nothing here runs before or after a command that works: `aj exec` asks only once a start failed,
//! and for `places` when it is to show more than an overlay of its directory.
#![forbid(unsafe_code)]

pub mod attempt;
pub mod cause;
pub mod cgroups;
pub mod disks;
pub mod facts;
pub mod files;
mod fix;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod gpu;
mod mounts;
pub mod places;
pub mod read;
pub mod report;

pub use cause::{fixes, fixes_of_signal};
pub use facts::{Facts, Machine, Tried};
