//! Which whole disk a file lies on: limits of reading and writing are set on those.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The number of the disk that `path` lies on; `None` for what is on no block device of its own (tmpfs,
/// btrfs, network file systems).
pub fn of(path: &Path) -> Option<(u32, u32)> {
    let device = std::fs::metadata(path).ok()?.dev();
    whole(Path::new("/sys/dev/block"), (major(device), minor(device)))
}

/// Those of all the paths; `Err` with the first that is on none.
pub fn of_all<'a>(paths: &[&'a Path]) -> Result<Vec<(u32, u32)>, &'a Path> {
    let found: Result<BTreeSet<_>, _> = paths.iter().map(|path| of(path).ok_or(*path)).collect();
    found.map(|all| all.into_iter().collect())
}

fn whole(sys: &Path, (major, minor): (u32, u32)) -> Option<(u32, u32)> {
    let at = sys.join(format!("{major}:{minor}"));
    if major == 0 || !at.exists() {
        return None;
    }
    if !at.join("partition").exists() {
        return Some((major, minor));
    }
    // The directory of a partition lies in that of its disk.
    let disk = std::fs::canonicalize(&at).ok()?.parent()?.join("dev");
    let text = std::fs::read_to_string(disk).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn major(device: u64) -> u32 {
    nix::libc::major(device)
}

fn minor(device: u64) -> u32 {
    nix::libc::minor(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_partition_is_a_part_of_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("devices/vda");
        fs::create_dir_all(disk.join("vda1")).unwrap();
        fs::create_dir(dir.path().join("block")).unwrap();
        fs::write(disk.join("dev"), "254:0\n").unwrap();
        fs::write(disk.join("vda1/partition"), "1\n").unwrap();
        let link = |target, name: &str| {
            std::os::unix::fs::symlink(target, dir.path().join("block").join(name)).unwrap();
        };
        link("../devices/vda", "254:0");
        link("../devices/vda/vda1", "254:1");
        let block = dir.path().join("block");
        assert_eq!(whole(&block, (254, 0)), Some((254, 0)));
        assert_eq!(whole(&block, (254, 1)), Some((254, 0)));
        assert_eq!(whole(&block, (0, 5)), None);
        assert_eq!(whole(&block, (9, 9)), None);
    }

    #[test]
    fn what_is_on_no_disk_is_named() {
        let (proc, none) = (Path::new("/proc"), Path::new("/does/not/exist"));
        assert_eq!(of(proc), None);
        assert_eq!(of_all(&[none, proc]), Err(none));
        assert_eq!(of_all(&[]), Ok(Vec::new()));
    }
}
