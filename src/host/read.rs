//! Facts that a few small files hold. Nothing here is tried, and nothing here can fail: what cannot
//! be read is unknown.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};

use super::facts::{Cgroup, Container, Machine};
use super::mounts::{self, Mount};
use crate::base::text;

/// Largest file that is read: a table of mounts may be long.
const MOST: u64 = 4 << 20;

fn bytes(path: impl AsRef<Path>) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut all).ok()?;
    Some(all)
}

/// One line of text from a file of the kernel's, printable.
fn word(path: impl AsRef<Path>) -> Option<String> {
    let all = bytes(path)?;
    let line = all.split(|b| matches!(b, b'\n' | 0)).next()?;
    Some(text::printable(line.trim_ascii())).filter(|w| !w.is_empty())
}

fn number(path: &str) -> Option<u64> {
    word(path)?.parse().ok()
}

/// Kinds of namespaces that a jail is made of, besides the user's, as the limits spell them.
const KINDS: [&str; 6] = ["mnt", "pid", "ipc", "uts", "cgroup", "net"];

/// Read all of it. `range` is the first and the last host id that jails of root are mapped to.
pub fn machine(range: (u32, u32)) -> Machine {
    let mounts = table();
    let maps = id_maps();
    let mut machine = Machine {
        kernel: nix::sys::utsname::uname().map(|u| text::os(u.release())).unwrap_or_default(),
        uid: nix::unistd::geteuid().as_raw(),
        initial_userns: maps.contains(&(0, 0, u32::MAX)),
        has_range: maps.iter().any(|m| contains(*m, range)),
        max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
        forbidden_kinds: KINDS
            .into_iter()
            .filter(|k| number(&format!("/proc/sys/user/max_{k}_namespaces")) == Some(0))
            .map(str::to_owned)
            .collect(),
        unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_userns: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        label: word("/proc/self/attr/apparmor/current").or_else(|| word("/proc/self/attr/current")),
        lsm: word("/sys/kernel/security/lsm"),
        seccomp_actions: word("/proc/sys/kernel/seccomp/actions_avail")
            .map(|w| w.split(' ').map(str::to_owned).collect())
            .unwrap_or_default(),
        container: container(),
        proc_masks: masks(&mounts),
        chroot: !mounts.is_empty() && !mounts.iter().any(|m| m.at == Path::new("/")),
        initramfs: mounts::of(&mounts, Path::new("/")).is_some_and(|m| m.kind == "rootfs"),
        yama: number("/proc/sys/kernel/yama/ptrace_scope"),
        cgroup: cgroup(&mounts),
        exe: std::env::current_exe().ok(),
        stack: getrlimit(Resource::RLIMIT_STACK).ok().map(|(soft, _)| soft),
        ..Machine::default()
    };
    for line in bytes("/proc/self/status").unwrap_or_default().split(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(line);
        match line.split_once(':').map(|(k, v)| (k, v.trim())) {
            Some(("CapEff", set)) => machine.weak_root = machine.uid == 0 && lacks(set, &FOR_JAILS),
            Some(("Seccomp", mode)) => machine.seccomp = mode.parse().unwrap_or(0),
            Some(("NoNewPrivs", set)) => machine.no_new_privs = set == "1",
            _ => {}
        }
    }
    machine
}

/// What a jail of root is made with: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN.
const FOR_JAILS: [u32; 5] = [0, 1, 6, 7, SYS_ADMIN];
const SYS_ADMIN: u32 = 21;

fn lacks(set: &str, capabilities: &[u32]) -> bool {
    u64::from_str_radix(set, 16).is_ok_and(|set| capabilities.iter().any(|n| set & (1 << n) == 0))
}

/// Whether this is root that may mount nothing.
pub fn root_without_mounts() -> bool {
    let status = bytes("/proc/self/status").unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    nix::unistd::geteuid().is_root() && set.is_some_and(|set| lacks(set.trim(), &[SYS_ADMIN]))
}

/// Type of the file system that `path` lies in, and whether its mount is read-only.
pub fn file_system(path: &Path) -> Option<(String, bool)> {
    let path = std::path::absolute(path).ok()?;
    mounts::of(&table(), &path).map(|m| (m.kind.clone(), m.read_only))
}

fn table() -> Vec<Mount> {
    mounts::parse(&bytes("/proc/self/mountinfo").unwrap_or_default())
}

/// Lines of `uid_map`: inside, outside, count.
fn id_maps() -> Vec<(u32, u32, u32)> {
    let all = bytes("/proc/self/uid_map").unwrap_or_default();
    let text = String::from_utf8_lossy(&all).into_owned();
    let line = |l: &str| {
        let mut n = l.split_whitespace().map(|n| n.parse().ok());
        Some((n.next()??, n.next()??, n.next()??))
    };
    text.lines().filter_map(line).collect()
}

