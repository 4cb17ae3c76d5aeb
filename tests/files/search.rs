//! `aj search` and `aj fs find`.

use super::{after, fails};
use crate::real::project::{Project, os};

#[test]
fn lines_are_found_and_what_ignore_files_name_is_left_out() {
    let Some(p) = Project::in_jails() else { return };
    p.write("src/main.rs", "fn main() {\n    // TODO one\n}\n");
    p.write("src/old.rs", "// TODO gone\n");
    p.write(".gitignore", "/target\n*.log\n!keep.log\n");
    p.write("target/out.rs", "TODO\n");
    p.write("a.log", "TODO\n");
    p.write("keep.log", "todo kept\n");
    p.write("sub/.ignore", "skip/\n");
    p.write("sub/skip/x", "TODO\n");
    p.write("sub/y", "TODO y\n");
    p.write(".hidden", "TODO\n");
    p.write("bin", b"\0TODO\n");
    after(&p, "rm src/old.rs; printf 'TODO mine\\r\\n' > new.txt; printf 'TODO\\033[31m\\n' > esc");
    let found = p.runs(&["search", "@", "TODO"]);
    assert_eq!(
        found.stdout,
        "esc:1:TODO\\x1b[31m\nnew.txt:1:TODO mine\nsrc/main.rs:2:    // TODO one\nsub/y:1:TODO y\n"
    );
    let words = |words: &[&str]| p.aj([&["search", "@"][..], words].concat());
    assert_eq!(words(&["-i", "todo", "-g", "*.log"]).stdout, "keep.log:1:todo kept\n");
    assert_eq!(words(&["TODO", "-g", "!*.rs", "-l"]).stdout, "esc\nnew.txt\nsub/y\n");
    assert_eq!(words(&["TODO", "--max", "1"]).stdout.lines().count(), 1);
    assert_eq!(words(&["--no-ignore", "--hidden", "TODO", "-l"]).stdout.lines().count(), 8);
    assert_eq!(
        words(&["-C", "1", "TODO", "src"]).stdout,
        "src/main.rs-1-fn main() {\nsrc/main.rs:2:    // TODO one\nsrc/main.rs-3-}\n"
    );
    assert_eq!(
        words(&["TODO", "target/out.rs"]).stdout,
        "target/out.rs:1:TODO\n",
        "what is named is searched"
    );
    assert_eq!(words(&["--fixed", "main()"]).stdout, "src/main.rs:1:fn main() {\n");
    assert_eq!(p.runs(&["fs", "find", "@", "src", "main()"]).stdout, "src/main.rs:1:fn main() {\n");
    let none = words(&["nowhere"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (Some(1), "", ""));
    fails(&words(&["("]), 2, "the pattern cannot be used");
    fails(&words(&["x", "none"]), 3, "no `none`");
    let lines = words(&["--json", "T.DO", "src"]);
    let lines: Vec<serde_json::Value> =
        lines.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let types: Vec<_> = lines.iter().map(|l| l["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["version", "match", "summary"]);
    assert_eq!(lines[1]["spans"], serde_json::json!([[7, 11]]));
    assert_eq!((&lines[2]["matches"], &lines[2]["files"]), (&1.into(), &1.into()));
}

#[test]
fn hostile_ignore_files_cost_little_and_hide_nothing_outside_of_them() {
    let Some(p) = Project::in_jails() else { return };
    p.write("real/f", "needle\n");
    let nested = format!("{}x{}\n", "{".repeat(2000), "}".repeat(2000));
    let wild = format!("{}\n", "*a".repeat(2000));
    let mut lines = nested.repeat(20) + &wild.repeat(50) + "[\n\\\n!\n/\n**/**/**\n";
    lines.push_str(&"x\n".repeat(50_000));
    std::fs::write(p.dir().join(".gitignore"), lines.as_bytes()).unwrap();
    p.write(".ignore", vec![0xff; 5 << 20]);
    std::os::unix::fs::symlink("/etc/passwd", p.dir().join("real/.gitignore")).unwrap();
    nix::unistd::mkfifo(&p.dir().join("real/.ignore"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(p.dir().join(os(b"real/\xff")), "needle\n").unwrap();
    after(&p, "touch mark");
    let ran = p.aj(["search", "@", "needle", "--max", "5"]);
    // `**/**/**` is everything; without it the files are found.
    assert!(matches!(ran.code, Some(0 | 1)), "{ran:#?}");
    assert!(ran.stderr.contains("`.gitignore` has lines that are no patterns, or too many"), "{ran:#?}");
    let ran = p.aj(["search", "@", "needle", "--no-ignore"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{ran:#?}");
}
