//! Which tree is meant.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Error;
use super::find::{Chosen, To, Word, choose_in};
use crate::base::id::Id;
use crate::monitor::{Recording, Silent};
use crate::schema::jail::Start;
use crate::store::layout::StateDir;
use crate::store::testing::{id, start, state};
use crate::store::{spool, trees};

const A: &str = "jl-aaaa000000000000";
const B: &str = "jl-aaab000000000000";
const C: &str = "jl-cccc000000000000";

/// A finished jail with a tree over `base`.
fn ran(state: &StateDir, id: &str, base: &Path) {
    drop(running(state, id, base));
}

/// A jail that goes on while the tree is held.
fn running(state: &StateDir, id: &str, base: &Path) -> trees::Tree {
    fs::create_dir_all(base).unwrap();
    let tree = trees::create_tree(state, id.parse().unwrap(), base, None).unwrap();
    fs::write(tree.upper().join("changed"), "").unwrap();
    record(state, id);
    tree
}

fn record(state: &StateDir, id: &str) {
    let known = start(crate::store::testing::id(), &["x"]);
    spool::append_start(state, &Start { id: id.parse().unwrap(), ..known }).unwrap();
}

fn ask(state: &StateDir, cwd: &Path, words: &[&str]) -> Result<Chosen, Error> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    choose_in(Some(state), (Ok(cwd.to_owned()), To::Base), &words, &Silent)
}

/// The jail and the paths, or the error.
fn meant(state: &StateDir, cwd: &Path, words: &[&str]) -> Result<(String, Vec<String>), String> {
    let chosen = ask(state, cwd, words).map_err(|e| e.to_string())?;
    let only = chosen.only.into_iter().map(|p| String::from_utf8(p).unwrap()).collect();
    Ok((chosen.tree.id.to_string(), only))
}

fn dirs() -> (tempfile::TempDir, StateDir, PathBuf, PathBuf) {
    let (dir, state) = state();
    let top = dir.path().canonicalize().unwrap();
    let (p, q) = (top.join("p"), top.join("q"));
    fs::create_dir_all(p.join("sub")).unwrap();
    fs::create_dir_all(&q).unwrap();
    (dir, state, p, q)
}

fn jail(id: &str, only: &[&str]) -> Result<(String, Vec<String>), String> {
    Ok((id.to_owned(), only.iter().map(|s| (*s).to_owned()).collect()))
}

#[test]
fn a_word_is_a_jail_a_path_or_either() {
    let of = |word: &str| Word::of(OsStr::new(word));
    let jail = |id: &str| Word::Jail(id.to_owned());
    let either = |id: &str| Word::Either(Some(id.to_owned()));
    assert_eq!(of("@"), jail("@"));
    assert_eq!(of("jl-7k"), jail("jl-7k"));
    assert_eq!(of("JL-7K3M"), jail("jl-7k3m"));
    assert_eq!(of("7K3M"), either("jl-7k3m"));
    assert_eq!(of("latest"), either("@"));
    assert_eq!(of("jl-notes.txt"), Word::Either(None), "no id, but it says so");
    for path in ["7k3", "docs", "./7k3m", "./jl-7k3m", "jl-x/y", "", ".", "a b"] {
        assert_eq!(of(path), Word::Path, "{path}");
    }
}

#[test]
fn the_order_of_the_ledger_decides_which_is_newest() {
    let (_dir, state, p, q) = dirs();
    for (id, base) in [(C, &p), (A, &p), (B, &q)] {
        ran(&state, id, base);
    }
    // What a clock that was set back, or a curious user, does to the older one.
    std::thread::sleep(std::time::Duration::from_millis(12));
    let base = state.path().join("trees").join(C).join("base");
    fs::remove_file(&base).unwrap();
    std::os::unix::fs::symlink(&p, &base).unwrap();
    assert_eq!(meant(&state, &p, &[]), jail(A, &[]));
    assert_eq!(meant(&state, &p.join("sub"), &[]), jail(A, &[]));
    assert_eq!(meant(&state, &p, &["@"]), jail(A, &[]));
    // Without a ledger the times of the files have to do, and what is known is newer than what is not.
    fs::remove_file(state.path().join("ledger.db")).unwrap();
    assert_eq!(meant(&state, &p, &[]), jail(C, &[]));
    record(&state, A);
    assert_eq!(meant(&state, &p, &[]), jail(A, &[]));
}