fn contains((inside, _, count): (u32, u32, u32), (first, last): (u32, u32)) -> bool {
    first >= inside && u64::from(last) < u64::from(inside) + u64::from(count)
}

fn container() -> Option<Container> {
    let there = |p: &str| Path::new(p).exists();
    if there("/run/.containerenv") {
        return Some(Container::Podman);
    }
    if there("/var/run/secrets/kubernetes.io/serviceaccount") {
        return Some(Container::Kubernetes);
    }
    if there("/.dockerenv") {
        return Some(Container::Docker);
    }
    if let Some(kind) = word("/run/systemd/container") {
        return Some(Container::Other(kind));
    }
    // Readable for root only; what it cannot show is unknown.
    let environment = bytes("/proc/1/environ")?;
    let value = environment.split(|b| *b == 0).find_map(|v| v.strip_prefix(b"container="))?;
    Some(Container::Other(text::printable(value))).filter(|c| *c != Container::Other(String::new()))
}

/// Mounts below `/proc`, other than the one that systemd makes for its own use.
fn masks(mounts: &[Mount]) -> Vec<String> {
    let covers = |m: &&Mount| {
        m.at.starts_with("/proc")
            && m.at != Path::new("/proc")
            && m.at != Path::new("/proc/sys/fs/binfmt_misc")
    };
    let mut masks: Vec<String> = mounts.iter().filter(covers).map(|m| text::os(&m.at)).collect();
    masks.sort();
    masks.dedup();
    masks
}

fn cgroup(mounts: &[Mount]) -> Cgroup {
    let mut found = Cgroup::default();
    let mount = mounts.iter().find(|m| m.kind == "cgroup2");
    found.v2 = mount.map(|m| m.at.clone());
    let all = bytes("/proc/self/cgroup").unwrap_or_default();
    for line in String::from_utf8_lossy(&all).lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if id == "0" && controllers.is_empty() {
            found.own = mount.and_then(|m| own_group(m, path));
        } else {
            found.v1.extend(controllers.split(',').filter(|c| !c.starts_with("name=")).map(str::to_owned));
        }
    }
    found.v1.sort();
    if let Some(own) = &found.own {
        let may = |p: &Path| access(p, AccessFlags::W_OK).is_ok();
        found.writable = may(own) && may(&own.join("cgroup.procs"));
        found.controllers = word(own.join("cgroup.controllers"))
            .map(|w| w.split(' ').map(str::to_owned).collect())
            .unwrap_or_default();
    }
    found
}

/// The directory of group `path` below a mount that may show only a part of the hierarchy.
fn own_group(mount: &Mount, path: &str) -> Option<PathBuf> {
    let inner = Path::new(path).strip_prefix(&mount.root).ok()?;
    Some(if inner.as_os_str().is_empty() { mount.at.clone() } else { mount.at.join(inner) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let m = machine((1_000_000, 1_065_535));
        assert!(m.version() >= (3, 10), "{m:?}");
        assert_eq!(m.uid, nix::unistd::geteuid().as_raw());
        assert!(m.exe.is_some());
        assert!(!m.initial_userns || m.has_range);
    }

    #[test]
    fn a_range_is_there_only_as_a_whole() {
        assert!(contains((0, 0, u32::MAX), (1_000_000, 1_065_535)));
        assert!(!contains((0, 1000, 1), (1_000_000, 1_065_535)));
        assert!(!contains((0, 0, 1_065_535), (1_000_000, 1_065_535)));
        assert!(contains((0, 0, 1_065_536), (1_000_000, 1_065_535)));
    }

    #[test]
    fn only_foreign_mounts_below_proc_are_masks() {
        let table = mounts::parse(
            b"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /proc rw - proc p rw\n\
              3 2 0:3 / /proc/sys/fs/binfmt_misc rw - autofs s rw\n4 2 0:4 / /proc/kcore rw - tmpfs t rw\n\
              5 2 0:4 / /proc/kcore rw - tmpfs t rw\n",
        );
        assert_eq!(masks(&table), ["/proc/kcore"]);
    }

    #[test]
    fn a_group_is_found_below_what_the_mount_shows() {
        let table = mounts::parse(b"1 0 0:1 /a/b /sys/fs/cgroup rw - cgroup2 x rw\n");
        let own = |p: &str| table.first().and_then(|m| own_group(m, p));
        assert_eq!(own("/a/b/c"), Some("/sys/fs/cgroup/c".into()));
        assert_eq!(own("/a/b"), Some("/sys/fs/cgroup".into()));
        assert_eq!(own("/elsewhere"), None);
    }
}
