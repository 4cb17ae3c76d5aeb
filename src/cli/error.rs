//! What the user reads when something failed: message, causes, hints, stable code, exit code.
//!
//! Every `From<domain error>` lives here or beside the command that needs it; hints are decided
//! here only, where the user is.

use super::exit;

/// An error as shown. Under `--json` one line on stderr:
/// `{"error":{"code":…,"message":…,"causes":[…],"hints":[…]}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// Exit code.
    pub exit: u8,
    /// Stable snake_case code for scripts, such as `jail_not_found`.
    pub code: &'static str,
    /// What failed, on which object: lower case, no full stop.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What the user can run or change; each names one action.
    pub hints: Vec<String>,
}

/// What every command returns.
pub type CmdResult = Result<exit::Exit, CommandError>;

impl CommandError {
    /// An error with the given exit code, stable code and message.
    pub fn new(exit: u8, code: &'static str, message: impl Into<String>) -> CommandError {
        CommandError { exit, code, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// The same with the chain of sources of `error` as causes (its own text first).
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> CommandError {
        let mut next = Some(error);
        while let Some(e) = next {
            self.causes.push(e.to_string());
            next = e.source();
        }
        self
    }

    /// The same with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hints.push(hint.into());
        self
    }
}
