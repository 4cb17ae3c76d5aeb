//! Where this process is in the cgroup hierarchies, and where a group for a jail could be made: pure,
//! from the text of `/proc/self/cgroup` and `/proc/self/mountinfo`.

use std::path::{Path, PathBuf};

use super::facts::Machine;
use super::mounts::unescape;

/// A kind of resource that a group can limit, or what else it is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Memory.
    Memory,
    /// Processor time.
    Cpu,
    /// Processes and threads.
    Pids,
    /// Reading and writing of block devices.
    Io,
    /// Standing still; part of every group of cgroup v2.
    Freezer,
}

impl Controller {
    /// Its name in cgroup v2; `None` for what is no controller there.
    pub fn v2(self) -> Option<&'static str> {
        match self {
            Controller::Memory => Some("memory"),
            Controller::Cpu => Some("cpu"),
            Controller::Pids => Some("pids"),
            Controller::Io => Some("io"),
            Controller::Freezer => None,
        }
    }

    /// Its name in cgroup v1.
    pub fn v1(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Pids => "pids",
            Controller::Io => "blkio",
            Controller::Freezer => "freezer",
        }
    }
}

/// One mounted hierarchy, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of our own group.
    pub own: PathBuf,
    /// Nothing can be made in it: in most containers.
    pub read_only: bool,
}

impl Hierarchy {
    /// Our own group and those that it is in, as far as the mount shows them: the nearest first.
    pub fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|path| path.starts_with(&self.mount))
    }
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies {
    /// The one of cgroup v2.
    pub v2: Option<Hierarchy>,
    /// Those of cgroup v1, each with the names of its controllers.
    pub v1: Vec<(Vec<String>, Hierarchy)>,
}

impl Hierarchies {
    /// Parse both files. Lines that are not understood are left out; a group that lies outside of
    /// what is mounted is not there.
    pub fn parse(cgroup: &[u8], mountinfo: &[u8]) -> Hierarchies {
        let groups: Vec<Own> = cgroup.split(|b| *b == b'\n').filter_map(Own::parse).collect();
        let mut found = Hierarchies::default();
        for mount in mountinfo.split(|b| *b == b'\n').filter_map(Mount::parse) {
            let v2 = mount.controllers.is_none();
            let mine = groups.iter().find(|own| match &mount.controllers {
                None => own.controllers.is_empty() && own.v2,
                Some(options) => {
                    !own.controllers.is_empty() && own.controllers.iter().all(|c| options.contains(c))
                }
            });
            let Some(mine) = mine else { continue };
            let Some(own) = mount.directory(&mine.path) else { continue };
            let hierarchy = Hierarchy { mount: mount.at, own, read_only: mount.read_only };
            match v2 {
                // The first of several mounts is as good as the others, unless it cannot be written.
                true if found.v2.as_ref().is_none_or(|held| held.read_only) => found.v2 = Some(hierarchy),
                true => {}
                false => found.v1.push((mine.controllers.clone(), hierarchy)),
            }
        }
        found
    }

    /// The hierarchy of cgroup v1 that has this controller and may be written.
    pub fn v1(&self, controller: Controller) -> Option<&Hierarchy> {
        let has = |(names, h): &&(Vec<String>, Hierarchy)| {
            !h.read_only && names.iter().any(|name| name == controller.v1())
        };
        self.v1.iter().find(has).map(|(_, hierarchy)| hierarchy)
    }

    /// The one of cgroup v2, if it may be written.
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.v2.as_ref().filter(|h| !h.read_only)
    }

    /// Why no group can be made, as far as the two files tell.
    pub fn trouble(&self) -> &'static str {
        match (self.v2.is_none() && self.v1.is_empty(), self.v2().is_none()) {
            (true, _) => "no cgroup hierarchy is mounted",
            (false, true) if self.v1.iter().all(|(_, h)| h.read_only) => {
                "the cgroup hierarchies are mounted read-only, as in most containers"
            }
            _ => "no group of this machine's may be changed by this user",
        }
    }
}