#[test]
fn the_newest_is_that_of_this_project_whatever_ran_elsewhere_or_kept_nothing() {
    let (_dir, state, p, q) = dirs();
    let none = |dir: &Path| Err(format!("no changes are kept for `{}`", dir.display()));
    assert_eq!(meant(&state, &p, &["@"]), none(&p));
    fs::create_dir(p.join(".git")).unwrap();
    ran(&state, A, &p);
    ran(&state, C, &q);
    record(&state, B);
    for word in ["@", "latest"] {
        assert_eq!(meant(&state, &p, &[word]), jail(A, &[]), "{word}");
        assert_eq!(meant(&state, &p.join("sub"), &[word]), jail(A, &[]), "{word}");
        assert_eq!(meant(&state, &q, &[word]), jail(C, &[]), "{word}");
    }
    // A project within is another one.
    let inner = p.join("sub/inner");
    fs::create_dir_all(inner.join(".git")).unwrap();
    assert_eq!(meant(&state, &inner, &["@"]), none(&inner));
    assert_eq!(meant(&state, &inner, &[]), jail(A, &[]));
}

#[test]
fn a_jail_is_found_by_the_start_of_its_id_as_in_the_ledger() {
    let (_dir, state, p, q) = dirs();
    ran(&state, A, &p);
    ran(&state, C, &q);
    // On record without a tree: it still makes a start ambiguous.
    record(&state, B);
    for word in [A, "jl-aaaa", "aaaa", "AAAA0", "JL-aAaA"] {
        assert_eq!(meant(&state, &q, &[word, "changed"]), jail(A, &["changed"]), "{word}");
    }
    assert_eq!(meant(&state, &p, &["jl-c"]), jail(C, &[]));
    assert_eq!(
        meant(&state, &p, &["jl-aa"]).unwrap_err(),
        format!("`jl-aa` matches several jails: {B}, {A}")
    );
    assert_eq!(meant(&state, &p, &["aaab"]).unwrap_err(), format!("no changes are kept of jail `{B}`"));
    assert_eq!(meant(&state, &p, &["jl-zzzz"]).unwrap_err(), "no jail `jl-zzzz`");
    // A tree that is on no record is found all the same.
    let unknown = id();
    drop(trees::create_tree(&state, unknown, &p, None).unwrap());
    assert_eq!(meant(&state, &p, &[unknown.as_str()]), jail(unknown.as_str(), &[]));
    assert_eq!(meant(&state, &p, &[&unknown.as_str()[3..12]]), jail(unknown.as_str(), &[]));
}

#[test]
fn a_word_that_is_a_path_is_no_id_and_a_word_that_is_neither_is_an_error() {
    let (_dir, state, p, q) = dirs();
    ran(&state, C, &q);
    ran(&state, A, &p);
    assert_eq!(meant(&state, &p, &["changed"]), jail(A, &["changed"]));
    assert_eq!(meant(&state, &p, &["cccc"]), jail(C, &[]));
    fs::write(p.join("cccc"), "").unwrap();
    assert_eq!(meant(&state, &p, &["cccc"]), jail(A, &["cccc"]));
    assert_eq!(meant(&state, &p, &["jl-cccc"]), jail(C, &[]));
    let neither = |word: &str| format!("`{word}` is neither a path in `{}` nor a jail", p.display());
    for word in ["zzzz", "jl-notes.txt", "jl-7k3mo"] {
        assert_eq!(meant(&state, &p, &[word]).unwrap_err(), neither(word));
    }
    // Three digits are no id: that a path is misspelt is more likely.
    let no_path = format!("no `ccc` in `{}`, nor among the changes of `{A}`", p.display());
    assert_eq!(meant(&state, &p, &["ccc"]).unwrap_err(), no_path);
    assert!(matches!(ask(&state, &p, &["@", "changed", "typo"]), Err(Error::NoPath { .. })));
    // Where nothing is kept there is nothing to look up a path in.
    let top = p.parent().unwrap();
    assert_eq!(meant(&state, top, &["cccc"]), jail(C, &[]));
    let none = format!("no changes are kept for `{}`", top.display());
    assert_eq!(meant(&state, top, &["q"]).unwrap_err(), none);
    assert_eq!(meant(&state, top, &[]).unwrap_err(), none);
}

