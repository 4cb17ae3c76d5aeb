//! When pid 1 is cloned: before anything is known about the run but its network and its ids, if those are
//! sure. It makes its namespaces on another processor, the longest part of a start, while the launcher
//! finds the project, reads its file and plans.

use super::seat::Seat;
use super::{Error, Request, streams};
use crate::jail::launch::{self, Born};
use crate::jail::limits::Limits;
use crate::jail::spec::{Birth, Ids, Owner};
use crate::policy::file::UserFile;
use crate::policy::layer::Layer;
use crate::policy::settings::{Net, Settings};
use crate::sys;
use crate::sys::terminal;

/// What was asked for, and the terminal that the command's is to be like.
pub(super) type On<'a> = (&'a Request, Option<terminal::Settings>);

/// A pid 1 to be, or why there is none.
pub(super) struct Start {
    birth: Birth,
    born: sys::Result<Born>,
}

impl Start {
    /// Born in `group`, or moved into it: that needs no more than that it has started nothing yet.
    fn new((request, terminal): On<'_>, birth: Birth, group: Option<&mut Limits>) -> Start {
        let streams = match streams::of(request, terminal) {
            Ok(streams) => streams,
            Err(e) => return Start { birth, born: Err(e) },
        };
        let Some(group) = group else {
            return Start { born: launch::bear(&birth, streams, None), birth };
        };
        let mut into_group = false;
        let (born, back) = group.around(|into| {
            into_group = into.is_some();
            launch::bear(&birth, streams, into)
        });
        let born = match (born, back) {
            (Ok(born), Err(e)) => born.abandon().and(Err(e)),
            (born, _) => born,
        };
        let start = Start { birth, born };
        if start.born.is_ok() && into_group { start } else { start.enter(Some(group)) }
    }

    fn enter(self, group: Option<&mut Limits>) -> Start {
        let born = self.born.and_then(|born| match group.map_or(Ok(()), |group| group.enter(born.pid())) {
            Ok(()) => Ok(born),
            Err(e) => born.abandon().and(Err(e)),
        });
        Start { born, ..self }
    }

    /// Where the user has a configuration of its own, what is asked for depends on more than the flags: a
    /// project's file may only narrow it, and no preset opens the network.
    pub(super) fn early(on: On<'_>, user: Option<&UserFile>, seat: Option<&Seat>) -> Option<Start> {
        let flags = &on.0.flags;
        let kept = seat.map(|seat| &seat.kept.stored.layer);
        let net = flags.net.as_ref().or_else(|| kept?.net.as_ref()).map_or(Net::None, |net| net.value);
        let as_root =
            flags.as_root.as_ref().or_else(|| kept?.as_root.as_ref()).is_some_and(|root| root.value);
        let sure = user.is_none() && !in_group(flags) && !kept.is_some_and(in_group);
        sure.then(|| Start::new(on, birth(net, as_root), None))
    }

    /// The one that `settings` ask for: that which was cloned early, if it is.
    pub(super) fn fitting(
        early: Option<Start>,
        on: On<'_>,
        settings: &Settings,
        (group, lite): (Option<&mut Limits>, bool),
    ) -> Result<Start, Error> {
        let birth = Birth { lite, ..asked_for(settings) };
        match early {
            Some(start) if start.birth == birth => Ok(start.enter(group)),
            Some(start) => start.abandon().map(|()| Start::new(on, birth, group)),
            None => Ok(Start::new(on, birth, group)),
        }
    }

    /// What it is.
    pub(super) fn birth(&self) -> Birth {
        self.birth.clone()
    }

    /// End it without a trace.
    pub(super) fn abandon(self) -> Result<(), Error> {
        self.born.and_then(Born::abandon).map_err(Error::Launch)
    }

    /// It, if it could be had. A host that cannot is reported after a request that could not be met anyway.
    pub(super) fn with<T>(self, prepared: Result<T, Error>) -> Result<(Born, T), Error> {
        match (self.born, prepared) {
            (Ok(born), Ok(prepared)) => Ok((born, prepared)),
            (Ok(born), Err(e)) => {
                born.abandon().map_err(Error::Launch)?;
                Err(e)
            }
            (Err(_), Err(e)) => Err(e),
            (Err(e), Ok(_)) => Err(Error::Launch(e)),
        }
    }
}

/// Whether it is to be born in groups of its own: where limits are asked for. Moving a process into one
/// later takes the kernel ten milliseconds.
fn in_group(flags: &Layer) -> bool {
    let asked = flags.preset.is_some()
        || [&flags.mem, &flags.cpu_millis, &flags.pids, &flags.io_read, &flags.io_write]
            .into_iter()
            .any(Option::is_some);
    asked || super::spec::test_takes("core-group")
}

/// What `settings` ask for.
pub(super) fn asked_for(settings: &Settings) -> Birth {
    birth(settings.net, settings.as_root)
}

fn birth(net: Net, as_root: bool) -> Birth {
    let ids = match nix::unistd::geteuid().as_raw() {
        0 => Ids::Range,
        uid => Ids::Caller { owner: Owner { uid, gid: nix::unistd::getegid().as_raw() } },
    };
    Birth { ids, as_root, net, lite: false }
}
