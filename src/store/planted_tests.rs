use super::super::testing::{id, state};
use super::super::trees;
use super::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

const THEN: Stamp = Stamp { sec: 1_000_000, nsec: 5 };

fn seeds() -> Vec<Seed> {
    let seed = |path: &str, what| Seed { path: path.into(), what, owner: None };
    let content = b"[core]\n".to_vec();
    vec![
        seed(".env", Sown::Whiteout),
        seed(".git", Sown::Way { mode: 0o750, mtime: THEN }),
        seed(".git/config", Sown::File { mode: 0o640, mtime: THEN, content }),
        seed("a", Sown::Way { mode: 0o755, mtime: THEN }),
        seed("a/b", Sown::Way { mode: 0o700, mtime: THEN }),
        seed("a/b/x\n\u{1b}", Sown::Whiteout),
    ]
}

fn planted(seeds: &[Seed]) -> Planted {
    Planted::of(&seeds.iter().collect::<Vec<_>>())
}

#[test]
fn what_is_planted_is_as_it_was_asked_for_and_can_be_told_from_changes() {
    let (_dir, state) = state();
    let tree = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
    plant_in(&tree, tree.path(), &seeds()).unwrap();
    let meta = |name: &str| fs::symlink_metadata(tree.upper().join(name)).unwrap();
    assert!(meta(".env").file_type().is_char_device() && meta(".env").rdev() == 0);
    for (name, mode) in [(".git", 0o750), (".git/config", 0o640), ("a", 0o755), ("a/b", 0o700)] {
        assert_eq!((meta(name).mode() & 0o7777, meta(name).mtime()), (mode, THEN.sec), "{name}");
    }
    assert!(tree.is_unchanged().unwrap());
    let known = Planted::read(&tree).unwrap().unwrap();
    assert_eq!(known, planted(&seeds()));
    assert_eq!(known.at(b".env"), Some(What::Whiteout));
    assert!(known.hides_below(b"a") && known.hides_below(b".git") && !known.hides_below(b".env"));
    // Anything else is a change: one more, one less, other content, other bits, another kind.
    let upper = tree.upper();
    type Step<'a> = &'a dyn Fn();
    let changes: [(&str, Step<'_>, Step<'_>); 5] = [
        ("more", &|| fs::write(upper.join("a/x"), "").unwrap(), &|| {
            fs::remove_file(upper.join("a/x")).unwrap()
        }),
        ("content", &|| fs::write(upper.join(".git/config"), "x").unwrap(), &|| {
            fs::write(upper.join(".git/config"), "[core]\n").unwrap();
        }),
        ("bits", &|| chmod(&upper.join("a"), 0o711), &|| chmod(&upper.join("a"), 0o755)),
        ("less", &|| fs::rename(upper.join(".env"), upper.join("../env")).unwrap(), &|| {
            fs::rename(upper.join("../env"), upper.join(".env")).unwrap();
        }),
        (
            "own",
            &|| {
                fs::rename(upper.join(".env"), upper.join("../env")).unwrap();
                fs::write(upper.join(".env"), "own").unwrap();
            },
            &|| fs::rename(upper.join("../env"), upper.join(".env")).unwrap(),
        ),
    ];
    for (name, change, undo) in changes {
        change();
        assert!(!tree.is_unchanged().unwrap(), "{name}");
        assert!(!uproot(&tree).unwrap(), "{name}");
        undo();
        assert!(tree.is_unchanged().unwrap(), "{name} undone");
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_unchanged_tree_is_passed_on_without_a_trace_of_what_was_hidden() {
    let (_dir, state) = state();
    let tree = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
    plant_in(&tree, tree.path(), &seeds()).unwrap();
    fs::create_dir_all(tree.work().join("work/incompat/volatile")).unwrap();
    tree.retire(&state).unwrap();
    trees::prepare_spare(&state).unwrap();
    let next = trees::create_tree(&state, id(), Path::new("/etc"), None).unwrap();
    assert_eq!(fs::read_dir(next.upper()).unwrap().count(), 0);
    assert_eq!(Planted::read(&next), Ok(None));
    fs::write(next.upper().join(".env"), "").unwrap();
    assert!(!next.is_unchanged().unwrap());
}

#[test]
fn a_record_that_is_cut_short_or_strange_is_no_record_of_nothing() {
    let good = planted(&seeds()).encode();
    assert_eq!(Planted::decode(&good), Some(planted(&seeds())));
    for cut in 0..good.len() {
        assert_eq!(Planted::decode(&good[..cut]), None, "{cut}");
    }
    for bad in
        ["aj-hidden 2\nall\0", "aj-hidden 1\nw\0all\0", "aj-hidden 1\nx/a\0all\0", "aj-hidden 1\nf7/a\0all\0"]
    {
        assert_eq!(Planted::decode(bad.as_bytes()), None, "{bad:?}");
    }
    let (_dir, state) = state();
    let tree = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
    fs::write(tree.path().join(FILE), &good[..9]).unwrap();
    assert_eq!(Planted::read(&tree), Err(Errno::EBADMSG));
    assert!(tree.is_unchanged().unwrap(), "killed before the first was made");
    fs::write(tree.upper().join("x"), "").unwrap();
    assert!(tree.is_unchanged().is_err());
}

#[test]
fn a_tree_that_a_run_left_keeps_what_is_the_jails_own() {
    let (_dir, state) = state();
    let tree = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
    let (first, rest): (Vec<Seed>, Vec<Seed>) = seeds().into_iter().partition(|s| s.path == b".env");
    plant_in(&tree, tree.path(), &first).unwrap();
    plant_in(&tree, tree.path(), &first).unwrap();
    assert!(tree.is_unchanged().unwrap());
    // The jail copied one directory up, put a file in the place of another, and made a file of its own.
    fs::create_dir(tree.upper().join(".git")).unwrap();
    fs::write(tree.upper().join(".git/config"), "own").unwrap();
    fs::write(tree.upper().join("a"), "file").unwrap();
    plant_in(&tree, tree.path(), &rest).unwrap();
    assert_eq!(Planted::read(&tree).unwrap().unwrap(), planted(&first), "nothing more is ours");
    assert_eq!(fs::read(tree.upper().join(".git/config")).unwrap(), b"own");
    fs::remove_file(tree.upper().join("a")).unwrap();
    plant_in(&tree, tree.path(), &rest).unwrap();
    let known = Planted::read(&tree).unwrap().unwrap();
    assert_eq!((known.at(b".git/config"), known.at(b"a/b")), (None, Some(What::Way(0o700))));
    assert!(known.hides_below(b"a") && !tree.is_unchanged().unwrap());
}
