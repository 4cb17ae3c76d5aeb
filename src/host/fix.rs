//! The text for each cause: exact commands for this machine, one action each. Pure.

use std::path::Path;

use super::cause::Cause;
use super::facts::{Container, Machine};
use crate::base::text;

/// What to do about `cause`; the preferred way first.
pub(super) fn of(cause: Cause, m: &Machine) -> Vec<String> {
    match cause {
        Cause::UsernsLimitZero => vec![format!(
            "allow user namespaces: {}",
            sysctl("user.max_user_namespaces", "15000", m)
        )],
        Cause::NamespaceLimit(None) => vec![format!(
            "the limit of user namespaces is used up: end programs that hold some, or raise it: {}",
            sysctl("user.max_user_namespaces", &raised(m), m)
        )],
        Cause::NamespaceLimit(Some(kind)) => vec![format!(
            "raise the limit of {kind} namespaces: {}",
            sysctl(&format!("user.max_{kind}_namespaces"), "15000", m)
        )],
        Cause::UnprivilegedCloneOff => vec![format!(
            "allow user namespaces for ordinary users: {}",
            sysctl("kernel.unprivileged_userns_clone", "1", m)
        )],
        Cause::AppArmorUserns => vec![
            apparmor(m),
            format!(
                "or allow user namespaces for every program: {}",
                sysctl("kernel.apparmor_restrict_unprivileged_userns", "0", m)
            ),
        ],
        Cause::AppArmorProfile => vec![apparmor(m), around(m)],
        Cause::Chroot => vec![
            "if this is a chroot, run aj outside it, or enter that tree by pivot_root instead \
             (`bwrap --bind DIR / …`): the kernel makes no user namespaces in a chroot"
                .to_owned(),
        ],
        Cause::Confined => confined(m),
        Cause::MaskedProc => masked(m),
        Cause::LimitedRoot => vec![
            "run aj as an ordinary user: this root is root of a container only, and the host ids that jails of \
             root are mapped to do not exist in it"
                .to_owned(),
        ],
        Cause::OldKernel(major, minor) => vec![format!(
            "boot a kernel of version {major}.{minor} or later (this is {}); 5.14 has everything that aj needs",
            m.kernel
        )],
        Cause::Missing("overlay") => {
            vec![format!("load the module: `{}modprobe overlay`", sudo(m)), RW.to_owned()]
        }
        Cause::Missing(what) => vec![format!("boot a kernel that was built with {what}")],
        Cause::OverlayUpper => vec![
            "keep aj's state on a local file system (ext4, xfs, btrfs; tmpfs from Linux 6.6): set AJ_STATE_DIR to a directory there"
                .to_owned(),
            RW.to_owned(),
        ],
        Cause::NoIdmap => vec![
            "run aj as the ordinary user who owns the directory".to_owned(),
            "or move it to a file system that can be shown under other ids (ext4, xfs, btrfs; tmpfs from Linux 6.3)"
                .to_owned(),
        ],
        Cause::Initramfs => vec![
            "start the system from a real root file system: the kernel does not pivot away from its initramfs"
                .to_owned(),
            "or put up with less, the old root out of sight below the jail's: `aj exec --mode nested -- …`".to_owned(),
        ],
        Cause::ProcessLimit => vec![
            "end some processes of yours, or raise their limit (`ulimit -u`, or `pids.max` of the control group)"
                .to_owned(),
        ],
        Cause::KeyQuota => vec![format!(
            "raise the quota of keys: {}",
            sysctl("kernel.keys.maxkeys", "2000", m)
        )],
        Cause::NoProc => vec![format!("mount /proc: `{}mount -t proc proc /proc`", sudo(m))],
        Cause::FileLimit => vec!["raise the limit of open files: `ulimit -n 4096`".to_owned()],
        Cause::FileSizeLimit => vec!["raise the limit of file sizes: `ulimit -f unlimited`".to_owned()],
        Cause::StackLimit => vec!["raise the limit of the stack: `ulimit -s 8192`".to_owned()],
        Cause::ProcessorTime => {
            vec!["raise the limit of processor time: `ulimit -t unlimited`".to_owned()]
        }
        Cause::Killed => vec![
            "free some memory, or end what kills processes of yours (`dmesg` says whether the kernel did)"
                .to_owned(),
        ],
        Cause::NoSpace => vec![
            "free some space, or set AJ_STATE_DIR to a directory on another file system".to_owned(),
        ],
        Cause::TooManyLayers => vec![
            "run aj outside the sandboxes around it: the kernel nests no more of their rules".to_owned(),
        ],
        Cause::LandlockOff => vec![format!(
            "add `landlock` to the security modules on the kernel's command line: `lsm=landlock,{}`",
            m.lsm.as_deref().unwrap_or("lockdown,yama,integrity,apparmor,bpf")
        )],
        Cause::WeakRoot => vec![
            "run aj as an ordinary user, or as root with all of its capabilities: this root lacks some that jails \
             of root are made with (`grep CapEff /proc/self/status`)"
                .to_owned(),
        ],
    }
}

