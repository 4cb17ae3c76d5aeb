//! The view equals the mount: random commands in a jail, random changes from outside, and at every end what
//! `aj fs` shows is compared with what `find` says inside.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use super::fed;
use crate::common::aj;
use crate::real::project::{Project, has, os};

/// A small generator: the same seed, the same commands.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % sides).unwrap()
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len() as u64)]
    }
}

const DIRS: &[&str] = &[".", "a", "a/b", "a/b/c", "d", "d/e", "new", "new/x"];
const NAMES: &[&str] = &["a", "b", "c", "d", "e", "f", "g", "x", "new"];

fn path(dice: &mut Dice) -> String {
    format!("{}/{}", dice.one(DIRS), dice.one(NAMES))
}

/// One command of a jail's. Whether it works does not matter.
fn command(dice: &mut Dice) -> String {
    let (p, q) = (path(dice), path(dice));
    match dice.roll(14) {
        0 => format!("rm -rf {p}"),
        1 => format!("rm -f {p}"),
        2 => format!("mkdir -p {p}"),
        3 => format!("rm -rf {p}; mkdir {p}"),
        4 => format!("rm -rf {p}; mkdir {p}; echo again > {p}/b"),
        5 => format!("rm -rf {p}; echo file > {p}"),
        // Nobody reads from a fifo.
        6 => format!("[ -p {p} ] || echo {} >> {p}", dice.roll(100)),
        7 => format!("mv {p} {q}"),
        8 => format!("mv -T {p} {q}"),
        9 => format!("ln -sfn ../{} {p}", dice.one(NAMES)),
        10 => format!("chmod {} {p}", dice.one(&["700", "755", "750", "711"])),
        11 => format!("touch -d @{} {p}", dice.roll(2_000_000_000)),
        12 => format!("ln {p} {q}"),
        _ => format!("mkfifo {p}"),
    }
}

/// One change from outside, as words of `aj fs`.
fn change(dice: &mut Dice) -> Vec<String> {
    let (p, q) = (path(dice), path(dice));
    let words: &[&str] = match dice.roll(6) {
        0 => &["rm", "@", "-rf", &p],
        1 => &["write", "@", &p],
        2 => &["mkdir", "@", "-p", &p],
        3 => &["mv", "@", &p, &q],
        4 => &["mv", "@", "--no-clobber", &p, &q],
        _ => &["replace", "@", "e", "E", &p],
    };
    std::iter::once("fs").chain(words.iter().copied()).map(str::to_owned).collect()
}

type Tree = BTreeMap<Vec<u8>, String>;

/// What `find` says inside.
fn mounted(p: &Project) -> Tree {
    let form = r"%P\0%y %04m %U:%G %s %TY-%Tm-%TdT%TH:%TM:%TS %l\0";
    let out = p
        .command(aj())
        .args(["exec", "-q", "@", "-e", "TZ=UTC", "--", "find", ".", "-mindepth", "1", "-printf", form])
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let mut fields = out.stdout.split(|b| *b == 0);
    let mut tree = Tree::new();
    while let (Some(path), Some(line)) = (fields.next(), fields.next()) {
        let line = String::from_utf8(line.to_vec()).unwrap();
        let mut words: Vec<&str> = line.splitn(6, ' ').collect();
        // Sizes of what is no file, and bits of links, are nobody's business.
        if words[0] != "f" {
            words[3] = "0";
        }
        if words[0] == "l" {
            words[1] = "0777";
        }
        // Ten digits, of which the last is none.
        words[4] = &words[4][..words[4].len() - 1];
        tree.insert(path.to_vec(), words.join(" "));
    }
    tree
}

/// What `aj fs list` says outside.
fn viewed(p: &Project, without: &str) -> Tree {
    let out = p
        .command(aj())
        .args(["fs", "list", "@", "-a", "-R", "--json"])
        .env("AJ_TEST_WITHOUT", without)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let listing: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(listing["failed"], serde_json::json!([]));
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let bytes = |e: &serde_json::Value, name: &str| match e[format!("{name}_base64")].as_str() {
        Some(base64) => agentjail::schema::jail::bytes64::decode(base64).unwrap(),
        None => e[name].as_str().unwrap_or_default().as_bytes().to_vec(),
    };
    let entries = listing["entries"].as_array().unwrap().iter();
    let line = |e: &serde_json::Value| {
        let kind = match e["kind"].as_str().unwrap() {
            "file" => "f",
            "directory" => "d",
            "symlink" => "l",
            "fifo" => "p",
            other => panic!("{other}"),
        };
        let time = text(&e["modified_at"]);
        format!(
            "{kind} {} {}:{} {} {} {}",
            text(&e["mode"]),
            e["uid"],
            e["gid"],
            e["size"],
            time.trim_end_matches('Z'),
            String::from_utf8(bytes(e, "target")).unwrap()
        )
    };
    entries.map(|e| (bytes(e, "path"), line(e))).collect()
}