#[test]
fn paths_are_taken_and_shown_from_the_current_directory() {
    let (_dir, state, p, q) = dirs();
    ran(&state, A, &p);
    fs::write(p.join("sub/inner"), "").unwrap();
    let here = |cwd: &Path, words: &[&str]| ask(&state, cwd, words).map(|c| (c.here, c.only));
    assert_eq!(here(&p.join("sub"), &["../changed"]).unwrap(), (b"sub".to_vec(), vec![b"changed".to_vec()]));
    assert_eq!(here(&p.join("sub"), &["inner"]).unwrap().1, [b"sub/inner"]);
    assert!(matches!(here(&p.join("sub"), &["./changed"]), Err(Error::NoPath { .. })));
    assert!(matches!(here(&p.join("sub"), &["changed"]), Err(Error::Neither { .. })));
    assert_eq!(here(&q, &[A, "sub/inner"]).unwrap(), (vec![], vec![b"sub/inner".to_vec()]));
}

#[test]
fn a_running_jail_is_meant_as_well_and_never_passed_over() {
    let (_dir, state, p, _) = dirs();
    ran(&state, A, &p);
    let run = running(&state, B, &p);
    for words in [&[][..], &["@"], &[B], &["aaab"]] {
        let chosen = ask(&state, &p, words).unwrap();
        assert_eq!((chosen.tree.id.as_str(), chosen.tree.running), (B, true), "{words:?}");
        let e = super::apply(&chosen.tree, &super::ApplyOptions::default(), &Silent).unwrap_err();
        assert!(matches!(&e, Error::Running(id) if id == B), "{e}");
        assert!(super::diff(&chosen.tree, &super::DiffOptions::default()).unwrap().running);
    }
    assert!(!p.join("changed").exists());
    drop(run);
    let chosen = ask(&state, &p, &[]).unwrap();
    assert_eq!((chosen.tree.id.as_str(), chosen.tree.running), (B, false));
    // It stays while it is looked at.
    let id: Id = B.parse().unwrap();
    assert!(trees::remove_tree(&state, id).is_err());
}

#[test]
fn without_a_state_directory_there_is_nothing() {
    let gone = || Err(io::Error::from_raw_os_error(nix::libc::ENOENT));
    let ask = |cwd: io::Result<PathBuf>, words: &[&str]| {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        choose_in(None, (cwd, To::Base), &words, &Silent).unwrap_err().to_string()
    };
    assert_eq!(ask(Ok("/p".into()), &[]), "no changes are kept for `/p`");
    assert_eq!(ask(Ok("/p".into()), &["jl-7k3m"]), "no jail `jl-7k3m`");
    assert_eq!(ask(gone(), &["@"]), "no jail `@`");
    assert_eq!(ask(gone(), &[]), "the current directory cannot be used: No such file or directory (ENOENT)");
}

#[test]
fn a_damaged_ledger_is_replaced_and_told() {
    let (_dir, state, p, _) = dirs();
    ran(&state, A, &p);
    ran(&state, B, &p);
    assert_eq!(meant(&state, &p, &[]), jail(B, &[]));
    fs::write(state.path().join("ledger.db"), vec![7; 9000]).unwrap();
    let monitor = Recording::default();
    let chosen = choose_in(Some(&state), (Ok(p.clone()), To::Base), &[], &monitor).unwrap();
    assert_eq!(chosen.tree.id.as_str(), B);
    assert!(monitor.warnings()[0].contains("was damaged"), "{:?}", monitor.warnings());
    // A full id needs none at all.
    fs::remove_file(state.path().join("ledger.db")).unwrap();
    fs::create_dir(state.path().join("ledger.db")).unwrap();
    assert_eq!(meant(&state, &p, &[A]), jail(A, &[]));
    assert!(state.path().join("ledger.db").is_dir());
}
