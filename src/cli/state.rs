//! Errors of the state directory as the user reads them; the way out is that of `aj doctor`.

use nix::errno::Errno;

use super::error::CommandError;
use super::exit;
use crate::ops::doctor;
use crate::ops::ledger::StateError;

/// The error with its code and hints.
pub(super) fn error(e: &StateError) -> CommandError {
    let status = if matches!(e, StateError::Busy { .. }) { exit::BUSY } else { exit::FAILED };
    let mut error = CommandError::new(status, code(e), e.to_string());
    if let Some(source) = std::error::Error::source(e) {
        error = error.caused_by(source);
    }
    doctor::state_fixes(e).into_iter().fold(error, CommandError::hint)
}

fn code(e: &StateError) -> &'static str {
    match e {
        StateError::NoHome | StateError::Relative { .. } => "state_dir_unknown",
        StateError::Symlink { .. }
        | StateError::NotADirectory { .. }
        | StateError::NotAState { .. }
        | StateError::ForeignOwner { .. }
        | StateError::Exposed { .. } => "state_dir_refused",
        StateError::Newer { .. } => "state_too_new",
        StateError::BadVersion { .. } => "state_damaged",
        StateError::Sys(sys) => match sys.errno {
            Errno::ENOSPC | Errno::EDQUOT => "state_full",
            Errno::EROFS | Errno::EACCES | Errno::EPERM => "state_not_writable",
            _ => "state_failed",
        },
        StateError::Busy { .. } => "state_busy",
        StateError::Db { .. } => "state_database",
        _ => "state_failed",
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
