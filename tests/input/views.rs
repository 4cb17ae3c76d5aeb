//! `--ro` and `--rw`: what they name and how they combine.

use std::os::unix::fs::symlink;

use super::refused;
use crate::common::Ran;
use crate::real::project::Project;

fn project() -> (Project, String) {
    let p = Project::new();
    p.outside("mkdir -p ../data/in ../other sub; echo 1 > ../data/file; echo 2 > ../data/in/file; echo 3 > sub/file; cd ../data; ln -s file link; mkfifo pipe");
    let data = p.top().join("data").to_str().unwrap().to_owned();
    (p, data)
}

fn run(p: &Project, flags: &[&str], script: &str) -> Ran {
    let words = [&["exec"], flags, &["--", "sh", "-c", script]].concat();
    p.aj(words)
}

#[test]
fn what_is_not_there_or_in_the_way_is_refused() {
    let (p, data) = project();
    let no_such = format!("{data}/no-such");
    for (path, said) in [
        (no_such.as_str(), &["no-such", "ENOENT"][..]),
        ("./no-such", &["no-such", "ENOENT"]),
        ("/etc", &["the jail has its own `/etc`"]),
        ("/etc/passwd", &["the jail has its own `/etc`"]),
        ("/usr", &["the jail has its own `/usr`"]),
        ("/dev/null", &["the jail has its own `/dev`"]),
        ("/proc/1", &["the jail has its own `/proc`"]),
        ("/tmp", &["`/tmp` "]),
        ("/run", &["holds sockets of other programs"]),
    ] {
        refused(&p, ["exec", "--ro", path, "--", "true"], said);
        refused(&p, ["exec", "--rw", path, "--", "true"], said);
    }
    // Read-only says nothing of what is sent to them.
    let [pipe, socket] = ["pipe", "socket"].map(|name| format!("{data}/{name}"));
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&pipe, &socket] {
        refused(&p, ["exec", "--ro", path, "--", "true"], &["a socket or a FIFO"]);
    }
    let link = format!("{data}/../again");
    symlink("data", &link).unwrap();
    let asked = "for both read-only and writable";
    refused(&p, ["exec", "--ro", &data, "--rw", &link, "--", "true"], &[asked]);
}

#[test]
fn directories_files_and_links_are_shown_at_their_own_paths() {
    let (p, data) = project();
    let before = p.outside("stat -c '%n %Y %s' ../data/* ../data/in/file");
    let ran = run(
        &p,
        &["--ro", &data],
        &format!(
            "cat {data}/file {data}/in/file {data}/link; echo x > {data}/file; rm {data}/file; touch {data}/new"
        ),
    );
    assert_eq!(ran.stdout, "1\n2\n1\n", "{ran:#?}");
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 3, "{ran:#?}");
    assert_eq!(p.outside("stat -c '%n %Y %s' ../data/* ../data/in/file"), before);
    let ran = run(
        &p,
        &["--ro", &format!("{data}/file")],
        &format!("ls {data}; cat {data}/file; echo x > {data}/file"),
    );
    assert_eq!(ran.stdout, "file\n1\n", "only what was named: {ran:#?}");
    assert!(ran.stderr.contains("Read-only"), "{ran:#?}");
    // By a link: under that name as well.
    let ran = run(
        &p,
        &["--ro", &format!("{data}/link")],
        &format!("cat {data}/link; readlink {data}/link; ls {data}"),
    );
    assert_eq!(ran.stdout, format!("1\n{data}/file\nfile\nlink\n"), "{ran:#?}");
    // A pipe and a file for writing.
    let ran = run(
        &p,
        &["--rw", &format!("{data}/pipe"), "--rw", &format!("{data}/file")],
        &format!("[ -p {data}/pipe ] && echo more >> {data}/file && cat {data}/file; : > {data}/other"),
    );
    assert_eq!(ran.stdout, "1\nmore\n", "{ran:#?}");
    assert_eq!(p.outside("cat ../data/file; ls ../data"), "1\nmore\nfile\nin\nlink\npipe\n");
}

#[test]
fn they_nest_repeat_and_cover_the_workspace() {
    let (p, data) = project();
    let inner = format!("{data}/in");
    // Writable within read-only, and the other way round, in either order.
    for flags in [["--ro", &data, "--rw", &inner], ["--rw", &inner, "--ro", &data]] {
        let ran =
            run(&p, &flags, &format!("echo w > {inner}/w && cat {inner}/w && rm {inner}/w; touch {data}/w"));
        assert_eq!(ran.stdout, "w\n", "{ran:#?}");
        assert!(ran.stderr.contains("Read-only"), "{ran:#?}");
    }
    let ran = run(
        &p,
        &["--rw", &data, "--ro", &inner],
        &format!("echo w > {data}/w && rm {data}/w && echo done; touch {inner}/w"),
    );
    assert!(ran.stdout == "done\n" && ran.stderr.contains("Read-only"), "{ran:#?}");
    // The same one again, and by another name.
    let twice = format!("{data}/../data/.");
    let ran = run(
        &p,
        &["--ro", &data, "--ro", &data, "--ro", &twice, "--ro", &inner],
        &format!("cat {inner}/file"),
    );
    assert_eq!(ran.stdout, "2\n", "{ran:#?}");
    // Of the workspace: a part for real, a part read-only, the whole.
    let ran = run(&p, &["--ro", "./sub"], "cat sub/file; touch sub/x; touch y; ls");
    assert!(ran.stdout == "3\nsub\ny\n" && ran.stderr.contains("Read-only"), "{ran:#?}");
    let ran = run(&p, &["--rw", "./sub"], "echo real > sub/x; echo not > y");
    assert_eq!(p.outside("cat sub/x; ls; rm sub/x"), "real\nsub\n", "{ran:#?}");
    let ran = run(&p, &["--ro", "./."], "touch x; ls");
    assert!(ran.stdout == "sub\n" && ran.stderr.contains("Read-only"), "{ran:#?}");
}

#[test]
fn the_parent_of_the_workspace_may_be_shown() {
    let (p, _) = project();
    std::fs::create_dir_all(p.top().join("work/project/in")).unwrap();
    let mut command = p.command(crate::common::aj());
    command.current_dir(p.top().join("work/project"));
    command.args(["exec", "--ro", "..", "--", "sh", "-c", "ls ..; touch ../x; echo y > y; cat y"]);
    let ran = Ran::from(command.output().unwrap());
    // The bind comes after the workspace and covers it: everything below is read-only then.
    assert!(ran.stdout.starts_with("project\n"), "{ran:#?}");
    assert!(ran.stderr.contains("Read-only"), "{ran:#?}");
    assert_eq!(p.outside("ls ../work ../work/project"), "../work:\nproject\n\n../work/project:\nin\n");
}

#[test]
fn five_hundred_of_them() {
    let p = Project::new();
    let dirs: Vec<String> =
        (0..500).map(|n| p.top().join(format!("many/{n}")).to_str().unwrap().to_owned()).collect();
    for d in &dirs {
        std::fs::create_dir_all(d).unwrap();
        std::fs::write(format!("{d}/f"), "x").unwrap();
    }
    let mut words: Vec<&str> = vec!["exec"];
    dirs.iter().for_each(|d| words.extend(["--ro", d]));
    let script =
        format!("cat {0}/*/f | wc -c; touch {0}/77/x; ls {0} | wc -l", p.top().join("many").display());
    words.extend(["--", "sh", "-c", &script]);
    let ran = p.aj(words);
    assert_eq!(ran.stdout, "500\n500\n", "{ran:#?}");
    assert!(ran.stderr.contains("Read-only"), "{ran:#?}");
}
