//! What is to be done about it can be done, and helps.

use std::os::unix::fs::PermissionsExt;

use super::assert_refused;
use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root};

fn bash(p: &Project, script: &str) -> Ran {
    let mut command = p.command("bash");
    command.args(["-c", script]).env("AJ", aj());
    Ran::from(command.output().unwrap())
}

#[test]
fn no_limit_is_offered_only_where_there_may_be_none() {
    let p = Project::new();
    for words in [["exec", "--tmp", "0", "--", "true"], ["exec", "--grace", "99999999d", "--", "true"]] {
        let ran = p.aj(words);
        assert!(ran.code == Some(125) && !ran.stderr.contains("none"), "{words:?}: {ran:?}");
    }
    let ran = p.aj(["exec", "--timeout", "0", "--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("`none`"), "{ran:?}");
}

#[test]
fn a_place_of_the_jails_own_is_not_to_be_had_by_insisting_or_further_down() {
    let p = Project::new();
    for (path, hint) in [
        ("/", "use a directory below it"),
        ("/usr", "use a directory below it"),
        ("/etc", "use a directory outside of `/etc`"),
        ("/etc/ssl", "use a directory outside of `/etc`"),
        ("/proc/self", "use a directory outside of `/proc`"),
    ] {
        if !std::path::Path::new(path).exists() {
            continue;
        }
        let ran = p.aj(["exec", &format!("--ro={path}"), "--", "true"]);
        assert_refused(&ran, &["the jail has its own", hint]);
        assert!(!ran.stderr.contains("--i-mean-it"), "{ran:?}");
    }
    for dir in ["/proc", "/dev", "/etc", "/usr"] {
        let mut command = p.command(aj());
        let ran = Ran::from(command.args(["exec", "--", "true"]).current_dir(dir).output().unwrap());
        assert_refused(&ran, &["the jail has its own", "use a directory "]);
        assert!(!ran.stderr.contains("--r"), "{ran:?}");
    }
}

/// Every command is told of the limit, and dies of none.
#[test]
fn a_limit_of_file_sizes_is_an_error_in_every_command() {
    let Some(p) = Project::in_jails() else { return };
    assert_eq!(p.aj(["exec", "--", "sh", "-c", "head -c 900000 /dev/zero > big"]).code, Some(0));
    for words in ["jail list --limit 1", "diff", "gc", "stats", "ps", "volume list", "workspace list"] {
        let ran = bash(&p, &format!("(ulimit -f 1; \"$AJ\" {words})"));
        assert_eq!(ran.code, Some(0), "{words}: {ran:?}");
        let updates = ran.stderr.contains("cannot be updated");
        assert!(!updates || ran.stderr.contains("`ulimit -f`"), "{words}: {ran:?}");
    }
    let before = std::fs::read_dir(p.dir()).unwrap().count();
    let ran = bash(&p, "(ulimit -f 300; \"$AJ\" apply)");
    assert!(ran.code == Some(1) && ran.stderr.contains("hint: raise the limit of file sizes: "), "{ran:?}");
    assert_eq!(std::fs::read_dir(p.dir()).unwrap().count(), before);
    // What runs in a jail dies of it, as anywhere.
    let ran = bash(&p, "\"$AJ\" exec -- bash -c 'ulimit -f 1; head -c 9000 /dev/zero > x'");
    assert_eq!(ran.code, Some(153), "{ran:?}");
    assert_eq!(p.aj(["workspace", "create", "w"]).code, Some(0));
    let ran = bash(&p, "head -c 900000 /dev/zero | (ulimit -f 300; \"$AJ\" fs write w y)");
    assert!(ran.code == Some(1) && ran.stderr.contains("hint: raise the limit of file sizes: "), "{ran:?}");
    assert_eq!(p.aj(["apply"]).code, Some(0));
}

#[test]
fn a_limit_of_open_files_is_named() {
    let Some(p) = Project::in_jails() else { return };
    assert_eq!(p.aj(["exec", "--", "true"]).code, Some(0));
    for most in 4..=12 {
        let ran = bash(&p, &format!("ulimit -n {most}; \"$AJ\" exec -- true"));
        assert_refused(&ran, &["EMFILE", "hint: raise the limit of open files: `ulimit -n"]);
        assert!(!ran.stderr.contains("AJ_STATE_DIR") && !ran.stderr.contains("you may read"), "{ran:?}");
    }
}

#[test]
fn a_directory_that_is_shut_is_not_said_to_be_gone() {
    let Some(p) = Project::in_jails() else { return };
    if is_root() {
        return;
    }
    assert_eq!(p.aj(["exec", "--", "touch", "new"]).code, Some(0));
    let mode = |mode| std::fs::set_permissions(p.dir(), PermissionsExt::from_mode(mode)).unwrap();
    mode(0o311);
    let ran = [p.aj(["diff"]), p.aj(["apply"])];
    mode(0o755);
    for ran in ran {
        assert!(ran.code == Some(1) && ran.stderr.contains("`chmod u+rx "), "{ran:?}");
        assert!(!ran.stderr.contains("moved"), "{ran:?}");
    }
    // The home of a workspace, by a command in it.
    assert_eq!(p.aj(["workspace", "create", "w"]).code, Some(0));
    assert_eq!(p.aj(["exec", "w", "--", "sh", "-c", "chmod 0 ~"]).code, Some(0));
    let ran = p.aj(["fs", "list", "w", "/home/agent"]);
    assert!(ran.stderr.contains("`aj exec WORKSPACE -- chmod u+rwx /home/agent /output`"), "{ran:?}");
    let open = ["exec", "w", "--", "chmod", "u+rwx", "/home/agent", "/output"];
    assert_eq!(p.aj(open).code, Some(0));
    assert_eq!(p.aj(["fs", "list", "w", "/home/agent"]).code, Some(0));
}

#[test]
fn a_name_with_escapes_can_be_given_back_as_the_hint_says() {
    let Some(p) = Project::in_jails() else { return };
    assert_eq!(p.aj(["exec", "--", "touch", "e\x1b[2J", "it's\n"]).code, Some(0));
    let printed = p.aj(["diff"]).stdout;
    for line in printed.lines() {
        let name = line.strip_prefix("A ").unwrap();
        let ran = p.aj(["diff", "@", name]);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let (_, word) = ran.stderr.split_once("is given as ").unwrap();
        let again = bash(&p, &format!("\"$AJ\" diff @ {}", word.lines().next().unwrap()));
        assert_eq!(again.stdout, format!("{line}\n"), "{again:?}");
    }
    assert_eq!(printed.lines().count(), 2, "{printed}");
}
