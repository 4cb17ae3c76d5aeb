//! Whether a job is ready: asked by a helper of its supervisor, which ends with it.

use std::time::{Duration, Instant};

use super::{Error, Found, alive, knock};
use crate::base::clock;
use crate::base::id::Id;
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
    if until(&mut found, &condition, turn, Some(limit))? == Met::Yes {
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

/// Wait for `condition` in turn `turn`.
pub(super) fn until(
    found: &mut Found,
    condition: &Condition,
    turn: u32,
    limit: Option<Duration>,
) -> Result<Met, Error> {
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
            let mut ports = listening(pid);
            let met = match condition {
                Condition::Port(port) => ports.contains(port),
                Condition::Http { port, path } => {
                    // Nobody is asked before something listens.
                    ports.retain(|listened| port.is_none_or(|port| port == *listened));
                    let job = (found.filed.record.workspace, pid);
                    !ports.is_empty() && knock::answers(&found.state, job, (&ports, path), left)
                }
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

/// A process in the job's network.
fn jail(found: &Found) -> Option<i32> {
    let record = &found.filed.record;
    let init = record.init.as_ref().filter(|init| record.phase == Phase::Running && alive::lives(init))?;
    i32::try_from(init.pid).ok()
}
