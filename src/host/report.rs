//! From facts to the rows of `aj doctor`. Pure: a recorded situation gives the same rows anywhere.

use super::cause::{Cause, causes, fixes, fixes_of_signal, texts};
use super::facts::{Container, Facts, Tried};
use super::fix::some;
use crate::base::text;
use crate::schema::doctor::{Check, Document, FORMAT, Status};

/// A mechanism that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mechanism {
    /// Id of its check.
    pub id: &'static str,
    /// Whether the full mode is impossible without it.
    pub required: bool,
    /// What it means when it does not work.
    effect: &'static str,
}

const fn mechanism(id: &'static str, required: bool, effect: &'static str) -> Mechanism {
    Mechanism { id, required, effect }
}

const NO_JAIL: &str = "no jail can be started in the full mode";

/// Every mechanism, in the order of the report.
pub const MECHANISMS: [Mechanism; 20] = [
    mechanism("userns", true, NO_JAIL),
    mechanism("namespaces", true, NO_JAIL),
    mechanism("mounts", true, NO_JAIL),
    mechanism("pivot_root", true, NO_JAIL),
    mechanism("proc", true, NO_JAIL),
    mechanism("devpts", true, NO_JAIL),
    mechanism("network", true, "no jail can be started, but with `--net host`"),
    mechanism("overlay", false, "what runs change is held in memory while they run, up to `--tmp`"),
    mechanism("idmap", false, "jails of root work on a private copy of this directory, made at every start"),
    mechanism("workspace", false, "this directory cannot be shown as an overlay"),
    mechanism("no_new_privs", true, NO_JAIL),
    mechanism("seccomp", true, NO_JAIL),
    mechanism("landlock", false, "jails have no second lock on files; the mounts alone keep the host's away"),
    mechanism("keyring", true, NO_JAIL),
    mechanism("pidfd", true, NO_JAIL),
    mechanism("close_range", true, NO_JAIL),
    mechanism(
        "process_limit",
        false,
        "`--pids` counts all processes of the user, not those of the jail alone",
    ),
    mechanism("jail", true, "`aj exec` does not work in the full mode"),
    mechanism("nested", false, "`aj exec --mode nested` does not work either"),
    mechanism("lite", false, "`aj exec --mode lite` does not work either"),
];

/// So many at the end are whole jails, from the strongest mode to the weakest.
const WHOLE: usize = 3;

/// The whole report.
pub fn document(facts: &Facts) -> Document {
    let checks = checks(facts);
    let full = !checks.iter().any(|c| c.required && c.status == Status::Fail);
    let works = |mode: &&str| facts.tried.get(*mode).is_some_and(Tried::worked);
    let mode = if full { Some("full") } else { ["nested", "lite"].into_iter().find(works) };
    Document { format_version: FORMAT.to_owned(), mode: mode.map(str::to_owned), checks }
}

/// Every check, always in the same order: the machine, what was tried, settings, state, a whole jail.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let (mechanisms, whole) = MECHANISMS.split_at(MECHANISMS.len() - WHOLE);
    let mut all = vec![kernel(facts), container(facts)];
    for m in mechanisms {
        all.push(if m.id == "landlock" { landlock(facts, m) } else { tried(facts, m) });
    }
    all.extend([
        max_user_namespaces(facts),
        unprivileged_userns_clone(facts),
        apparmor(facts),
        yama(facts),
        cgroup(facts),
        state(facts),
    ]);
    all.extend(whole.iter().map(|m| tried(facts, m)));
    all
}

fn check(id: &str, status: Status, evidence: impl Into<String>) -> Check {
    Check {
        id: id.to_owned(),
        status,
        required: false,
        evidence: evidence.into(),
        effect: None,
        fix: Vec::new(),
    }
}

fn with(mut check: Check, effect: &str, fix: Vec<String>) -> Check {
    check.effect = Some(effect.to_owned());
    check.fix = fix;
    check
}

fn tried(facts: &Facts, m: &Mechanism) -> Check {
    let not_tried = Tried::Skipped("was not tried".to_owned());
    let tried = facts.tried.get(m.id).unwrap_or(&not_tried);
    let bad = if m.required { Status::Fail } else { Status::Warn };
    let seen = tried.text();
    let row = match tried {
        Tried::Worked(_) => check(m.id, Status::Ok, seen),
        Tried::Skipped(_) => check(m.id, Status::Skip, seen),
        Tried::Weak(_) => with(check(m.id, Status::Warn, seen), m.effect, weak(facts, m)),
        Tried::Failed { step, errno } => {
            with(check(m.id, bad, seen), m.effect, fixes(step, errno, &facts.machine))
        }
        Tried::Killed { signal, .. } => {
            with(check(m.id, bad, seen), m.effect, fixes_of_signal(*signal, &facts.machine))
        }
        Tried::Wrong(_) | Tried::TimedOut(_) => with(check(m.id, bad, seen), m.effect, Vec::new()),
    };
    let evidence = match (m.id, &facts.state.fs, &facts.workspace_fs) {
        ("overlay", Some(fs), _) if !matches!(tried, Tried::Skipped(_)) => {
            format!("{} (state on {fs})", row.evidence)
        }
        ("seccomp", ..) if row.status == Status::Ok => {
            format!("{}; actions: {}", row.evidence, facts.machine.seccomp_actions.join(", "))
        }
        ("idmap" | "workspace", _, Some(fs)) if !matches!(tried, Tried::Skipped(_)) => {
            format!("{} ({fs})", row.evidence)
        }
        _ => row.evidence,
    };
    Check { required: m.required, evidence, ..row }
}

