//! What the user reads when something failed: message, causes, hints, stable code, exit code.
//!
//! Every `From<domain error>` lives here or beside the command that needs it; hints are decided
//! here only, where the user is.

use serde::Serialize;

use super::exit;
use super::ui::Ui;
use crate::ops::doctor;

/// An error as shown. Under `--json` one line on stderr:
/// `{"error":{"code":…,"message":…,"causes":[…],"hints":[…]}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandError {
    /// Exit code. Not repeated in JSON: the process ends with it.
    #[serde(skip)]
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

/// What comes of one thing done to several objects: `some` of them had it, and these had not. All are said, the
/// last one by whoever ends the program.
pub(super) fn of_several(ui: &Ui, some: bool, mut failed: Vec<CommandError>) -> CmdResult {
    let several = failed.len() > 1;
    match failed.pop() {
        None => Ok(exit::Exit(exit::OK)),
        Some(e) if !some && !several => Err(e),
        Some(last) => {
            failed.iter().for_each(|e| ui.error(e));
            let exit = if some { exit::PARTIAL } else { last.exit };
            Err(CommandError { exit, ..last })
        }
    }
}

impl CommandError {
    /// An error with the given exit code, stable code and message.
    pub fn new(exit: u8, code: &'static str, message: impl Into<String>) -> CommandError {
        CommandError { exit, code, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// A state that the code excludes: exit 70, and a request to report it.
    pub fn bug(message: impl std::fmt::Display) -> CommandError {
        CommandError::new(exit::BUG, "internal", format!("internal error: {message}")).hint(concat!(
            "please report this at ",
            env!("CARGO_PKG_REPOSITORY"),
            "/issues"
        ))
    }

    /// The same with the chain of sources of `error` as causes (its own text first).
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> CommandError {
        let mut next = Some(error);
        while let Some(e) = next {
            self.causes.push(e.to_string());
            self = self.limited(e);
            next = e.source();
        }
        self
    }

    /// The same with the way out when `error` is a limit of the caller's, whichever command met it.
    #[must_use]
    pub fn limited(self, error: &(dyn std::error::Error + 'static)) -> CommandError {
        match doctor::limit_fix(error) {
            Some(fix) => self.hint(fix),
            None => self,
        }
    }

    /// The same with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> CommandError {
        let hint = hint.into();
        // Limits are told of by whoever meets them first.
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_sources_becomes_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("open `x`")]
        struct Outer(#[source] std::io::Error);
        let outer = Outer(std::io::Error::from_raw_os_error(2));
        let e = CommandError::new(1, "failed", "could not start").caused_by(&outer).hint("try `y`");
        assert_eq!(e.causes, ["open `x`", "No such file or directory (os error 2)"]);
        assert_eq!(
            serde_json::to_string(&e).unwrap(),
            r#"{"code":"failed","message":"could not start","causes":["open `x`","No such file or directory (os error 2)"],"hints":["try `y`"]}"#
        );
    }
}
