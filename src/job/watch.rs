//! Waiting for more in a directory: by inotify, and by looking again where that cannot be had.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// How soon one looks again without being told.
const BLIND: Duration = Duration::from_millis(100);

/// A watch on directories: tells that there may be more, not what.
#[derive(Debug)]
pub struct Watch(Option<Inotify>);

impl Watch {
    /// Watch `dirs`. What happened before is not told: look once after this.
    pub fn new<'a>(dirs: impl IntoIterator<Item = &'a Path>) -> Watch {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let Ok(inotify) = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) else {
            return Watch(None);
        };
        for dir in dirs {
            if inotify.add_watch(dir, flags).is_err() {
                return Watch(None);
            }
        }
        Watch(Some(inotify))
    }

    /// Wait until there may be more, `most` at most.
    pub fn wait(&self, most: Duration) {
        let Some(inotify) = &self.0 else {
            std::thread::sleep(BLIND.min(most));
            return;
        };
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            // What was told is not told again; a queue that ran over is read as well.
            Ok(_) => while inotify.read_events().is_ok_and(|events| !events.is_empty()) {},
            Err(_) => std::thread::sleep(BLIND.min(most)),
        }
    }
}
