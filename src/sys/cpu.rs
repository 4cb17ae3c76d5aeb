//! Which processors a process may run on.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The processors that this process may run on.
#[derive(Debug, Clone, Copy)]
pub struct Processors(CpuSet);

/// Those of this process.
pub fn mine() -> Option<Processors> {
    sched_getaffinity(Pid::from_raw(0)).ok().map(Processors)
}

impl Processors {
    /// Have the child `pid`, just made, begin on another processor than the one its maker runs on,
    /// if there is one. The scheduler likes to start it here, where it waits for us to have nothing
    /// to do. Failing is no loss.
    pub fn elsewhere(&self, pid: i32) {
        let mut others = self.0;
        let gone = sched_getcpu().and_then(|here| others.unset(here));
        let some = (0..CpuSet::count()).any(|n| others.is_set(n).unwrap_or(false));
        if gone.is_ok() && some {
            sched_setaffinity(Pid::from_raw(pid), &others).ok();
        }
    }

    /// Let this process run on these again: the other half of [`Processors::elsewhere`], in the child.
    pub fn restore(&self) {
        sched_setaffinity(Pid::from_raw(0), &self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::vfork_start;

    #[test]
    fn a_child_kept_off_a_processor_may_use_all_again() {
        let all = mine().unwrap();
        let mut seen = None;
        let pid = vfork_start(&mut || {
            all.elsewhere(0);
            let less = mine();
            all.restore();
            seen = less.zip(mine());
            0
        })
        .unwrap();
        crate::sys::pidfd::wait4(pid).unwrap();
        let (less, again) = seen.unwrap();
        let count = |p: Processors| (0..CpuSet::count()).filter(|n| p.0.is_set(*n).unwrap()).count();
        assert_eq!(count(again), count(all));
        assert_eq!(count(less), if count(all) > 1 { count(all) - 1 } else { 1 });
    }
}
