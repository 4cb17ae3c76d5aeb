//! When pid 1 is cloned: before anything is known about the run but its network and its ids, if those are
//! sure. It makes its namespaces on another processor, the longest part of a start, while the launcher
//! finds the project, reads its file and plans.

use super::{Error, Request, streams};
use crate::jail::launch::{self, Born};
use crate::jail::spec::{Birth, Ids, Owner};
use crate::policy::file::UserFile;
use crate::policy::settings::{Net, Settings};
use crate::sys;

/// A pid 1 to be, or why there is none.
pub(super) struct Start {
    birth: Birth,
    born: sys::Result<Born>,
}

impl Start {
    fn new(request: &Request, birth: Birth) -> Start {
        let born = launch::bear(&birth, streams::stdin(), request.capture || !streams::same_file());
        Start { birth, born }
    }

    /// Where the user has a configuration of its own, what is asked for depends on more than the flags: a
    /// project's file may only narrow it, and no preset opens the network.
    pub(super) fn early(request: &Request, user: Option<&UserFile>) -> Option<Start> {
        let flags = &request.flags;
        let net = flags.net.as_ref().map_or(Net::None, |net| net.value);
        let as_root = flags.as_root.as_ref().is_some_and(|root| root.value);
        user.is_none().then(|| Start::new(request, birth(net, as_root)))
    }

    /// The one that `settings` ask for: that which was cloned early, if it is.
    pub(super) fn fitting(
        early: Option<Start>,
        request: &Request,
        settings: &Settings,
    ) -> Result<Start, Error> {
        let birth = asked_for(settings);
        match early {
            Some(start) if start.birth == birth => Ok(start),
            Some(start) => start.abandon().map(|()| Start::new(request, birth)),
            None => Ok(Start::new(request, birth)),
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

/// What `settings` ask for.
pub(super) fn asked_for(settings: &Settings) -> Birth {
    birth(settings.net, settings.as_root)
}

fn birth(net: Net, as_root: bool) -> Birth {
    let ids = match nix::unistd::geteuid().as_raw() {
        0 => Ids::Range,
        uid => Ids::Caller { owner: Owner { uid, gid: nix::unistd::getegid().as_raw() } },
    };
    Birth { ids, as_root, net }
}
