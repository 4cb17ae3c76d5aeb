//! When pid 1 is cloned: before anything is known about the run but its network and its ids, if those are
//! sure. It makes its namespaces on another processor, the longest part of a start, while the launcher
//! finds the project, reads its file and plans.

use super::limits::Chosen;
use super::seat::Seat;
use super::{Error, Request, streams};
use crate::base::id::Id;
use crate::jail::launch::{self, Born};
use crate::jail::limits::{self, Limits, Wants};
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
    /// In a group that is to hold its limits.
    in_group: bool,
}

impl Start {
    fn new((request, terminal): On<'_>, birth: Birth, group: Option<&Limits>) -> Start {
        let into = group.and_then(Limits::to_be_born_in);
        let born = streams::of(request, terminal).and_then(|streams| launch::bear(&birth, streams, into));
        Start { in_group: into.is_some(), birth, born }
    }

    /// Where the user has a configuration of its own, what is asked for depends on more than the flags: a
    /// project's file may only narrow it, and no preset opens the network.
    pub(super) fn early(
        on: On<'_>,
        (user, seat): (Option<&UserFile>, Option<&Seat>),
        reserved: Option<&Limits>,
    ) -> Option<Start> {
        let flags = &on.0.flags;
        let kept = seat.map(|seat| &seat.kept.stored.layer);
        let net = flags.net.as_ref().or_else(|| kept?.net.as_ref()).map_or(Net::None, |net| net.value);
        let as_root =
            flags.as_root.as_ref().or_else(|| kept?.as_root.as_ref()).is_some_and(|root| root.value);
        let place = reserved.is_some() || !asks_for_group(on.0, seat) || !limits::may_be_v2();
        (user.is_none() && place).then(|| Start::new(on, birth(net, as_root), reserved))
    }

    /// The one that `settings` ask for: that which was cloned early, if it is.
    pub(super) fn fitting(
        early: Option<Start>,
        on: On<'_>,
        settings: &Settings,
        (limits, lite): (&Chosen, bool),
    ) -> Result<Start, Error> {
        let birth = Birth { lite, ..asked_for(settings) };
        let group = limits.group.as_ref();
        let in_group = group.is_some_and(|group| group.to_be_born_in().is_some());
        let fits =
            |start: &Start| start.birth == birth && start.in_group == in_group && in_group == limits.claimed;
        match early {
            Some(start) if fits(&start) => Ok(start),
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

/// The group of cgroup v2 that pid 1 is to be born in, if limits are asked for and it may be cloned early. Which
/// they are is not known before the settings are, so that it has to be fit for all that may be asked for.
pub(super) fn reserve(
    request: &Request,
    (user, seat): (Option<&UserFile>, Option<&Seat>),
    id: &Id,
) -> Option<Limits> {
    if user.is_some() || !asks_for_group(request, seat) || !limits::may_be_v2() {
        return None;
    }
    let io = layers(request, seat).any(|l| l.io_read.is_some() || l.io_write.is_some()).then_some(u64::MAX);
    let guess = Wants {
        mem: Some(u64::MAX),
        cpu_millis: Some(u64::MAX),
        pids: Some(u64::MAX),
        io_read: io,
        ..Wants::default()
    };
    let mut group = Limits::reserve(&guess, id, &limits::here())?;
    match request.hold {
        // What joins it may have limits of its own.
        Some(_) => group.divide().is_ok().then_some(group),
        None => Some(group),
    }
}

/// What is asked for, as far as it is known before any file is read.
fn layers<'a>(request: &'a Request, seat: Option<&'a Seat>) -> impl Iterator<Item = &'a Layer> {
    std::iter::once(&request.flags).chain(seat.map(|seat| &seat.kept.stored.layer))
}

/// Whether limits are asked for, so that it may have to be born in a group of its own.
fn asks_for_group(request: &Request, seat: Option<&Seat>) -> bool {
    let asks = |l: &Layer| {
        l.preset.is_some()
            || [&l.mem, &l.cpu_millis, &l.pids, &l.io_read, &l.io_write].into_iter().any(Option::is_some)
    };
    layers(request, seat).any(asks) || super::spec::test_takes("core-group")
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