/// What to do where a limit cannot be held.
pub fn fixes(machine: &Machine) -> Vec<String> {
    let mut fixes = Vec::new();
    if machine.container.is_some() {
        fixes.push(
            "start the container with a cgroup that it may write: its own (`--cgroupns private`), mounted \
             read-write at `/sys/fs/cgroup`"
                .to_owned(),
        );
    }
    let systemd = Path::new("/run/systemd/system").exists() && machine.cgroup.v2.is_some();
    let manager = Path::new("/run/user").join(machine.uid.to_string()).join("systemd/private").exists();
    if machine.uid != 0 && systemd && manager {
        fixes.push(format!(
            "let root's service manager hand everything on to yours: `sudo mkdir -p /etc/systemd/system/user@.service.d \
             && printf '[Service]\\nDelegate=yes\\n' | sudo tee /etc/systemd/system/user@.service.d/aj.conf && sudo \
             systemctl daemon-reload`, and end all your sessions, or `sudo systemctl restart user@{}`",
            machine.uid
        ));
    } else if machine.uid != 0 && systemd {
        fixes.push(format!(
            "have a service manager of your own, which makes groups: `sudo loginctl enable-linger {}`",
            machine.uid
        ));
    } else if machine.uid != 0 && machine.cgroup.v2.is_some() && machine.cgroup.v1.is_empty() {
        fixes.push(format!(
            "let root make a group for you, and start your shell in it: `mkdir /sys/fs/cgroup/me && chown -R {} \
             /sys/fs/cgroup/me`",
            machine.uid
        ));
    } else if machine.uid != 0 {
        fixes.push("run it as root: cgroup v1 is given to no other user".to_owned());
    } else {
        fixes.push("mount the controllers that are missing, or start the kernel with them".to_owned());
    }
    fixes
}

/// A line of `/proc/self/cgroup`.
struct Own {
    v2: bool,
    controllers: Vec<String>,
    path: PathBuf,
}

impl Own {
    fn parse(line: &[u8]) -> Option<Own> {
        let mut parts = line.splitn(3, |b| *b == b':');
        let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let controllers = std::str::from_utf8(names).ok()?.split(',').filter(|c| !c.is_empty());
        Some(Own {
            v2: number == b"0" && names.is_empty(),
            controllers: controllers.map(str::to_owned).collect(),
            path: PathBuf::from(unescape(path)),
        })
    }
}

struct Mount {
    root: PathBuf,
    at: PathBuf,
    read_only: bool,
    /// `None`: cgroup v2.
    controllers: Option<Vec<String>>,
}