const ON_HOST: &str = "or run aj on the host";
const RW: &str = "or let commands write to the directory itself: `aj exec --rw -- …`";
const NESTED: &str = "or put up with less, the processes of the container seen in the jail's /proc: `aj exec --mode nested -- …`";

fn sudo(m: &Machine) -> &'static str {
    if m.uid == 0 { "" } else { "sudo " }
}

/// The command that sets it now and the one that keeps it.
fn sysctl(name: &str, value: &str, m: &Machine) -> String {
    let (sudo, file) = (sudo(m), "/etc/sysctl.d/60-aj.conf");
    format!("`{sudo}sysctl -w {name}={value}`, and to keep it: `echo {name}={value} | {sudo}tee -a {file}`")
}

fn raised(m: &Machine) -> String {
    m.max_user_namespaces.unwrap_or(7500).saturating_mul(2).clamp(15_000, 1 << 30).to_string()
}

/// A profile for this very program: every other one stays restricted.
fn apparmor(m: &Machine) -> String {
    let Some(path) = m.exe.as_deref().and_then(pattern) else {
        return "install aj at a path of plain characters, such as /usr/local/bin/aj, and run `aj doctor` again"
            .to_owned();
    };
    let sudo = sudo(m);
    format!(
        "let AppArmor allow user namespaces to aj:\n\
         {sudo}tee /etc/apparmor.d/aj >/dev/null <<'EOF'\n\
         {}EOF\n\
         {sudo}apparmor_parser -r /etc/apparmor.d/aj",
        profile(&path)
    )
}

/// Where what is around us does not let aj have a profile of its own, its own rules are to be changed.
fn around(m: &Machine) -> String {
    format!(
        "or, where the profile `{}` lets no program that it starts have another (`ix`, not `pix`), allow in that one \
         what a jail is made of: `userns, capability, mount, umount, pivot_root,`; or run aj outside of it",
        m.profile().unwrap_or("unknown")
    )
}

/// The text of `/etc/apparmor.d/aj`.
fn profile(path: &str) -> String {
    format!(
        "abi <abi/4.0>,\n\
         include <tunables/global>\n\
         \n\
         profile aj {path} flags=(unconfined) {{\n\
         \x20 userns,\n\
         \x20 include if exists <local/aj>\n\
         }}\n"
    )
}

