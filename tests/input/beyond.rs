//! What only seems to be in the tree: file systems mounted below it, links that lead out of it.

use super::{assert_refused, in_mount_namespace};
use crate::common::Ran;
use crate::real::project::{Project, is_root};

const MOUNTED: &str = "mkdir -p data src && mount -t tmpfs t data && echo there > data/f && ";

fn warnings(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter_map(|l| l.strip_prefix("aj: warning: ")).collect()
}

#[test]
fn what_is_mounted_below_the_tree_is_named_once() {
    let p = Project::new();
    let run = |flags: &str, script: &str| {
        let script = format!("{MOUNTED} \"$AJ\" exec {flags} -- sh -c '{script}'");
        Some(Ran::from(in_mount_namespace(&p, &script)?.output().unwrap()))
    };
    let Some(ran) = run("", "ls data") else { return };
    if is_root() {
        assert_eq!((ran.code, ran.stdout.as_str(), warnings(&ran).len()), (Some(0), "", 1), "{ran:#?}");
        assert!(
            warnings(&ran)[0]
                .starts_with("`data` is a mount of its own, which was seen empty inside: `--ro /"),
            "{ran:#?}"
        );
        let ran = run("--ro $PWD/data", "cat data/f").unwrap();
        assert_eq!(
            (ran.code, ran.stdout.as_str(), warnings(&ran).len()),
            (Some(0), "there\n", 0),
            "{ran:#?}"
        );
    } else {
        assert_refused(&ran, &["(EINVAL)", "hint: `data` in the tree is mounted", "--root-dir DIR", "--rw"]);
        assert!(!ran.stderr.contains("AJ_STATE_DIR"), "{ran:#?}");
        let ran = run("--rw", "cat data/f").unwrap();
        assert_eq!(
            (ran.code, ran.stdout.as_str(), warnings(&ran).len()),
            (Some(0), "there\n", 0),
            "{ran:#?}"
        );
        let ran = run("--root-dir src", "echo fine").unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "fine\n"), "{ran:#?}");
    }
}

#[test]
fn a_link_that_leads_out_is_named_when_a_file_was_missed_and_never_followed() {
    let p = Project::new();
    p.outside("mkdir ../out in ~/.ssh; echo x > ../out/f; echo y > in/f; ln -s ../out rel; ln -s \"$(cd ..; pwd)/out\" abs; ln -s in inner; ln -s ~/.ssh keys; ln -s /nowhere dangling");
    let run = |script: &str| p.aj(["exec", "--", "sh", "-c", script]);
    let said = |ran: &Ran| warnings(ran).join("\n");
    let ran = run("cat rel/f");
    assert!(ran.code == Some(1) && ran.stdout.is_empty(), "{ran:#?}");
    let out = std::fs::canonicalize(p.top().join("out")).unwrap();
    let line = |name: &str| {
        format!("`{name}` is a link to `{0}`, which was not shown: `--ro {0}` shows it", out.display())
    };
    assert_eq!(said(&ran), line("rel"));
    // The way that it names.
    let ran = p.aj(["exec", "--ro", out.to_str().unwrap(), "--", "cat", "abs/f"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "x\n"), "{ran:#?}");
    assert!(
        said(&run("cat keys/id")).contains("`keys` is a link to `")
            && !said(&run("cat keys/id")).contains("--ro")
    );
    // Of those that nobody mentioned, all.
    let ran = run("echo 'No such file' >&2; exit 3");
    assert!(said(&ran).contains(&line("rel")) && said(&ran).contains(&line("abs")), "{ran:#?}");
    assert!(!said(&ran).contains("inner") && !said(&ran).contains("dangling"), "{ran:#?}");
    for quiet in ["cat rel/f; true", "exit 3", "cat inner/f; exit 3"] {
        assert_eq!(said(&run(quiet)), "", "{quiet}");
    }
}
