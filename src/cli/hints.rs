//! Hints for a jail that was not started: the fixes that `aj doctor` names, for the step that failed.
//!
//! The machine is looked at here only, once a start has failed.

use super::error::CommandError;
use crate::ops::{doctor, exec};

const DOCTOR: &str = "see what this machine allows: `aj doctor`";

/// `e` with what to do about `step` (call and `argument`) having failed with `errno`.
pub(super) fn for_step(e: CommandError, step: &str, errno: &str) -> CommandError {
    doctor::fixes(step, errno).into_iter().fold(e, CommandError::hint).hint(DOCTOR)
}

/// `e` with what to do about an error that came before the command.
pub(super) fn for_error(e: CommandError, error: &exec::Error) -> CommandError {
    match error {
        exec::Error::Launch(failed) => for_step(e, &crate::host::facts::step_of(failed), &failed.name()),
        exec::Error::Store(failed) => doctor::state_fixes(failed).into_iter().fold(e, CommandError::hint),
        _ => e,
    }
}
