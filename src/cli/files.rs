//! What `aj fs`, `aj cp` and `aj search` share: how errors read, how a file looks in a line.

use std::io::ErrorKind;

use super::error::CommandError;
use super::exit;
use super::state;
use super::ui::Ui;
use crate::ops::changes::Error as Tree;
use crate::ops::files::{Error, Target};
use crate::schema::files::{Failed, File};
use crate::workspace::view::Error as View;

/// Say that what is read may be half written.
pub(super) fn warn_if_running(ui: &Ui, target: &Target) {
    if target.running {
        ui.warn(&format!("something is at work in `{}`: what it writes may be half written", target.title));
    }
}

/// `-rw-r--r--` of octal bits and a kind.
pub(super) fn bits(file: &File) -> String {
    let mode = u32::from_str_radix(&file.mode, 8).unwrap_or(0);
    let kind = match file.kind {
        "directory" => 'd',
        "symlink" => 'l',
        "fifo" => 'p',
        "socket" => 's',
        "device" => 'c',
        "file" => '-',
        _ => '?',
    };
    let mut shown = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let three = mode >> shift & 7;
        shown.push(if three & 4 != 0 { 'r' } else { '-' });
        shown.push(if three & 2 != 0 { 'w' } else { '-' });
        shown.push(match (three & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
        });
    }
    shown
}

/// A path with what tells its kind.
pub(super) fn shown(file: &File) -> String {
    match (file.kind, &file.target) {
        ("directory", _) => format!("{}/", file.name.path),
        ("symlink", Some(target)) => format!("{} -> {target}", file.name.path),
        _ => file.name.path.clone(),
    }
}

/// What helps against a full disk.
const ROOM: &str = "make room where the state directory lies: `aj gc`, `aj discard`, `aj workspace rm`";

/// Warn of what could not be done; the error for the whole, if there was any.
pub(super) fn partial(ui: &Ui, failed: &[Failed], more: u64, some: bool, what: &str) -> Option<CommandError> {
    for f in failed {
        ui.warn(&format!("{}: {}", f.name.path, f.reason));
    }
    let count = failed.len() as u64 + more;
    (count > 0).then(|| {
        let message = format!("{} could not be {what}", super::changes::plural(count, "entry"));
        let error =
            CommandError::new(if some { exit::PARTIAL } else { exit::FAILED }, "partly_failed", message);
        let full = |f: &Failed| f.reason.contains("(ENOSPC)") || f.reason.contains("(EDQUOT)");
        if failed.iter().any(full) {
            error.hint("make room where it is copied to, and copy it again")
        } else {
            error
        }
    })
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        let shown = |status, code| {
            let error = CommandError::new(status, code, e.to_string());
            match std::error::Error::source(&e) {
                Some(source) => error.caused_by(source),
                None => error,
            }
        };
        match e {
            Error::Tree(e) => e.into(),
            Error::Baseless { title, source } => baseless(&title, *source),
            Error::Workspace(e) => e.into(),
            Error::Volume(e) => e.into(),
            Error::State(ref e) => state::error(e),
            Error::View(e) => view(e),
            Error::Live(ref name) => shown(exit::BUSY, "jail_running")
                .hint("what lies below a mount must not change: try again when it has ended")
                .hint(format!("reading works meanwhile: `aj fs list {name}`")),
            Error::HasVolume(ref name) => shown(exit::BUSY, "volume_busy")
                .hint("wait until that has ended: `aj jail list --status running` shows the jails")
                .hint(format!("a jail that has it can change it: `aj cp FILE WORKSPACE:PATH`, where it is seen; reading works meanwhile: `aj fs list {name}`")),
            Error::InMemory(ref name) if name.starts_with("jl-") => shown(exit::BUSY, "in_memory")
                .hint(format!("when it has ended, it is there: `aj jail show {name}` tells whether it has")),
            Error::InMemory(ref name) => shown(exit::BUSY, "in_memory")
                .hint(format!("a command in it sees it: `aj exec {name} -- cat FILE`"))
                .hint(format!("or end the jail, which keeps it: `aj workspace stop {name}`")),
            Error::Jail(e) => CommandError { exit: exit::FAILED, ..super::exec::failed(*e) },
            Error::NotLive(e) => CommandError { exit: exit::BUSY, ..super::exec::live(&e) },
            Error::ReadOnly(_) => shown(exit::REFUSED, "read_only")
                .hint("a directory of `--ro` and a volume with `:ro` are changed on the host, or through `vol:NAME/PATH`"),
            Error::OnHost(ref path) => shown(exit::REFUSED, "path_outside")
                .hint(format!("change it on the host: `{path}`")),
            Error::Mounted(_) => shown(exit::BUSY, "mounted")
                .hint("what is mounted is told by `aj workspace show`; without it, it can be moved and removed"),
            Error::Unsure { ref title, .. } => shown(exit::FAILED, "outcome_unknown")
                .hint(format!("see what is there: `aj fs list {title}`")),
            Error::Undone { .. } => shown(exit::FAILED, "not_done").hint("try again"),
            Error::InUse(_) => shown(exit::BUSY, "tree_in_use").hint("wait for it and try again"),
            Error::Host { ref source, .. } => {
                let cause = crate::base::text::printable(source.to_string().as_bytes());
                let shown = CommandError::new(exit::FAILED, "io_failed", e.to_string());
                let shown = CommandError { causes: vec![cause], ..shown }.limited(source);
                match source.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                        shown.hint("make room there, or copy it to another file system")
                    }
                    _ => shown,
                }
            }
            Error::Changed { .. } => {
                shown(exit::BUSY, "content_changed").hint("read it again: `aj fs cat`, and decide anew")
            }
            Error::Asked(_) => shown(exit::USAGE, "not_possible"),
        }
    }
}

