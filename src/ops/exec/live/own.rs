//! The limits that one command in a live jail has for itself: they narrow those of the jail, which hold all the same.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::super::Error;
use super::super::seat::Seat;
use super::NotLive;
use crate::base::id::Id;
use crate::base::{size, text};
use crate::host::cgroups::Controller;
use crate::jail::limits::nested::Jail;
use crate::jail::limits::{Limits, Missing, Wants};
use crate::policy::key::Key;
use crate::policy::resolve::{Asked, Resolved};
use crate::policy::settings::Settings;
use crate::schema::jail::Effective;
use crate::sys;

/// In the directory of a workspace: commands with limits of their own were in its jail, whose holder is to look
/// for their groups.
const MARK: &str = "limited";

/// What a command has less of than its jail, and what is to be said of what it cannot have more of.
#[derive(Debug, Default)]
pub(super) struct Own {
    wants: Wants,
    pub(super) words: Vec<String>,
}

impl Own {
    /// What `resolved` asks for, in a jail that was asked to have `jail` and has the limits of `policy`.
    pub(super) fn of(resolved: &Resolved, (jail, policy): (&[Option<u64>; 3], &Effective)) -> Own {
        let mut own = Own::default();
        let [mem, cpu_millis, pids] = asked(&resolved.settings);
        let [jail_mem, jail_cpu, jail_pids] = *jail;
        let mut less = |key, asked: Option<u64>, (jail, has): (Option<u64>, Option<u64>)| {
            // What all of its commands ask for is the jail's affair, whatever this machine makes of it.
            if asked == jail {
                // But whoever asks for it by himself is not to take it for held.
                return asked.filter(|_| has.is_none() && insists(resolved, key));
            }
            match (asked, has) {
                (Some(asked), has) if has.is_none_or(|has| asked < has) => {
                    // A default is that of the jail.
                    Some(asked).filter(|_| resolved.is_named(key))
                }
                (_, Some(has)) if asked != Some(has) => {
                    own.words.push(format!(
                        "`{}`: the limit of the workspace's jail holds, which is {}",
                        key.flag(),
                        shown(key, has)
                    ));
                    None
                }
                _ => None,
            }
        };
        own.wants = Wants {
            mem: less(Key::Mem, mem, (jail_mem, policy.mem)),
            cpu_millis: less(Key::Cpus, cpu_millis, (jail_cpu, policy.cpu_millis)),
            pids: less(Key::Pids, pids, (jail_pids, policy.pids)),
            only_group: true,
            ..Wants::default()
        };
        own
    }

    /// Whether it has what its jail has.
    pub(super) fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Make the groups that hold it, and say so in `policy`. `None`: whoever asked does without.
    pub(super) fn hold(
        &mut self,
        (seat, dir): (&Seat, &File),
        resolved: &Resolved,
        (id, jail, holder): (&Id, Id, Option<i32>),
        policy: &mut Effective,
    ) -> Result<Option<Limits>, Error> {
        mark(dir)?;
        let limits_by = policy.limits_by.clone();
        let jail = holder.map(|holder| Jail { id: jail, holder, limits_by: &limits_by });
        while !self.wants.is_empty() {
            match Limits::nested(&self.wants, id, jail.as_ref()) {
                Ok(group) => {
                    self.record(&group, policy);
                    return Ok(Some(group));
                }
                Err(missing) if !self.is_insisted_on(&missing, resolved) => {
                    self.do_without(&missing, resolved);
                }
                Err(missing) => {
                    let what = self.named(&missing, resolved).join(" and ");
                    let why = format!("it needs a cgroup, and {}", missing.why);
                    return Err(NotLive::Unheld { name: seat.name(), what, why }.into());
                }
            }
        }
        Ok(None)
    }

    fn record(&self, group: &Limits, policy: &mut Effective) {
        let Wants { mem, cpu_millis, pids, .. } = &self.wants;
        policy.mem = mem.or(policy.mem);
        policy.cpu_millis = cpu_millis.or(policy.cpu_millis);
        policy.pids = pids.or(policy.pids);
        group.backend().name().clone_into(&mut policy.limits_by);
    }

    /// What is wanted and missing.
    fn missing(&self, missing: &Missing) -> impl Iterator<Item = (Option<u64>, Key, Controller)> {
        let all = [
            (self.wants.mem, Key::Mem, Controller::Memory),
            (self.wants.cpu_millis, Key::Cpus, Controller::Cpu),
            (self.wants.pids, Key::Pids, Controller::Pids),
        ];
        all.into_iter()
            .filter(|(wanted, _, controller)| wanted.is_some() && missing.controllers.contains(controller))
    }

    /// The same, as whoever asked for it would look for it.
    fn named(&self, missing: &Missing, resolved: &Resolved) -> Vec<String> {
        let text = |(_, key, _): (Option<u64>, Key, Controller)| {
            Some(resolved.setting_text(key, resolved.origin(key)?))
        };
        self.missing(missing).filter_map(text).collect()
    }

    /// Whether somebody asked for what is missing who is not to go without.
    fn is_insisted_on(&self, missing: &Missing, resolved: &Resolved) -> bool {
        self.missing(missing).any(|(_, key, _)| insists(resolved, key))
    }

    fn do_without(&mut self, missing: &Missing, resolved: &Resolved) {
        for what in self.named(missing, resolved) {
            self.words.push(format!("{what} is not enforced for this command: {}", missing.why));
        }
        // Whatever is told, this comes to an end.
        let before = self.wants.clone();
        self.wants.without(&missing.controllers);
        if self.wants == before {
            self.wants = Wants::default();
        }
    }
}

/// Whether the user asked for it and is not to go without: a project may narrow what its user allows, and not keep
/// the user from working.
fn insists(resolved: &Resolved, key: Key) -> bool {
    !resolved.settings.best_effort && matches!(resolved.asked(key), Asked::User(_))
}

/// What is asked for of what a command may have less of than its jail.
pub(super) fn asked(settings: &Settings) -> [Option<u64>; 3] {
    [settings.mem, settings.cpu_millis, settings.pids]
}

fn shown(key: Key, value: u64) -> String {
    match key {
        Key::Mem => size::human(value),
        Key::Cpus => {
            format!("{}.{:03}", value / 1000, value % 1000).trim_end_matches('0').trim_end_matches('.').into()
        }
        _ => value.to_string(),
    }
}

/// Note that there are such commands.
fn mark(dir: &File) -> Result<(), Error> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    match openat(dir, MARK, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Launch(sys::Error::new("open", text::printable(MARK.as_bytes()), e))),
    }
}

/// Whether there were, in the jail that has ended. It is forgotten.
pub(super) fn were_there(dir: &File) -> bool {
    unlinkat(dir, MARK, UnlinkatFlags::NoRemoveDir) != Err(Errno::ENOENT)
}