fn project() -> Option<Project> {
    let p = Project::in_jails()?;
    if !has("find") {
        return None;
    }
    for (path, text) in [
        ("a/a", "1"),
        ("a/b/a", "2"),
        ("a/b/c/a", "3"),
        ("a/b/c/b", "4"),
        ("a/f", "5"),
        ("d/a", "6"),
        ("d/e/a", "7"),
        ("d/e/f", "8"),
        ("b", "9"),
        ("x/deep/er/f", "10"),
    ] {
        p.write(path, text);
    }
    symlink("a/b", p.dir().join("c")).unwrap();
    symlink("/etc/passwd", p.dir().join("d/g")).unwrap();
    let long = "é".repeat(127);
    for odd in [&b"d/\x1b]0;title\x07"[..], b"d/new\nline", b"d/\xff\xfe", long.as_bytes()] {
        std::fs::write(p.dir().join(os(odd)), "odd").unwrap();
    }
    Some(p)
}

#[track_caller]
fn same(p: &Project, seed: u64, script: &str) {
    let (inside, outside) = (mounted(p), viewed(p, ""));
    let differ: Vec<_> = inside
        .keys()
        .chain(outside.keys())
        .filter(|k| inside.get(*k) != outside.get(*k))
        .map(|k| format!("{:?}: {:?} | {:?}", os(k), inside.get(k), outside.get(k)))
        .collect();
    assert!(differ.is_empty(), "seed {seed}: mounted | viewed\n{}\nafter\n{script}", differ.join("\n"));
}

#[test]
fn the_view_is_what_the_mount_shows_after_any_commands() {
    let Some(first) = project() else { return };
    drop(first);
    let mut blind_differs = false;
    for seed in 1..=6u64 {
        let p = project().unwrap();
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut said = String::new();
        for round in 0..2 {
            let script: Vec<String> = (0..60).map(|_| command(&mut dice)).collect();
            let script = format!("exec 2>/dev/null; {}; touch changed", script.join("\n"));
            said.push_str(&script);
            let words = ["exec", "-q"].into_iter().chain((round > 0).then_some("@"));
            let ran = p.aj(words.chain(["--timeout", "30s", "--", "sh", "-c", &script]));
            assert_eq!(ran.code, Some(0), "{ran:#?}");
            same(&p, seed, &said);
        }
        blind_differs |= viewed(&p, "opaque") != viewed(&p, "");
    }
    // Teeth: whoever does not know of opaque directories shows something else.
    assert!(blind_differs, "no seed made an opaque directory over something");
}

#[test]
fn the_mount_shows_what_was_changed_from_outside() {
    let Some(first) = project() else { return };
    drop(first);
    for seed in 1..=4u64 {
        let p = project().unwrap();
        let mut dice = Dice(seed.wrapping_mul(0xd129_0a4b_93c6_7f1d));
        let commands: Vec<String> = (0..25).map(|_| command(&mut dice)).collect();
        let script = format!("exec 2>/dev/null; {}; touch changed", commands.join("\n"));
        assert_eq!(p.aj(["exec", "-q", "--timeout", "30s", "--", "sh", "-c", &script]).code, Some(0));
        let mut said = script;
        for _ in 0..40 {
            let words = change(&mut dice);
            let ran = fed(&p, &words, b"written from outside\n");
            // Refusals are answers; bugs and leaks of the machinery are not.
            assert!(matches!(ran.code, Some(0..=6)), "{words:?}: {ran:#?}");
            assert!(!ran.stderr.contains("call_failed"), "{words:?}: {ran:#?}");
            said.push_str(&format!("\naj {} -> {:?}", words.join(" "), ran.code));
        }
        same(&p, seed, &said);
        // And diff and apply understand it, too.
        let diff = p.aj(["diff", "--json"]);
        assert_eq!(diff.code, Some(0), "{diff:#?}");
        assert!(!diff.stdout.contains("host changed"), "{diff:#?}");
        let left: Vec<_> = std::fs::read_dir(p.state().join("trees"))
            .unwrap()
            .map(|t| t.unwrap().path().join("edit"))
            .filter(|edit| edit.exists())
            .collect();
        assert_eq!(left, Vec::<std::path::PathBuf>::new(), "nothing is left beside the layers");
        assert!(std::fs::read(p.dir().join("a/a")).unwrap() == b"1", "the project is as it was");
    }
}
