//! Errors of the state directory as the user reads them, with the way out.

use nix::errno::Errno;

use super::error::CommandError;
use super::exit;
use crate::ops::ledger::StateError;

const ELSEWHERE: &str = "set `AJ_STATE_DIR` to a new directory of your own";

/// The error with its code and hints.
pub(super) fn error(e: &StateError) -> CommandError {
    let (code, hint) = describe(e);
    let status = if matches!(e, StateError::Busy { .. }) { exit::BUSY } else { exit::FAILED };
    let mut error = CommandError::new(status, code, e.to_string());
    if let Some(source) = std::error::Error::source(e) {
        error = error.caused_by(source);
    }
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn describe(e: &StateError) -> (&'static str, Option<String>) {
    let elsewhere = Some(ELSEWHERE.to_owned());
    match e {
        StateError::NoHome | StateError::Relative { .. } => {
            ("state_dir_unknown", Some("set `AJ_STATE_DIR` to an absolute path".to_owned()))
        }
        StateError::Symlink { .. } => {
            ("state_dir_refused", Some("set `AJ_STATE_DIR` to the directory the link points to".to_owned()))
        }
        StateError::NotADirectory { .. } | StateError::NotAState { .. } => ("state_dir_refused", elsewhere),
        StateError::ForeignOwner { owner, .. } => {
            ("state_dir_refused", Some(format!("run aj as uid {owner}, or {ELSEWHERE}")))
        }
        StateError::Exposed { path, .. } => {
            ("state_dir_refused", Some(format!("look at what is in it, then run `chmod 700 '{path}'`")))
        }
        StateError::Newer { .. } => ("state_too_new", Some(format!("use the newer aj, or {ELSEWHERE}"))),
        StateError::BadVersion { path, .. } => {
            ("state_damaged", Some(format!("if no newer aj was ever used here, run `echo 1 > '{path}'`")))
        }
        StateError::Sys(sys) => match sys.errno {
            Errno::ENOSPC | Errno::EDQUOT => {
                ("state_full", Some(format!("free some space on that disk, or {ELSEWHERE}")))
            }
            Errno::EROFS | Errno::EACCES | Errno::EPERM => ("state_not_writable", elsewhere),
            _ => ("state_failed", None),
        },
        StateError::Busy { .. } => ("state_busy", Some("try again in a moment".to_owned())),
        StateError::Db { .. } => ("state_database", None),
        _ => ("state_failed", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_directory_names_the_command_that_closes_it() {
        let e = error(&StateError::Exposed { path: "/s".to_owned(), mode: 0o755 });
        assert_eq!((e.exit, e.code), (1, "state_dir_refused"));
        assert_eq!(e.message, "state directory `/s` is open to other users (mode 0755)");
        assert!(e.hints[0].contains("`chmod 700 '/s'`"), "{:?}", e.hints);
    }
}