fn weak(facts: &Facts, m: &Mechanism) -> Vec<String> {
    match m.id {
        "process_limit" if facts.machine.version() < (5, 14) => {
            texts(&[Cause::OldKernel(5, 14)], &facts.machine)
        }
        "idmap" => texts(&[Cause::NoIdmap], &facts.machine),
        _ => Vec::new(),
    }
}

fn kernel(facts: &Facts) -> Check {
    let m = &facts.machine;
    if m.version() >= (5, 14) {
        return check("kernel", Status::Ok, m.kernel.clone());
    }
    let row = check("kernel", Status::Warn, m.kernel.clone());
    with(
        row,
        "older than 5.14: jails may be weaker, or not work at all",
        texts(&[Cause::OldKernel(5, 14)], m),
    )
}

fn container(facts: &Facts) -> Check {
    let m = &facts.machine;
    let mut seen = Vec::new();
    match &m.container {
        Some(Container::Docker) => seen.push("`/.dockerenv` is there".to_owned()),
        Some(Container::Podman) => seen.push("`/run/.containerenv` is there".to_owned()),
        Some(Container::Kubernetes) => seen.push("a Kubernetes service account is mounted".to_owned()),
        Some(Container::Other(kind)) => seen.push(format!("container={}", text::printable(kind.as_bytes()))),
        None => {}
    }
    if !m.initial_userns {
        seen.push("not the first user namespace".to_owned());
    }
    if m.seccomp == 2 {
        seen.push("a system call filter is in force".to_owned());
    }
    if m.no_new_privs {
        seen.push("no_new_privs is set".to_owned());
    }
    if !m.proc_masks.is_empty() {
        seen.push(format!("mounts over {}", some(&m.proc_masks)));
    }
    if m.chroot {
        seen.push("`/` is no mount: a chroot".to_owned());
    }
    if seen.is_empty() {
        return check("container", Status::Ok, "no sign of a container or a sandbox around aj");
    }
    let mut row = check("container", Status::Ok, seen.join("; "));
    row.effect = Some("the rules of whatever is around aj hold for its jails as well".to_owned());
    row
}

fn landlock(facts: &Facts, m: &Mechanism) -> Check {
    let l = &facts.landlock;
    let row = tried(facts, m);
    if l.abi == 0 {
        let errno = l.errno.as_deref().unwrap_or("none");
        let cause = match errno {
            "EOPNOTSUPP" => Cause::LandlockOff,
            _ if facts.machine.is_confined() && facts.machine.version() >= (5, 13) => Cause::Confined,
            _ => Cause::Missing("CONFIG_SECURITY_LANDLOCK"),
        };
        let row = check(m.id, Status::Warn, format!("no ABI: landlock_create_ruleset: {errno}"));
        return with(row, m.effect, texts(&[cause], &facts.machine));
    }
    let errata = l.errata.map(|e| format!(", errata {e:#x}")).unwrap_or_default();
    let evidence = format!("ABI {}{errata}; {}", l.abi, row.evidence);
    match l.abi {
        1 => {
            let row = check(
                m.id,
                Status::Warn,
                format!("ABI 1{errata}: not used, it breaks every rename across directories"),
            );
            with(row, m.effect, texts(&[Cause::OldKernel(5, 19)], &facts.machine))
        }
        2..=5 if row.status == Status::Ok => {
            let row = check(m.id, Status::Warn, evidence);
            let effect = "no scopes (ABI 6): the namespaces alone keep signals and abstract sockets inside";
            with(row, effect, texts(&[Cause::OldKernel(6, 12)], &facts.machine))
        }
        _ => Check { evidence, ..row },
    }
}

/// A setting that could forbid something is bad when it is why something here failed.
fn setting(id: &str, evidence: String, facts: &Facts, cause: Cause, effect: &str) -> Check {
    let blamed = facts.tried.values().any(|t| match t {
        Tried::Failed { step, errno } => causes(step, errno, &facts.machine).contains(&cause),
        _ => false,
    });
    if blamed {
        with(check(id, Status::Fail, evidence), effect, texts(&[cause], &facts.machine))
    } else {
        check(id, Status::Ok, evidence)
    }
}

const REFUSED: &str = "user namespaces are refused";

fn max_user_namespaces(facts: &Facts) -> Check {
    const ID: &str = "max_user_namespaces";
    match facts.machine.max_user_namespaces {
        None => check(ID, Status::Skip, "user.max_user_namespaces cannot be read"),
        Some(n) => {
            setting(ID, format!("user.max_user_namespaces = {n}"), facts, Cause::UsernsLimitZero, REFUSED)
        }
    }
}