/// The directory under a workspace is not there: what can be done, and what can be had without it.
fn baseless(title: &str, e: Tree) -> CommandError {
    let way = match &e {
        Tree::Base { base, source } if source.name() == "ENOENT" => {
            format!(
                "make it again, and bring the changes into it: `mkdir -p '{base}' && aj apply {title} --overwrite`"
            )
        }
        Tree::Base { base, .. } => {
            format!("move what is at `{base}` away, and the directory back to its place")
        }
        _ => format!(
            "move the directory that it was made over back to its place, or bring the changes into the one that is \
             there now: `aj apply {title} --overwrite`"
        ),
    };
    CommandError { hints: Vec::new(), ..e.into() }
        .hint(way)
        .hint(format!("its home and /output do not depend on it: `aj cp -r {title}:/output DIR`"))
}

fn view(e: View) -> CommandError {
    let shown = |status, code| {
        let error = CommandError::new(status, code, e.to_string());
        match std::error::Error::source(&e) {
            Some(source) => error.caused_by(source),
            None => error,
        }
    };
    match &e {
        View::Missing(_) => shown(exit::NOT_FOUND, "path_not_found")
            .hint("relative paths begin at the workspace: `aj fs list WS` shows what is there"),
        View::Is { is, .. } => {
            let error = shown(exit::FAILED, "wrong_kind");
            if *is == "a directory" { error.hint("with `-r` directories are taken as well") } else { error }
        }
        View::NotDir(_) => shown(exit::FAILED, "not_a_directory"),
        View::Elsewhere(path) => {
            let error = shown(exit::REFUSED, "path_outside");
            if [&b"/tmp"[..], b"/home/agent", b"/output", b"/dev/shm"].iter().any(|p| path.starts_with(p)) {
                let error = error.hint(
                    "of a one-shot only the workspace is kept: the rest was in memory and has ended with it",
                );
                // A command can take them from everybody by their mode.
                if [&b"/home/agent"[..], b"/output"].iter().any(|p| path.starts_with(p)) {
                    error.hint("in a workspace it is kept; if you may not read it: `aj exec WORKSPACE -- chmod u+rwx /home/agent /output`")
                } else {
                    error
                }
            } else {
                error
                    .hint("absolute paths are those of the jail: `/workspace/…`, or the directory's own path")
            }
        }
        View::LeadsOut { .. } => shown(exit::REFUSED, "path_outside")
            .hint("what a link of the jail's names outside of the workspace is never opened here"),
        View::Loop(_) => shown(exit::FAILED, "too_many_links"),
        View::Exists(_) => shown(exit::BUSY, "exists"),
        View::NotEmpty(_) => {
            shown(exit::FAILED, "not_empty").hint("with `-r` it goes with all that is in it")
        }
        View::Top(_) => shown(exit::USAGE, "not_possible"),
        View::IntoItself { .. } => shown(exit::USAGE, "not_possible"),
        View::Foreign { .. } => shown(exit::FAILED, "foreign_owner")
            .hint("it is what the kernel says in a jail, too: EOVERFLOW; change its owner on the host"),
        View::TooMuch { .. } => shown(exit::FAILED, "too_large")
            .hint("move a part of it, or let a command in the jail do it: `aj exec WS -- mv …`"),
        View::Sys { source, .. } => {
            let error = shown(exit::FAILED, "call_failed");
            match source.name().as_str() {
                "EXDEV" => error.hint("another file system is mounted there, which no overlay shows"),
                "ENOSPC" | "EDQUOT" => error.hint(ROOM),
                _ => error,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::files::Name;

    fn file(kind: &'static str, mode: &str) -> File {
        File {
            name: Name { path: "a".into(), path_base64: None },
            kind,
            size: 1,
            allocated: 0,
            mode: mode.into(),
            uid: 1000,
            gid: 1000,
            links: 1,
            modified_at: None,
            target: (kind == "symlink").then(|| "/etc/x".to_owned()),
            target_base64: None,
            own: true,
        }
    }

    #[test]
    fn bits_read_as_those_of_ls() {
        assert_eq!(bits(&file("file", "0644")), "-rw-r--r--");
        assert_eq!(bits(&file("directory", "1777")), "drwxrwxrwt");
        assert_eq!(bits(&file("file", "4755")), "-rwsr-xr-x");
        assert_eq!(bits(&file("file", "6600")), "-rwS--S---");
    }

    #[test]
    fn a_link_says_where_it_leads() {
        assert_eq!(shown(&file("symlink", "0777")), "a -> /etc/x");
        assert_eq!(shown(&file("directory", "0755")), "a/");
    }
}
