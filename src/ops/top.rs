//! `aj top`: what the jails that run use, look by look.

use std::collections::HashMap;
use std::time::Instant;

use crate::base::clock::{now_ms, rfc3339};
use crate::base::id::Id;
use crate::base::text::printable;
use crate::jail::observe::{self, Sample, Subject};
use crate::monitor::Monitor;
use crate::ops::pause;
use crate::schema::jail::Start;
use crate::schema::ledger::Status;
use crate::schema::top::{CountedBy, FORMAT, Jail, Top};
use crate::store::layout::StateDir;
use crate::store::{alive, live};

pub use crate::store::Error;

/// Looks at the jails of the caller's state directory again and again.
#[derive(Debug, Default)]
pub struct Watch {
    state: Option<StateDir>,
    running: live::Running,
    before: HashMap<Id, Sample>,
}

impl Watch {
    /// Look once. Rates are those since the look before.
    pub fn look(&mut self, monitor: &dyn Monitor) -> Result<Top, Error> {
        if self.state.is_none() {
            self.state = StateDir::open_if_present()?;
        }
        let mut jails = Vec::new();
        if let Some(state) = &self.state {
            let starts = self.running.look(state, monitor)?;
            let found: Vec<(&Start, i32)> = starts.iter().filter_map(|s| Some((s, init(s)?))).collect();
            let subjects: Vec<Subject<'_>> = found
                .iter()
                .map(|(s, init)| Subject { id: s.id, init: *init, limits_by: &s.policy.limits_by })
                .collect();
            let samples = observe::look(&subjects);
            let now = now_ms();
            jails.extend(
                found.iter().zip(&samples).map(|((s, _), x)| row(state, s, x, self.before.get(&s.id), now)),
            );
            self.before = found.iter().map(|(s, _)| s.id).zip(samples).collect();
        }
        Ok(Top { format_version: FORMAT, taken_at: rfc3339(now_ms()), jails })
    }
}

/// Its pid 1, if that is still there. One that only begins, or has ended, uses nothing that could be told.
fn init(start: &Start) -> Option<i32> {
    let init = start.init.filter(|init| alive::may_be_child(*init, start.pid_start, &start.boot_id))?;
    i32::try_from(init).ok()
}

fn row(state: &StateDir, start: &Start, sample: &Sample, before: Option<&Sample>, now: u64) -> Jail {
    let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let us = |s: &Sample| s.cpu.0.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
    // What another one has counted is no difference.
    let cpu = before.filter(|b| b.cpu.1 == sample.cpu.1).and_then(|b| {
        let used = us(sample)?.saturating_sub(us(b)?);
        rate(used, b.at, sample.at).map(|per_second| per_second / 1000)
    });
    let io = |of: fn((u64, u64)) -> u64| {
        let now = sample.io.0.map(of);
        let then = before.filter(|b| b.io.1 == sample.io.1);
        let rate = then.and_then(|b| rate(now?.saturating_sub(of(b.io.0?)), b.at, sample.at));
        (now, rate)
    };
    let ((read, read_rate), (written, write_rate)) = (io(|io| io.0), io(|io| io.1));
    let printed = |text: &str| printable(text.as_bytes());
    Jail {
        id: start.id.to_string(),
        kind: printed(&start.kind),
        status: if pause::is_paused(state, start.id) { Status::Paused } else { Status::Running },
        started_at: rfc3339(start.started_ms),
        age_ms: now.saturating_sub(start.started_ms),
        pid: start.pid,
        argv: start.argv.iter().map(|a| printed(a)).collect(),
        cwd: printed(&start.cwd),
        base: printed(&start.base),
        cpu_ms: sample.cpu.0.map(ms),
        cpu_millis: cpu,
        cpu_millis_limit: start.policy.cpu_millis,
        memory: sample.memory.0,
        memory_limit: start.policy.mem,
        tasks: sample.tasks.0,
        tasks_limit: start.policy.pids,
        read,
        read_rate,
        written,
        write_rate,
        limits_by: printed(&start.policy.limits_by),
        counted_by: CountedBy {
            cpu: sample.cpu.1.name(),
            memory: sample.memory.1.name(),
            tasks: sample.tasks.1.name(),
            io: sample.io.1.name(),
        },
    }
}

/// `amount` in the time from `then` to `now`, as so much in a second. `None`: no time went by.
fn rate(amount: u64, then: Instant, now: Instant) -> Option<u64> {
    let us = now.saturating_duration_since(then).as_micros();
    let per_second = (u128::from(amount) * 1_000_000).checked_div(us)?;
    Some(u64::try_from(per_second).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::observe::By;
    use crate::store::testing::{id, start, state};
    use std::time::Duration;

    fn sample(at: Instant, cpu_ms: u64, io: u64, by: By) -> Sample {
        Sample {
            at,
            cpu: (Some(Duration::from_millis(cpu_ms)), by),
            memory: (Some(1), by),
            tasks: (Some(1), by),
            io: (Some((io, io)), by),
        }
    }

    #[test]
    fn rates_are_what_came_in_a_second_and_never_negative() {
        let (_dir, state) = state();
        let start = start(id(), &["\u{1b}[2J"]);
        let then = Instant::now();
        let now = then + Duration::from_millis(500);
        let seen = |before: Option<&Sample>, x| {
            let jail = row(&state, &start, &x, before, 0);
            (jail.cpu_millis, jail.read_rate, jail.write_rate)
        };
        let before = sample(then, 1000, 1000, By::V2);
        assert_eq!(
            seen(Some(&before), sample(now, 1750, 2000, By::V2)),
            (Some(1500), Some(2000), Some(2000))
        );
        assert_eq!(seen(Some(&before), sample(now, 10, 0, By::V2)), (Some(0), Some(0), Some(0)));
        assert_eq!(seen(Some(&before), sample(now, 1750, 2000, By::Processes)), (None, None, None));
        assert_eq!(seen(Some(&before), sample(then, 1750, 2000, By::V2)), (None, None, None));
        assert_eq!(seen(None, sample(now, 1, 1, By::V2)), (None, None, None));
        let jail = row(&state, &start, &before, None, 1);
        assert_eq!((jail.argv[0].as_str(), jail.age_ms), ("\\x1b[2J", 0));
    }
}