fn unprivileged_userns_clone(facts: &Facts) -> Check {
    const ID: &str = "unprivileged_userns_clone";
    match facts.machine.unprivileged_userns_clone {
        None => check(ID, Status::Ok, "this kernel has no such switch"),
        Some(n) => {
            let evidence = format!("kernel.unprivileged_userns_clone = {n}");
            setting(ID, evidence, facts, Cause::UnprivilegedCloneOff, REFUSED)
        }
    }
}

fn apparmor(facts: &Facts) -> Check {
    const ID: &str = "apparmor";
    let m = &facts.machine;
    let label = m.label.as_deref().map(|l| format!("; this process is `{l}`")).unwrap_or_default();
    let switch = m.apparmor_userns.map(|n| {
        let evidence = format!("kernel.apparmor_restrict_unprivileged_userns = {n}{label}");
        let effect = "user namespaces get no capabilities, so no jail can be started";
        setting(ID, evidence, facts, Cause::AppArmorUserns, effect)
    });
    let switch =
        switch.unwrap_or_else(|| check(ID, Status::Ok, format!("no restriction of user namespaces{label}")));
    match m.profile() {
        Some(name) if switch.status == Status::Ok => {
            let evidence = format!("the profile `{name}` holds for this process");
            let effect = "what it does not allow is refused, so no jail can be started";
            let profile = setting(ID, evidence, facts, Cause::AppArmorProfile, effect);
            if profile.status == Status::Ok { switch } else { profile }
        }
        _ => switch,
    }
}

fn yama(facts: &Facts) -> Check {
    match facts.machine.yama {
        None => check("yama", Status::Ok, "not in this kernel"),
        Some(n @ 0..=1) => check("yama", Status::Ok, format!("kernel.yama.ptrace_scope = {n}")),
        Some(n) => {
            let mut row = check("yama", Status::Warn, format!("kernel.yama.ptrace_scope = {n}"));
            row.effect = Some("strace and gdb do not work in jails".to_owned());
            row
        }
    }
}

fn cgroup(facts: &Facts) -> Check {
    let c = &facts.machine.cgroup;
    let mode = match (&c.v2, c.v1.is_empty()) {
        (Some(_), true) => "v2",
        (Some(_), false) => "v1 and v2",
        (None, false) => "v1",
        (None, true) => "none are mounted",
    };
    let mut seen = vec![mode.to_owned()];
    if !c.v1.is_empty() {
        seen.push(format!("v1 controllers: {}", c.v1.join(", ")));
    }
    if let Some(own) = &c.own {
        let may = if c.writable { "may" } else { "may not" };
        let controllers = if c.controllers.is_empty() { "none".to_owned() } else { c.controllers.join(", ") };
        seen.push(format!("own v2 group `{}` {may} be written, controllers: {controllers}", text::os(own)));
    }
    let (status, effect) = match facts.tried.get("limits") {
        Some(Tried::Worked(what)) => {
            seen.push(what.clone());
            (Status::Ok, None)
        }
        Some(Tried::Skipped(why)) => {
            seen.push(why.clone());
            (Status::Ok, None)
        }
        Some(other) => {
            seen.push(other.text());
            (
                Status::Warn,
                Some(
                    "limits that are missing are refused, but for `--pids`; with `--best-effort` memory is watched instead",
                ),
            )
        }
        None => (Status::Ok, None),
    };
    let row = check("cgroup", status, seen.join("; "));
    match effect {
        Some(effect) => with(row, effect, super::cgroups::fixes(&facts.machine)),
        None => row,
    }
}

/// Below this, a run that writes a little will fail.
const LITTLE: u64 = 100 << 20;
const FEW: u64 = 1000;

fn state(facts: &Facts) -> Check {
    let s = &facts.state;
    let path = s.path.as_deref().unwrap_or("no path");
    let fs = s.fs.as_deref().unwrap_or("an unknown file system");
    let row = match &s.trouble {
        Some(why) => with(check("state", Status::Fail, why), "no jail can be started", s.fix.clone()),
        None => {
            let files = s.files.map(|n| format!(", {n} files")).unwrap_or_default();
            let seen = format!("`{path}` is ours alone and writable; {fs}, {} MiB{files} free", s.free >> 20);
            let seen = match &s.disk_by {
                Some(by) => format!("{seen}; `--disk` is {by}"),
                None => seen,
            };
            let seen = match &s.note {
                Some(note) => format!("{seen}; {note}"),
                None => seen,
            };
            if s.bare {
                let seen = format!("{seen}; it knows no attributes");
                let effect =
                    "nothing that a command changes can be kept there, so it runs with `--rw` or `--ro` only";
                with(
                    check("state", Status::Fail, seen),
                    effect,
                    texts(&[Cause::OverlayUpper], &facts.machine),
                )
            } else if s.free < LITTLE || s.files.is_some_and(|n| n < FEW) {
                let effect = "there is little room for what jails change";
                with(check("state", Status::Warn, seen), effect, texts(&[Cause::NoSpace], &facts.machine))
            } else {
                check("state", Status::Ok, seen)
            }
        }
    };
    Check { required: true, ..row }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
