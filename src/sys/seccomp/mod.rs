//! The system call filter: a default-deny table compiled into a range tree at build time.
//!
//! [`program`] picks one of six programs that the compiler already assembled (three levels, with or
//! without nested user namespaces), so a run pays only for [`install()`]. The kernel evaluates a new
//! filter once per system call number to learn which calls it may always allow; a tree of ranges
//! keeps that cheap where a list of comparisons costs more than all namespaces together.
//!
//! What a program decides, in order:
//! 1. Another architecture (`int 0x80` on x86-64): ENOSYS for every call.
//! 2. A number of the table: what its row says, some by argument.
//! 3. Any other number, x32 ones and those of future kernels included: ENOSYS, so that libraries
//!    use what they used before the call existed.
//!
//! The pieces: `table_*` one row per call · `rules` what a row can say and the argument checks ·
//! `tree` the assembler · `install` the system call · `interp` an interpreter for tests.

mod alone;
mod code;
mod install;
mod interp;
mod rules;
mod suid;
#[cfg(target_arch = "aarch64")]
#[path = "table_aarch64.rs"]
mod table;
#[cfg(target_arch = "x86_64")]
#[path = "table_x86_64.rs"]
mod table;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("there is no system call table for this architecture");
#[cfg(test)]
mod tests;
mod tree;

use seccompiler::sock_filter;

pub use alone::alone;
pub use install::install;
pub use interp::{Verdict, interpret};
pub use rules::{Check, Rule};
pub use suid::no_setuid;

/// `AUDIT_ARCH_*` of the calls that the filter judges by number.
#[cfg(target_arch = "x86_64")]
pub const ARCH: u32 = 0xC000_003E;
/// `AUDIT_ARCH_*` of the calls that the filter judges by number.
#[cfg(target_arch = "aarch64")]
pub const ARCH: u32 = 0xC000_00B7;

/// `AUDIT_ARCH_*` of the 32-bit calls that a kernel of this machine may accept as well.
#[cfg(target_arch = "x86_64")]
pub const ARCH_32: u32 = 0x4000_0003;
/// `AUDIT_ARCH_*` of the 32-bit calls that a kernel of this machine may accept as well.
#[cfg(target_arch = "aarch64")]
pub const ARCH_32: u32 = 0x4000_0028;

/// The bit that marks an x32 call; numbers from here on are refused at every level.
pub const X32_BIT: u32 = 0x4000_0000;

/// How strict the filter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The default allow-list.
    Standard,
    /// Without INET sockets as well.
    Strict,
    /// What `Standard` refuses is allowed and logged by the kernel, except foreign and x32 calls.
    Log,
}

/// What to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How strict.
    pub level: Level,
    /// Allow user namespaces inside and what a program needs to furnish one (mounts, host name).
    pub nested_userns: bool,
}

/// A filter, ready to install. Made by [`program`] only.
#[derive(Debug, Clone, Copy)]
pub struct Program(&'static [sock_filter]);

impl Program {
    /// The instructions.
    pub fn instructions(&self) -> &'static [sock_filter] {
        self.0
    }
}

/// Assemble a program at build time into a static of exactly its length.
macro_rules! assembled {
    ($level:ident, $nested:literal) => {{
        const CODE: tree::Code = tree::assemble(Options { level: Level::$level, nested_userns: $nested });
        static PROGRAM: [sock_filter; CODE.len()] = CODE.trim();
        &PROGRAM
    }};
}

/// The filter for `options`. Costs nothing: all of them are part of the executable.
pub fn program(options: &Options) -> Program {
    Program(match (options.level, options.nested_userns) {
        (Level::Standard, false) => assembled!(Standard, false),
        (Level::Standard, true) => assembled!(Standard, true),
        (Level::Strict, false) => assembled!(Strict, false),
        (Level::Strict, true) => assembled!(Strict, true),
        (Level::Log, false) => assembled!(Log, false),
        (Level::Log, true) => assembled!(Log, true),
    })
}

/// What the table says about a call of this machine's own architecture.
pub fn expected(nr: u32, options: &Options) -> Rule {
    if nr >= X32_BIT {
        return Rule::Errno(libc::ENOSYS as u16);
    }
    find(nr).map_or(rules::ABSENT, |row| row.2).rule(*options)
}

/// The name of a call, if the table knows it.
pub fn name(nr: u32) -> Option<&'static str> {
    find(nr).map(|row| row.1)
}

fn find(nr: u32) -> Option<&'static rules::Row> {
    table::TABLE.binary_search_by_key(&nr, |row| row.0).ok().and_then(|at| table::TABLE.get(at))
}
