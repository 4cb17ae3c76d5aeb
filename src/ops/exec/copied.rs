//! A private copy of the tree, where no overlay over it can be had: as root over a file system that cannot
//! be shown under other ids (overlayfs, FUSE), and where the kernel has no overlay that would do.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Error;
use crate::base::{size, text};
use crate::jail::spec::{Owner, RANGE_BASE, Spec};
use crate::store::planted::{Bed, Sown};
use crate::store::refill;
use crate::store::trees::Tree;
use crate::sys::at;
use crate::sys::openat2::{self, For};
use crate::workspace::private::{self, Ask, Hidden, Most, Owners, Record, Sum};

/// Files, directories and links of one copy.
const ENTRIES: u64 = 1_000_000;
/// How long a copy is made in silence, and how often it is spoken of then.
const SILENCE: Duration = Duration::from_secs(1);
/// Who the files of others belong to: nobody, in the range that root's jails are mapped to.
const NOBODY: u32 = RANGE_BASE + 65_534;

/// A copy that a jail works on.
#[derive(Debug)]
pub(super) struct Copied {
    copy: OwnedFd,
    layers: PathBuf,
    record: Record,
    hidden: Hidden,
}

/// Copy the workspace of `spec`, and the parts of the project beside it, into its tree.
pub(super) fn make(
    tree: &Tree,
    (spec, seeds): (&Spec, &[Bed]),
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Copied>, Error> {
    let own = (spec.workspace.as_path(), tree.path(), spec.owner);
    let sides = spec.sides.iter().map(|s| (s.path.as_path(), s.layers.as_path(), s.owner));
    std::iter::once(own).chain(sides).map(|one| copy(one, (spec, seeds, tree), say)).collect()
}

fn copy(
    (base, layers, owner): (&Path, &Path, Owner),
    (spec, seeds, tree): (&Spec, &[Bed], &Tree),
    say: &mut dyn FnMut(&str),
) -> Result<Copied, Error> {
    let side = (layers != tree.path()).then_some(layers);
    let hidden = hidden(seeds.iter().filter(|bed| bed.side.as_deref() == side));
    let failed = |e: crate::sys::Error| Error::Launch(crate::sys::Error { call: "copy the tree", ..e });
    let dir = openat2::absolute(layers.as_os_str().as_bytes(), For::Listing).map_err(failed)?;
    at::make_dir(&dir, b"copy", 0o700).map_err(failed)?;
    let to = openat2::beneath(&dir, b"copy", For::Listing).map_err(failed)?;
    let from = openat2::absolute(base.as_os_str().as_bytes(), For::Listing).map_err(failed)?;
    // Half of what is free: the command needs room as well.
    let most = Most { entries: ENTRIES, bytes: at::free_bytes(&dir).map_err(failed)? / 2 };
    let owners =
        spec.outside().map(|to| Owners { from: (owner.uid, owner.gid), to, others: (NOBODY, NOBODY) });
    let mut next = Instant::now() + SILENCE;
    let shown = text::os(base);
    let mut progress = |sum: Sum| {
        if Instant::now() >= next {
            next = Instant::now() + SILENCE;
            let (n, bytes) = (sum.entries, size::human(sum.bytes));
            say(&format!("copying `{shown}` for this run: {n} entries, {bytes} so far"));
        }
    };
    let mut ask = Ask { owners, hidden: &hidden, most, progress: &mut progress };
    let (record, _) = private::make(from, to, &mut ask).map_err(|e| match e.errno {
        Errno::EFBIG => Error::TooLarge {
            path: base.to_owned(),
            most: format!("{ENTRIES} entries, {} (half of what is free)", size::human(most.bytes)),
        },
        _ => failed(e),
    })?;
    let copy = openat2::beneath(&dir, b"copy", For::Listing).map_err(failed)?;
    // What is written from now on has a later time of change, whatever the clock of the file system.
    std::thread::sleep(Duration::from_millis(10));
    Ok(Copied { copy, layers: layers.to_owned(), record, hidden })
}

fn hidden<'a>(beds: impl Iterator<Item = &'a Bed>) -> Hidden {
    let mut hidden = Hidden::new();
    for seed in beds.flat_map(|bed| &bed.seeds) {
        match &seed.what {
            Sown::Whiteout => drop(hidden.insert(seed.path.clone(), None)),
            Sown::File { content, .. } => drop(hidden.insert(seed.path.clone(), Some(content.clone()))),
            Sown::Way { .. } => {}
        }
    }
    hidden
}

/// Make an upper layer of what became of the copies, and remove them. The jail has ended.
pub(super) fn settle(copies: Vec<Copied>) -> crate::store::Result<()> {
    for Copied { copy, layers, record, hidden } in copies {
        refill::refill(&layers, |upper| private::changes(copy, &record, &hidden, upper))?;
        refill::remove(&layers, c"copy")?;
    }
    Ok(())
}

/// Why there is no going on in a kept tree.
pub(super) fn not_again(spec: &Spec) -> Error {
    Error::NotAgain {
        what: format!("over `{}`", text::os(&spec.workspace)),
        why: "no overlay can be had, which that takes".to_owned(),
    }
}