/// The path as AppArmor reads it. None for one that could be read as something else.
fn pattern(path: &Path) -> Option<String> {
    let path = path.to_str()?;
    let plain = |c: char| c.is_alphanumeric() || "/._-+~@%:=".contains(c);
    if path.chars().all(plain) {
        return Some(path.to_owned());
    }
    // Between quotes, and what would be a pattern escaped.
    let mut quoted = String::from("\"");
    for c in path.chars() {
        match c {
            c if c.is_control() => return None,
            '*' | '?' | '[' | ']' | '{' | '}' | '^' | '"' | '\\' | ',' | '#' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Some(quoted)
}

/// Where no namespaces can be had at all. Not for root, who cannot be held without them.
pub(super) fn lite(m: &Machine) -> Option<String> {
    let who = match (m.uid, &m.container) {
        (0, None) => return None,
        (0, Some(_)) => "or run aj as an ordinary user of the container, and put up",
        _ => "or put up",
    };
    let way = format!("{who} with much less, no namespaces: `aj exec --mode lite -- …`");
    (m.version() >= (5, 19)).then_some(way)
}

fn confined(m: &Machine) -> Vec<String> {
    const SANDBOX: &str = "run aj outside the sandbox around it, or let that sandbox allow user namespaces and mounts \
                           (bwrap: without --disable-userns)";
    let container = match &m.container {
        Some(Container::Docker) => {
            "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
             --security-opt systempaths=unconfined`: its own rules forbid what a jail is made of"
                .to_owned()
        }
        Some(Container::Podman) => {
            "start the container with `--security-opt seccomp=unconfined --security-opt label=disable \
             --security-opt unmask=ALL`: its own rules forbid what a jail is made of"
                .to_owned()
        }
        Some(Container::Kubernetes) => {
            "give the pod `seccompProfile: {type: Unconfined}`, `appArmorProfile: {type: Unconfined}` and \
             `procMount: Unmasked` (which needs `hostUsers: false`)"
                .to_owned()
        }
        Some(Container::Other(kind)) => {
            format!(
                "allow user namespaces and mounts in this container ({})",
                text::printable(kind.as_bytes())
            )
        }
        None => return vec![SANDBOX.to_owned()],
    };
    let mut all = vec![container, ON_HOST.to_owned()];
    if in_sandbox(m) {
        all.insert(0, SANDBOX.to_owned());
    }
    all
}

fn masked(m: &Machine) -> Vec<String> {
    let container = match &m.container {
        Some(Container::Podman) => "start the container with `--security-opt unmask=ALL`",
        Some(Container::Kubernetes) => "give the pod `procMount: Unmasked` (which needs `hostUsers: false`)",
        Some(Container::Docker) => "start the container with `--security-opt systempaths=unconfined`",
        Some(Container::Other(_)) | None => "",
    };
    let mut all = Vec::new();
    if container.is_empty() || in_sandbox(m) {
        all.push(format!(
            "take away what is mounted below /proc ({}): it forbids a fresh proc",
            some(&m.proc_masks)
        ));
    }
    if !container.is_empty() {
        all.push(format!("{container}: the masks over its /proc forbid a fresh one"));
    }
    all.push(NESTED.to_owned());
    all
}

/// No container does this to its processes unasked, and every sandbox does.
fn in_sandbox(m: &Machine) -> bool {
    m.no_new_privs || (!m.initial_userns && m.seccomp == 0)
}

/// The first few of a list.
pub(super) fn some(all: &[String]) -> String {
    let first: Vec<&str> = all.iter().take(3).map(String::as_str).collect();
    let more = if all.len() > 3 { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_names_the_path_so_that_apparmor_reads_that_path() {
        assert_eq!(
            profile("/usr/local/bin/aj"),
            "abi <abi/4.0>,\ninclude <tunables/global>\n\nprofile aj /usr/local/bin/aj flags=(unconfined) {\n  \
             userns,\n  include if exists <local/aj>\n}\n"
        );
        let of = |p: &str| pattern(Path::new(p));
        assert_eq!(of("/opt/a-b_c+1.0/aj").as_deref(), Some("/opt/a-b_c+1.0/aj"));
        assert_eq!(of("/home/my name/aj").as_deref(), Some("\"/home/my name/aj\""));
        assert_eq!(of("/x/{a,b}*\"/aj").as_deref(), Some("\"/x/\\{a\\,b\\}\\*\\\"/aj\""));
        assert_eq!(of("/x\n} profile evil {/aj"), None);
    }

    #[test]
    fn commands_use_sudo_only_where_it_is_needed() {
        let root = Machine::default();
        let user = Machine { uid: 1000, ..Machine::default() };
        let text = |m: &Machine| of(Cause::UsernsLimitZero, m).concat();
        assert!(text(&user).contains("`sudo sysctl -w user.max_user_namespaces=15000`"));
        assert!(text(&user).contains("| sudo tee -a /etc/sysctl.d/60-aj.conf`"));
        assert!(text(&root).contains("`sysctl -w user.max_user_namespaces=15000`"));
    }

    #[test]
    fn a_raised_limit_is_larger_than_the_one_that_is_used_up() {
        let with = |n| raised(&Machine { max_user_namespaces: Some(n), ..Machine::default() });
        assert_eq!((with(10).as_str(), with(60_000).as_str()), ("15000", "120000"));
        assert_eq!(with(u64::MAX), (1 << 30).to_string());
    }
}
