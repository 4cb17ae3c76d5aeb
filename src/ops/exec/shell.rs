//! Which shell `aj shell` starts, and how it says where one is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::base::env;

/// Tried in this order after the user's own.
const SHELLS: [&str; 3] = ["/bin/bash", "/usr/bin/bash", "/bin/sh"];

/// The user's shell when it can be seen inside, else bash, else sh. What is `visible` inside is there as it
/// is here.
pub(super) fn choose(visible: &dyn Fn(&Path) -> bool) -> PathBuf {
    let own = env::SHELL.absolute_path();
    let usable = |shell: &PathBuf| {
        shell.parent().is_some_and(visible)
            && shell.is_file()
            && access(shell.as_path(), AccessFlags::X_OK).is_ok()
    };
    let all = own.into_iter().chain(SHELLS.map(PathBuf::from));
    all.into_iter().find(usable).unwrap_or_else(|| PathBuf::from("/bin/sh"))
}

/// A prompt for shells that have none of their own in the jail's home or in /etc: the host name says that it
/// is a jail.
pub(super) fn prompt(shell: &Path, host: &str) -> Option<(OsString, OsString)> {
    let prompt = match shell.file_name()?.to_str()? {
        "bash" => r"\u@\h:\w\$ ".to_owned(),
        "zsh" => "%n@%m:%~%# ".to_owned(),
        "sh" | "dash" | "ash" | "ksh" | "mksh" => format!("$USER@{host}:$PWD$ "),
        _ => return None,
    };
    Some(("PS1".into(), prompt.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_cannot_be_seen_is_not_chosen() {
        assert_eq!(choose(&|_| false), Path::new("/bin/sh"));
        let chosen = choose(&|dir| dir == Path::new("/bin"));
        assert!(chosen.starts_with("/bin") && chosen.is_file(), "{chosen:?}");
    }

    #[test]
    fn a_shell_that_is_not_known_keeps_its_own_prompt() {
        assert_eq!(prompt(Path::new("/usr/bin/fish"), "api"), None);
        assert!(prompt(Path::new("/bin/bash"), "api").is_some());
    }
}