impl Mount {
    /// A line of `/proc/self/mountinfo`; most are no cgroup's, and nothing is made of those.
    fn parse(line: &[u8]) -> Option<Mount> {
        let dash = line.windows(3).position(|w| w == b" - ")?;
        let (before, after) = (line.get(..dash)?, line.get(dash + 3..)?);
        let mut after = after.split(|b| *b == b' ');
        let kind = after.next().filter(|k| k.starts_with(b"cgroup"))?;
        let options = std::str::from_utf8(after.nth(1)?).ok()?;
        let mut words = before.split(|b| *b == b' ').skip(3);
        let (root, at) = (unescape(words.next()?).into(), unescape(words.next()?).into());
        let here = words.next()?.split(|b| *b == b',').any(|o| o == b"ro");
        let controllers = match kind {
            b"cgroup2" => None,
            b"cgroup" => Some(options.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        // The super block of several mounts may be read-only as a whole.
        Some(Mount { root, at, read_only: here || options.split(',').any(|o| o == "ro"), controllers })
    }

    /// The directory of group `path`; `None` when the mount does not show it. A path that climbs is of a
    /// process outside of our cgroup namespace.
    fn directory(&self, path: &Path) -> Option<PathBuf> {
        let inner = path.strip_prefix(&self.root).ok()?;
        let plain = inner.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        plain.then(|| if inner.as_os_str().is_empty() { self.at.clone() } else { self.at.join(inner) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(h: Option<&Hierarchy>) -> Option<&str> {
        h.and_then(|h| h.own.to_str())
    }

    /// A hybrid machine without systemd: every controller of its own, v2 with next to nothing.
    const HYBRID: (&str, &str) = (
        "9:name=systemd:/\n8:pids:/\n7:blkio:/\n6:freezer:/\n4:memory:/process_api/64b9\n2:cpuacct:/\n1:cpu:/\n0::/\n",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
         32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
         33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
         37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n\
         38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio\n\
         39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
         40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    );

    #[test]
    fn a_hybrid_machine_has_both() {
        let h = Hierarchies::parse(HYBRID.0.as_bytes(), HYBRID.1.as_bytes());
        assert_eq!(own(h.v2()), Some("/sys/fs/cgroup/unified"));
        assert_eq!(own(h.v1(Controller::Memory)), Some("/sys/fs/cgroup/memory/process_api/64b9"));
        assert_eq!(own(h.v1(Controller::Cpu)), Some("/sys/fs/cgroup/cpu"));
        assert_eq!(own(h.v1(Controller::Io)), Some("/sys/fs/cgroup/blkio"));
        let memory = h.v1(Controller::Memory).unwrap();
        let up: Vec<_> = memory.upwards().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(
            up,
            [
                "/sys/fs/cgroup/memory/process_api/64b9",
                "/sys/fs/cgroup/memory/process_api",
                "/sys/fs/cgroup/memory"
            ]
        );
    }

    #[test]
    fn a_systemd_v1_machine_has_controllers_together() {
        let h = Hierarchies::parse(
            b"5:cpu,cpuacct:/user.slice\n4:memory:/user.slice/user-1000.slice\n1:name=systemd:/x\n",
            b"30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
              31 25 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:10 master:3 - cgroup cgroup rw,memory\n\
              32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n",
        );
        assert_eq!(own(h.v1(Controller::Cpu)), Some("/sys/fs/cgroup/cpu,cpuacct/user.slice"));
        assert_eq!(own(h.v1(Controller::Memory)), Some("/sys/fs/cgroup/memory/user.slice/user-1000.slice"));
        assert_eq!((h.v1(Controller::Pids), h.v2()), (None, None));
    }

    #[test]
    fn a_unified_user_session_is_found_with_what_it_is_in() {
        let h = Hierarchies::parse(
            b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/a\\040b.scope\n",
            b"30 25 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        let v2 = h.v2().unwrap();
        let top = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice";
        assert_eq!(v2.own.to_str(), Some(&*format!("{top}/a b.scope")));
        assert_eq!(v2.upwards().nth(1).and_then(Path::to_str), Some(top));
        assert_eq!(v2.upwards().last(), Some(Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn a_container_has_a_part_of_it_and_mostly_no_right_to_write() {
        let mount = |options: &str, root: &str| {
            format!("900 800 0:26 {root} /sys/fs/cgroup {options},nosuid - cgroup2 cgroup rw\n")
        };
        let read_only = Hierarchies::parse(b"0::/\n", mount("ro", "/").as_bytes());
        assert!(read_only.v2.is_some() && read_only.v2().is_none());
        assert!(read_only.trouble().contains("read-only"));
        let whole = Hierarchies::parse(b"0::/\n", mount("rw", "/").as_bytes());
        assert_eq!(own(whole.v2()), Some("/sys/fs/cgroup"));
        // Without a cgroup namespace: only a part is mounted.
        let part = Hierarchies::parse(b"0::/docker/abc/x\n", mount("rw", "/docker/abc").as_bytes());
        assert_eq!(own(part.v2()), Some("/sys/fs/cgroup/x"));
        // A process from outside of the namespace, and one outside of what is mounted.
        for path in ["/../../init.scope", "/docker/other"] {
            let text = format!("0::{path}\n");
            assert_eq!(Hierarchies::parse(text.as_bytes(), mount("rw", "/docker/abc").as_bytes()).v2, None);
        }
        let up = Hierarchies::parse(b"0::/../x\n", mount("rw", "/").as_bytes());
        assert_eq!(up.v2, None);
    }

    #[test]
    fn nothing_and_nonsense_are_no_hierarchies() {
        let none = Hierarchies::parse(b"", b"25 1 254:0 / / rw - ext4 /dev/vda rw\n");
        assert_eq!(none, Hierarchies::default());
        assert_eq!(none.trouble(), "no cgroup hierarchy is mounted");
        for text in ["x", "0:", ":::", "1:\u{fffd}:/", "0::relative", "\n\n", "0::/\n0::/"] {
            drop(Hierarchies::parse(text.as_bytes(), HYBRID.1.as_bytes()));
            drop(Hierarchies::parse(HYBRID.0.as_bytes(), text.as_bytes()));
        }
        // A mount point that only looks like one, and a line that breaks off.
        let lines = b"1 2 0:3 / /sys/fs/cgroup rw - tmpfs cgroup2 rw\n1 2 0:3 / - cgroup2 x rw\n";
        assert_eq!(Hierarchies::parse(b"0::/\n", lines), Hierarchies::default());
    }

    #[test]
    fn of_two_mounts_the_one_that_can_be_written_counts() {
        let lines = b"1 2 0:3 / /a ro - cgroup2 x rw\n1 2 0:3 / /b rw - cgroup2 x rw\n";
        assert_eq!(own(Hierarchies::parse(b"0::/\n", lines).v2()), Some("/b"));
    }
}
