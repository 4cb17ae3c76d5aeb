//! Exit codes: part of the stability promise (`aj help exit-codes`).

use std::process::ExitCode;

/// Done.
pub const OK: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// No such object, or an ambiguous name.
pub const NOT_FOUND: u8 = 3;
/// A credential is missing, or policy refuses.
pub const REFUSED: u8 = 4;
/// Busy, locked, or it already exists.
pub const BUSY: u8 = 5;
/// Finished, but a part failed.
pub const PARTIAL: u8 = 6;
/// This host cannot do it.
pub const UNAVAILABLE: u8 = 69;
/// A bug in `aj`.
pub const BUG: u8 = 70;
/// `--timeout` expired.
pub const TIMED_OUT: u8 = 124;
/// `aj` could not do its part, before or after the command.
pub const AJ_FAILED: u8 = 125;
/// The command was found but could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub const COMMAND_NOT_FOUND: u8 = 127;

/// What a command ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.0)
    }
}
