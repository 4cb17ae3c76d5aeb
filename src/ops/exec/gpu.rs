//! `--gpu`: what this machine has of an NVIDIA driver, looked up only when it is asked for.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::Error;
use crate::base::text;
use crate::host::gpu::{self, Found, Listing, Node};
use crate::jail::plan;
use crate::jail::spec::{Spec, Tool};
use crate::policy::gpu::Gpus;

/// Add to `spec` what `asked` stands for; the nodes, printable.
pub(super) fn add(spec: &mut Spec, asked: Option<&Gpus>, lite: bool) -> Result<Vec<String>, Error> {
    let Some(asked) = asked else { return Ok(Vec::new()) };
    if lite {
        return Err(Error::Lite {
            why: "`--gpu` shows device nodes, and without mounts none can be".to_owned(),
            way: "leave out `--gpu`",
        });
    }
    let numbers = match asked {
        Gpus::All => None,
        Gpus::Only(numbers) => Some(&numbers[..]),
    };
    let Found { devices, libraries } = gpu::find(&listing(), numbers).map_err(Error::Gpu)?;
    for name in libraries {
        // What the jail has anyway, or cannot have.
        let Ok(path) = name.canonicalize() else { continue };
        if !plan::has_place(&path)
            || spec.tools.iter().any(|t| path.starts_with(&t.path))
            || is_in_view(spec, &path)
        {
            continue;
        }
        if name != path {
            spec.aliases.push((name, path.clone()));
        }
        spec.tools.push(Tool { path, directory: false, owner: None });
    }
    spec.devices = devices;
    Ok(spec.devices.iter().map(|name| text::printable(format!("/dev/{name}").as_bytes())).collect())
}

fn is_in_view(spec: &Spec, path: &Path) -> bool {
    path.starts_with(&spec.at) || spec.binds.iter().any(|b| path.starts_with(&b.path))
}

fn listing() -> Listing {
    let mut nodes = Vec::new();
    // A capability is had by whoever can open its node for reading; mostly nobody may write it.
    let places = [("/dev", "", true), ("/dev/nvidia-caps", "nvidia-caps/", false)];
    for (dir, prefix, written) in places {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            if name.starts_with("nvidia") && !meta.is_dir() {
                let device = meta.file_type().is_char_device();
                let usable = may_open(&entry.path(), meta.permissions().mode(), written);
                nodes.push(Node { name: format!("{prefix}{name}"), device, usable });
            }
        }
    }
    Listing {
        nodes,
        loaded: Path::new("/proc/driver/nvidia/version").exists(),
        ld_cache: std::fs::read("/etc/ld.so.cache").unwrap_or_default(),
    }
}

/// Root's jails have another user: only what everybody may is of use to them.
fn may_open(path: &Path, mode: u32, written: bool) -> bool {
    let (bits, flags) = match written {
        true => (0o006, AccessFlags::R_OK | AccessFlags::W_OK),
        false => (0o004, AccessFlags::R_OK),
    };
    if nix::unistd::geteuid().is_root() { mode & bits == bits } else { access(path, flags).is_ok() }
}
