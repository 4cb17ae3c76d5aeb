//! Whether a job is ready: asked by a helper of its supervisor, which ends with it.

use std::time::{Duration, Instant};

use super::{Error, Found, alive, knock};
use crate::base::clock;
use crate::base::id::Id;
use crate::job::http::{Came, Unready};
use crate::job::read::Reader;
use crate::job::ready::{Condition, Seeker, listening};
use crate::job::watch::Watch;
use crate::schema::job::Phase;
use crate::store::jobs::Home;
use crate::store::layout::StateDir;

/// Pauses between two looks at ports: the first, and the longest.
const SOON: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(250);

/// Look until turn `turn` of job `id` is ready, and note it; until its time for that is up, otherwise.
pub fn probe(id: Id, turn: u32) -> Result<(), Error> {
    let gone = || Error::Removed(id.to_string());
    let state = StateDir::open_if_present()?.ok_or_else(gone)?;
    let home = Home::open(&state, id)?.ok_or_else(gone)?;
    let filed = home.read()?.ok_or_else(gone)?;
    let mut found = Found { state, home, filed };
    let record = &found.filed.record;
    let Some(condition) = record.ready.as_deref().and_then(|text| text.parse::<Condition>().ok()) else {
        return Ok(());
    };
    let limit = Duration::from_millis(record.ready_timeout_ms);
    let mut note = |found: &Found, seen: Unready| {
        // Whoever waits says it when the time is up; without it, less is said.
        found.home.note_unready(turn, &seen.wire()).ok();
    };
    if until(&mut found, &condition, turn, Some(limit), &mut note)? == Met::Yes {
        found.home.be_ready(turn, clock::now_ms())?;
    }
    Ok(())
}

/// What came of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// It has come.
    Yes,
    /// The job ended before.
    Ended,
    /// The time was up before.
    TimeUp,
}

/// Wait for `condition` in turn `turn`. What is seen of a server that is not ready is told when it changes.
pub(super) fn until(
    found: &mut Found,
    condition: &Condition,
    turn: u32,
    limit: Option<Duration>,
    tell: &mut dyn FnMut(&Found, Unready),
) -> Result<Met, Error> {
    let mut server = Server { last: None, tell };
    let began = Instant::now();
    let failed = |id, source| Error::Log { id, source };
    let id = found.filed.record.id;
    let mut log = match condition {
        Condition::Log(pattern) => {
            let from = found.filed.record.log_from;
            let reader = Reader::open(&found.home, found.key(), Some(from)).map_err(|e| failed(id, e))?;
            Some((reader, Seeker::new(pattern.clone()), Watch::new([found.home.path()])))
        }
        Condition::Port(_) | Condition::Http { .. } => None,
    };
    let mut pause = SOON;
    loop {
        let ended = !found.status()?.is_running() || found.filed.record.turn != turn;
        if let Some((reader, seeker, _)) = &mut log {
            while let Some(entry) = reader.step().map_err(|e| failed(id, e))? {
                if seeker.see(&entry) {
                    return Ok(Met::Yes);
                }
            }
        } else if let Some(pid) = jail(found) {
            let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
            let met = match condition {
                Condition::Port(port) => listening(pid).contains(port),
                Condition::Http { port, path } => server.is_ready(found, pid, (*port, path), left),
                Condition::Log(_) => false,
            };
            if met {
                return Ok(Met::Yes);
            }
        }
        if ended {
            return Ok(Met::Ended);
        }
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            return Ok(Met::TimeUp);
        }
        match &log {
            Some((_, _, watch)) => watch.wait(left.min(Duration::from_millis(500))),
            None => std::thread::sleep(left.min(pause)),
        }
        pause = (pause * 3 / 2).min(LATE);
        match found.look() {
            Ok(_) => {}
            Err(Error::Removed(_)) => return Ok(Met::Ended),
            Err(e) => return Err(e),
        }
    }
}

/// A server that is asked, and whoever wants to know what it does.
struct Server<'a> {
    last: Option<Unready>,
    tell: &'a mut dyn FnMut(&Found, Unready),
}

impl Server<'_> {
    fn see(&mut self, found: &Found, seen: Unready) {
        if self.last != Some(seen) {
            (self.tell)(found, seen);
            self.last = Some(seen);
        }
    }

    fn is_ready(
        &mut self,
        found: &Found,
        pid: i32,
        (port, path): (Option<u16>, &str),
        left: Duration,
    ) -> bool {
        let mut ports = listening(pid);
        ports.retain(|listened| port.is_none_or(|port| port == *listened));
        // Nobody is asked before something listens.
        let Some(first) = ports.first() else {
            self.see(found, Unready { port, came: Came::Nobody });
            return false;
        };
        // True until it answers, which it may not before the time is up.
        if self.last.is_none_or(|last| last.came == Came::Nobody) {
            self.see(found, Unready { port: Some(*first), came: Came::Late });
        }
        match knock::answers(&found.state, (found.filed.record.workspace, pid), (&ports, path), left) {
            Ok(()) => return true,
            // Our own time was short, which says nothing new of the server.
            Err(Some(Unready { came: Came::Late, .. })) if left < knock::ONCE => {}
            Err(seen) => seen.into_iter().for_each(|seen| self.see(found, seen)),
        }
        false
    }
}

/// A process in the job's network.
fn jail(found: &Found) -> Option<i32> {
    let record = &found.filed.record;
    let init = record.init.as_ref().filter(|init| record.phase == Phase::Running && alive::lives(init))?;
    i32::try_from(init.pid).ok()
}
