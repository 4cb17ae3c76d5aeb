//! Rules of the source tree that no lint knows.

use std::collections::BTreeSet;

use super::source::{self, Source};
use crate::common;

/// What may be written in few places only: `(what, why, where)`.
const HOMES: &[(&str, &str, &[&str])] = &[
    ("unsafe", "system calls have one home", &["src/sys/"]),
    ("println!", "`cli::ui` writes to the terminal", &[]),
    ("print!", "`cli::ui` writes to the terminal", &[]),
    ("eprintln!", "`cli::ui` writes to the terminal", &[]),
    ("eprint!", "`cli::ui` writes to the terminal", &[]),
    ("dbg!", "`cli::ui` writes to the terminal", &[]),
    ("stdout()", "`cli::ui` writes to the terminal", &["src/cli/ui/"]),
    ("stderr()", "`cli::ui` writes to the terminal", &["src/cli/ui/"]),
    ("process::exit", "a command returns its exit code", &["src/cli/bug.rs", "src/sys/"]),
    ("process::abort", "a command returns its exit code", &["src/sys/"]),
    ("env::var", "`base::env` lists every variable", &["src/base/env.rs"]),
    ("env::var_os", "`base::env` lists every variable", &["src/base/env.rs"]),
    ("env::vars", "`base::env` lists every variable", &["src/base/env.rs"]),
    ("env::vars_os", "`base::env` lists every variable", &["src/base/env.rs"]),
    ("env::set_var", "the environment is not ours to change", &[]),
    ("todo!", "unfinished code is not shipped", &[]),
    ("unimplemented!", "unfinished code is not shipped", &[]),
];

/// Layers that do no I/O, and the modules of `std` that would be I/O.
const PURE: &[&str] = &["src/policy/", "src/schema/"];
const IO: &[&str] =
    &["std::fs", "std::net", "std::process", "std::os::unix::net", "File::open", "nix::", "libc::"];

/// Modules that exist in test builds only: `x_tests.rs`, `tests.rs`, `tests/…` below `src`.
fn is_test_module(path: &str) -> bool {
    path.ends_with("_tests.rs") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Whether `line` names `what` as a path of its own: `nix::x`, not `std::os::unix::x`.
fn names(line: &str, what: &str) -> bool {
    line.match_indices(what).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn misplaced(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        if is_test_module(&file.path) {
            continue;
        }
        for (what, why, _) in
            HOMES.iter().filter(|(_, _, homes)| !homes.iter().any(|h| file.path.starts_with(h)))
        {
            for line in Source::lines_with(file.shipped(), what) {
                found.push(format!("{}:{line}: `{what}`: {why}", file.path));
            }
        }
        if PURE.iter().any(|p| file.path.starts_with(p)) {
            for what in IO {
                for (n, line) in file.shipped().lines().enumerate() {
                    if names(line, what) {
                        found.push(format!("{}:{}: `{what}`: this module does no I/O", file.path, n + 1));
                    }
                }
            }
        }
    }
    found
}

/// Longest file. The aim is 400 lines.
const MOST_LINES: usize = 600;

fn too_long(files: &[Source]) -> Vec<String> {
    let long = files.iter().filter(|f| f.text.lines().count() > MOST_LINES);
    long.map(|f| format!("{}: {} lines, at most {MOST_LINES}", f.path, f.text.lines().count())).collect()
}

/// Variables that only the build or the tests read.
const NOT_READ_BY_AJ: &[&str] = &["AJ_COMMIT", "AJ_BIN"];

/// Every `AJ_WORD` in the text that is not in `known`.
fn unlisted_variables(files: &[Source], known: &BTreeSet<&str>) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (n, (line, code)) in file.text.lines().zip(file.code.lines()).enumerate() {
            for (at, _) in line.match_indices("AJ_") {
                let name: String = line[at..]
                    .chars()
                    .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                    .collect();
                // `AJ_FAILED` as an identifier is a constant of ours, in a literal or a comment a variable.
                let identifier = !Source::lines_with(code, &name).is_empty();
                let inside =
                    identifier || line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                if !inside
                    && name != "AJ_"
                    && !known.contains(name.as_str())
                    && !NOT_READ_BY_AJ.contains(&name.as_str())
                {
                    found.push(format!("{}:{}: `{name}` is not in base::env", file.path, n + 1));
                }
            }
        }
    }
    found
}

fn ignored_without_reason(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let lines = file.text.lines().enumerate().filter(|(_, l)| l.trim_start().starts_with("#[ignore"));
        for (n, line) in lines {
            if !line.contains("#[ignore = \"") {
                found.push(format!("{}:{}: `#[ignore]` without a reason", file.path, n + 1));
            }
        }
    }
    found
}

