//! `--vol`, and the volumes that a workspace keeps: which there are, where they are seen.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::mounts::{Mounted, What};
use super::{Error, Request, Seat};
use crate::base::text;
use crate::jail::spec::{Owner, RANGE_BASE, RANGE_COUNT, Spec, Volume};
use crate::ops::volumes::{self, Error as Refused, place_of};
use crate::policy::volume::Mount;
use crate::schema::policy;
use crate::store::layout::StateDir;
use crate::store::volumes::{Held, data_of};

/// The volumes of a jail. None of them is removed while this lives.
#[derive(Debug, Default)]
pub(super) struct Volumes(Vec<One>);

#[derive(Debug)]
struct One {
    held: Held,
    /// With the path it is seen at.
    mount: Mount,
    origin: String,
}

impl Volumes {
    /// As they are recorded: by name, as `--vol` takes them.
    pub(super) fn rows(&self) -> Vec<String> {
        let by_name = |one: &One| Mount { volume: one.held.record.name.to_string(), ..one.mount.clone() };
        self.0.iter().map(|one| text::printable(by_name(one).to_string().as_bytes())).collect()
    }

    /// By id, for commands that join.
    pub(super) fn ids(&self) -> Vec<String> {
        self.0.iter().map(|one| by_id(&one.held, &one.mount)).collect()
    }

    /// As mounts of the jail.
    pub(super) fn mounted(&self) -> impl Iterator<Item = Mounted> + '_ {
        self.0.iter().map(|one| Mounted {
            at: one.mount.path.clone().unwrap_or_default().into(),
            what: What::Volume(one.held.record.id.to_string()),
            writable: !one.mount.read_only,
        })
    }

    pub(super) fn described(&self) -> Vec<policy::Volume> {
        let row = |one: &One| policy::Volume {
            name: one.held.record.name.to_string(),
            id: one.held.record.id.to_string(),
            path: one.mount.path.as_ref().map(text::os).unwrap_or_default(),
            read_only: one.mount.read_only,
            origin: one.origin.clone(),
        };
        self.0.iter().map(row).collect()
    }
}

fn by_id(held: &Held, mount: &Mount) -> String {
    Mount { volume: held.record.id.to_string(), ..mount.clone() }.to_string()
}

/// Add to `spec` what was asked for, and what the workspace keeps where nothing else was asked for.
pub(super) fn add(
    spec: &mut Spec,
    state: &StateDir,
    (request, seat): (&Request, Option<&Seat>),
    lite: bool,
) -> Result<Volumes, Error> {
    let kept = seat.map(|seat| (&*seat.kept.volumes, format!("workspace {}", seat.name())));
    if request.volumes.is_empty() && kept.as_ref().is_none_or(|(kept, _)| kept.is_empty()) {
        return Ok(Volumes::default());
    }
    if lite {
        return Err(Error::Lite {
            why: "a volume is a mount, and without namespaces there is none".to_owned(),
            way: "leave out `--vol`",
        });
    }
    let mut found = Volumes::default();
    let (kept, origin) = kept.unwrap_or_default();
    let asked = request.volumes.iter().map(|mount| (mount, "flag --vol", true));
    for (mount, origin, by_flag) in asked.chain(kept.iter().map(|mount| (mount, &*origin, false))) {
        let (held, path) = held(state, mount).map_err(|e| match (e, seat) {
            // Removed while it was attached, or by one that was killed: it is not asked for by this command.
            (Refused::NotFound(id), Some(seat)) if !by_flag => {
                Refused::Gone { workspace: seat.name().to_string(), id }
            }
            (e, _) => e,
        })?;
        let same = |one: &One| one.mount.path.as_ref() == Some(&path);
        if !by_flag && found.0.iter().any(same) {
            continue;
        }
        if let Some(why) = in_the_way(spec, &path) {
            let volume = held.record.name.to_string();
            return Err(Refused::Place { volume, path, why }.into());
        }
        let data = state
            .real_path()
            .join(data_of(state, held.record.id).strip_prefix(state.path()).unwrap_or(Path::new("")));
        let owner = owner(&data, &held)?;
        spec.volumes.push(Volume { data, at: path.clone(), read_only: mount.read_only, owner });
        let mount = Mount { path: Some(path), ..mount.clone() };
        found.0.push(One { held, mount, origin: origin.to_owned() });
    }
    Ok(found)
}

