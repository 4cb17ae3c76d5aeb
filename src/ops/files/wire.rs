//! Errors of this module, as a jail says them to whoever asked it: in the same words.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::sys;
use crate::workspace::view::Error as View;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Fail {
    Missing(Vec<u8>),
    Is(Vec<u8>, String),
    NotDir(Vec<u8>),
    Elsewhere(Vec<u8>),
    LeadsOut(Vec<u8>, Vec<u8>),
    Loop(Vec<u8>),
    Exists(Vec<u8>),
    NotEmpty(Vec<u8>),
    Top(Vec<u8>),
    IntoItself(Vec<u8>, Vec<u8>),
    Foreign(Vec<u8>, u32, u32),
    TooMuch(Vec<u8>, String),
    Sys(String, Vec<u8>, Call),
    Host(String, String, i32, String),
    Changed(String, String),
    ReadOnly(String),
    OnHost(String),
    Mounted(String),
    Other(String),
}

/// A system call that failed: which, on what, why.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call(String, String, i32);

impl From<Error> for Fail {
    fn from(e: Error) -> Fail {
        match e {
            Error::View(e) => e.into(),
            Error::Host { what, name, source } => {
                Fail::Host(what.to_owned(), name, source.raw_os_error().unwrap_or(0), source.to_string())
            }
            Error::Changed { path, found } => Fail::Changed(path, found),
            Error::ReadOnly(path) => Fail::ReadOnly(path),
            Error::OnHost(path) => Fail::OnHost(path),
            Error::Mounted(path) => Fail::Mounted(path),
            Error::Asked(why) => Fail::Other(why),
            // Of finding a tree, and of jails: there is neither where this is said.
            Error::Tree(_)
            | Error::Workspace(_)
            | Error::State(_)
            | Error::Live(_)
            | Error::InUse(_)
            | Error::HasVolume(_)
            | Error::InMemory(_)
            | Error::Volume(_)
            | Error::NotLive(_)
            | Error::Jail(_)
            | Error::Unsure { .. }
            | Error::Baseless { .. }
            | Error::Undone { .. } => Fail::Other(e.to_string()),
        }
    }
}

impl From<View> for Fail {
    fn from(e: View) -> Fail {
        match e {
            View::Missing(path) => Fail::Missing(path),
            View::Is { path, is } => Fail::Is(path, is.to_owned()),
            View::NotDir(path) => Fail::NotDir(path),
            View::Elsewhere(path) => Fail::Elsewhere(path),
            View::LeadsOut { path, to } => Fail::LeadsOut(path, to),
            View::Loop(path) => Fail::Loop(path),
            View::Exists(path) => Fail::Exists(path),
            View::NotEmpty(path) => Fail::NotEmpty(path),
            View::Top(path) => Fail::Top(path),
            View::IntoItself { from, to } => Fail::IntoItself(from, to),
            View::Foreign { path, uid, gid } => Fail::Foreign(path, uid, gid),
            View::TooMuch { path, most } => Fail::TooMuch(path, most),
            View::Sys { what, path, source } => {
                let call = Call(source.call.to_owned(), source.arg, source.errno as i32);
                Fail::Sys(what.to_owned(), path, call)
            }
        }
    }
}

/// A word of the program's own that came back to it. There is one error in the life of a process.
fn word(text: String) -> &'static str {
    text.leak()
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Error {
        Error::View(match fail {
            Fail::Missing(path) => View::Missing(path),
            Fail::Is(path, is) => View::Is { path, is: word(is) },
            Fail::NotDir(path) => View::NotDir(path),
            Fail::Elsewhere(path) => View::Elsewhere(path),
            Fail::LeadsOut(path, to) => View::LeadsOut { path, to },
            Fail::Loop(path) => View::Loop(path),
            Fail::Exists(path) => View::Exists(path),
            Fail::NotEmpty(path) => View::NotEmpty(path),
            Fail::Top(path) => View::Top(path),
            Fail::IntoItself(from, to) => View::IntoItself { from, to },
            Fail::Foreign(path, uid, gid) => View::Foreign { path, uid, gid },
            Fail::TooMuch(path, most) => View::TooMuch { path, most },
            Fail::Sys(what, path, Call(call, arg, errno)) => {
                let source = sys::Error::new(word(call), arg, Errno::from_raw(errno));
                View::Sys { what: word(what), path, source }
            }
            Fail::Host(what, name, errno, text) => {
                let source = match errno {
                    0 => std::io::Error::other(text),
                    errno => std::io::Error::from_raw_os_error(errno),
                };
                return Error::Host { what: word(what), name, source };
            }
            Fail::Changed(path, found) => return Error::Changed { path, found },
            Fail::ReadOnly(path) => return Error::ReadOnly(path),
            Fail::OnHost(path) => return Error::OnHost(path),
            Fail::Mounted(path) => return Error::Mounted(path),
            Fail::Other(why) => return Error::Asked(why),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_from_inside_reads_as_if_it_were_said_here() {
        let path = || b"a/\xff".to_vec();
        let errors: Vec<Box<dyn Fn() -> Error>> = vec![
            Box::new(move || View::Missing(path()).into()),
            Box::new(move || View::Is { path: path(), is: "a fifo" }.into()),
            Box::new(move || View::LeadsOut { path: path(), to: b"/etc".to_vec() }.into()),
            Box::new(move || View::Foreign { path: path(), uid: 1, gid: 2 }.into()),
            Box::new(move || View::sys_for_test(path()).into()),
            Box::new(|| Error::Changed { path: "x".into(), found: "absent".into() }),
            Box::new(|| Error::Asked("no".into())),
            Box::new(|| Error::ReadOnly("/x".into())),
            Box::new(|| Error::OnHost("/x".into())),
            Box::new(|| Error::Mounted("x".into())),
            Box::new(|| Error::Host {
                what: "write",
                name: "x".into(),
                source: std::io::Error::from_raw_os_error(28),
            }),
        ];
        for make in errors {
            let bytes = serde_json::to_vec(&Fail::from(make())).unwrap();
            let back: Error = serde_json::from_slice::<Fail>(&bytes).unwrap().into();
            assert_eq!(format!("{back:?}"), format!("{:?}", make()));
        }
    }

    impl View {
        fn sys_for_test(path: Vec<u8>) -> View {
            View::Sys { what: "write", path, source: sys::Error::new("rename", "b", Errno::EACCES) }
        }
    }
}