/// Files of `tests/` that no `mod` line reaches, so that their tests would never run.
fn forgotten(files: &[Source]) -> Vec<String> {
    let mut reached = BTreeSet::from(["tests/main.rs".to_owned()]);
    let mut to_read = vec!["tests/main.rs".to_owned()];
    while let Some(path) = to_read.pop() {
        let Some(file) = files.iter().find(|f| f.path == path) else { continue };
        let dir = match path.strip_suffix("/mod.rs").or(path.strip_suffix("/main.rs")) {
            Some(dir) => dir.to_owned(),
            None => path.trim_end_matches(".rs").to_owned(),
        };
        let named = file
            .code
            .lines()
            .filter_map(|l| l.trim().strip_suffix(';')?.rsplit_once("mod ").map(|(_, m)| m.trim()));
        for module in named {
            for candidate in [format!("{dir}/{module}.rs"), format!("{dir}/{module}/mod.rs")] {
                if files.iter().any(|f| f.path == candidate) && reached.insert(candidate.clone()) {
                    to_read.push(candidate);
                }
            }
        }
    }
    files
        .iter()
        .map(|f| &f.path)
        .filter(|p| !reached.contains(*p))
        .map(|p| format!("{p}: no `mod` line reaches it"))
        .collect()
}

/// Programs that tests compile or run themselves, not modules.
const PROGRAMS: &[&str] = &["tests/programs/"];

fn tests() -> Vec<Source> {
    let files = common::files("tests", "rs").into_iter().map(|(path, text)| Source::new(path, text));
    files.filter(|f| !PROGRAMS.iter().any(|p| f.path.starts_with(p))).collect()
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn each_thing_is_in_its_home() {
    none(misplaced(&source::all()));
}

#[test]
fn files_are_short() {
    none(too_long(&source::all()));
    none(too_long(&tests()));
}

#[test]
fn every_variable_is_listed() {
    let known = agentjail::base::env::ALL.iter().map(|v| v.name).collect();
    none(unlisted_variables(&source::all(), &known));
}

#[test]
fn no_test_is_forgotten_or_ignored_in_silence() {
    none(forgotten(&tests()));
    none(ignored_without_reason(&source::all()));
    none(ignored_without_reason(&tests()));
}

#[test]
fn each_check_fails_on_a_bad_file() {
    let one = |path: &str, text: &str| vec![Source::new(path, text)];
    let bad = |text: &str| misplaced(&one("src/ops/x.rs", text)).len();
    assert_eq!(bad("fn f() { let x = unsafe { g() }; }"), 1);
    assert_eq!(bad("fn f() { println!(); std::process::exit(1) }"), 2);
    assert_eq!(bad("let home = std::env::var(\"HOME\");\nstd::env::var_os(x);"), 2);
    assert_eq!(bad("#![forbid(unsafe_code)]\n// unsafe\nlet s = \"unsafe println!\";"), 0);
    assert_eq!(bad("fn f() {}\n#[cfg(test)]\nmod tests { fn f() { println!() } }"), 0);
    assert_eq!(misplaced(&one("src/sys/x.rs", "unsafe { std::process::exit(1) }")).len(), 0);
    assert_eq!(misplaced(&one("src/policy/x.rs", "use std::fs;\nuse std::path::Path;")).len(), 1);

    assert_eq!(too_long(&one("x.rs", &"\n".repeat(MOST_LINES + 1))).len(), 1);
    assert_eq!(too_long(&one("x.rs", &"\n".repeat(MOST_LINES))).len(), 0);

    let known = BTreeSet::from(["AJ_STATE_DIR"]);
    let unlisted = |text: &str| unlisted_variables(&one("x.rs", text), &known).len();
    assert_eq!(
        unlisted(
            "env(\"AJ_STATE_DIR\"), \"AJ_STATE\", XAJ_FOO, `AJ_*`, exit::AJ_CODE, option_env!(\"AJ_COMMIT\")"
        ),
        1
    );

    assert_eq!(
        ignored_without_reason(&one("x.rs", "#[test]\n  #[ignore]\nfn f() {}\n#[ignore = \"slow\"]")).len(),
        1
    );

    let mut files = one("tests/main.rs", "mod a;\npub mod b;\n// mod c;\n");
    for path in ["tests/a.rs", "tests/b/mod.rs", "tests/b/d.rs", "tests/c.rs"] {
        files.push(Source::new(path, if path == "tests/b/mod.rs" { "mod d;" } else { "" }));
    }
    assert_eq!(forgotten(&files), ["tests/c.rs: no `mod` line reaches it"]);
}