/// Find a volume and hold it. With the path that it is to be seen at.
fn held(state: &StateDir, mount: &Mount) -> Result<(Held, std::path::PathBuf), Refused> {
    let held = volumes::hold(state, &mount.volume)?;
    let path = place_of(mount, &held.record.name);
    Ok((held, path))
}

/// As root, whoever the files in it belong to is the jail's user inside: nobody else but an id of jails may be.
fn owner(data: &Path, held: &Held) -> Result<Owner, Error> {
    let damaged = |why: String| Refused::Damaged { volume: held.record.name.to_string(), why };
    let meta = std::fs::symlink_metadata(data).map_err(|e| damaged(crate::ops::config::why(&e)))?;
    if !meta.is_dir() {
        return Err(damaged("its files are no directory".to_owned()).into());
    }
    let range = RANGE_BASE..RANGE_BASE + RANGE_COUNT;
    if nix::unistd::geteuid().is_root() && !(range.contains(&meta.uid()) && range.contains(&meta.gid())) {
        let why = format!("its files belong to uid {} of this machine, not to one of a jail", meta.uid());
        return Err(damaged(why).into());
    }
    Ok(Owner { uid: meta.uid(), gid: meta.gid() })
}

/// What else there is at a place, above or below it.
fn in_the_way(spec: &Spec, at: &Path) -> Option<String> {
    if let Some(why) = volumes::taken(at) {
        return Some(why);
    }
    let meets = |other: &Path| other.starts_with(at) || at.starts_with(other);
    let shown = |what: &str, path: &Path| format!("{what} `{}` is shown there", text::os(path));
    if meets(&spec.at) {
        return Some(shown("the tree", &spec.at));
    }
    let all = [
        ("the volume at", spec.volumes.iter().map(|v| &*v.at).find(|p| meets(p))),
        ("the directory", spec.binds.iter().map(|b| &*b.path).find(|p| meets(p))),
        ("the tool", spec.tools.iter().map(|t| &*t.path).find(|p| meets(p))),
        ("the cache", spec.caches.iter().map(|c| &*c.side.path).find(|p| meets(p))),
        ("the cache in", spec.rooms.iter().map(|r| &**r).find(|p| meets(p))),
        ("the part of the project", spec.sides.iter().map(|s| &*s.path).find(|p| meets(p))),
    ];
    all.into_iter().find_map(|(what, path)| path.map(|path| shown(what, path)))
}

/// The volumes of `asked` that a jail does not have, which has those of `has`.
pub(super) fn missing(state: &StateDir, asked: &[Mount], has: &[String]) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for mount in asked {
        let (held, path) = held(state, mount)?;
        let whole = Mount { path: Some(path), ..mount.clone() };
        if !has.contains(&by_id(&held, &whole)) {
            let name = Mount { volume: held.record.name.to_string(), ..whole };
            missing.push(format!(
                "it was started without the volume {}",
                text::printable(name.to_string().as_bytes())
            ));
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::volumes::taken;
    use std::path::Path;

    #[test]
    fn the_jails_own_places_are_not_covered() {
        let free =
            ["/volumes/a", "/srv/data", "/home/agent/.cache", "/tmp/x", "/opt/x", "/var/lib/x", "/home/me/x"];
        for path in free {
            assert_eq!(taken(Path::new(path)), None, "{path}");
        }
        for path in [
            "/usr",
            "/usr/local/lib",
            "/etc",
            "/etc/ssl",
            "/proc",
            "/proc/self",
            "/dev",
            "/dev/shm/x",
            "/bin/x",
            "/lib64",
            "/home",
            "/home/agent",
            "/tmp",
            "/var",
            "/var/tmp",
            "/var/run/x",
            "/workspace",
            "/workspace/x",
            "/output",
            "/output/x",
            "/sys/x",
            "/run",
        ] {
            assert!(taken(Path::new(path)).is_some(), "{path}");
        }
    }
}
