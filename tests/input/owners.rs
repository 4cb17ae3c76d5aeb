//! Files of other owners and groups.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::assert_refused;
use crate::common::{Ran, aj};
use crate::real::project::{Project, SYSTEM_PATH, has, is_root, private, skip};

const USER: u32 = 54_321;
const SHARED: u32 = 54_400;

/// `aj` as a user that the machine does not know, with a supplementary group: only root can be
/// somebody else. `None`, with the reason, when that cannot be done here.
struct Other {
    p: Project,
    aj: PathBuf,
}

impl Other {
    fn new() -> Option<Other> {
        if !is_root() {
            skip("only root can be another user");
            return None;
        }
        if !has("setpriv") {
            return None;
        }
        let p = Project::new();
        let open =
            |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        open(p.top());
        // The one under test may lie where this user may not look.
        let program = p.top().join("aj");
        std::fs::copy(aj(), &program).unwrap();
        open(&program);
        for dir in ["state", "home", "p"] {
            chown(p.top().join(dir), Some(USER), Some(USER)).unwrap();
        }
        private(&p.state());
        Some(Other { p, aj: program })
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=54321", "--regid=54321", "--groups=54400", "--inh-caps=-all"])
            .arg(&self.aj)
            .args(words);
        command.current_dir(self.p.dir()).env_clear().env("PATH", SYSTEM_PATH).env("LANG", "C.UTF-8");
        command.env("HOME", self.p.top().join("home")).env("AJ_STATE_DIR", self.p.state());
        Ran::from(command.output().unwrap())
    }

    fn file(&self, name: &str, owner: (u32, u32), mode: u32) -> PathBuf {
        let path = self.p.write(name, format!("{name}\n"));
        chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

#[test]
fn a_user_that_the_machine_does_not_know_runs_like_any_other() {
    let Some(o) = Other::new() else { return };
    o.file("mine", (USER, USER), 0o644);
    let ran = o.run(&[
        "exec",
        "--",
        "sh",
        "-c",
        "whoami; id -u; echo x >> mine; cat mine; touch new; stat -c %U:%G mine new",
    ]);
    assert_eq!(ran.stdout, "agent\n1000\nmine\nx\nagent:agent\nagent:agent\n", "{ran:#?}");
}

#[test]
fn a_directory_of_another_owner_or_group_is_named_with_the_way_out() {
    let Some(o) = Other::new() else { return };
    o.file("f", (USER, SHARED), 0o664);
    for ((uid, gid), said) in [
        ((0, 0), ["belongs to user 0", "not to you (54321)", "--rw"]),
        ((USER, SHARED), ["belongs to group 54400", "not to you (54321)", "--ro"]),
    ] {
        chown(o.p.dir(), Some(uid), Some(gid)).unwrap();
        std::fs::set_permissions(o.p.dir(), std::fs::Permissions::from_mode(0o2775)).unwrap();
        let ran = o.run(&["exec", "--", "true"]);
        assert_refused(&ran, &said);
        assert_eq!(o.p.trees(), Vec::<PathBuf>::new());
    }
    // The ways that were named, with the rights that the group has.
    let ran = o.run(&["exec", "--ro", "--", "sh", "-c", "cat f; touch x"]);
    assert!(ran.stdout == "f\n" && ran.stderr.contains("Read-only"), "{ran:#?}");
    let ran = o.run(&["exec", "--rw", "--", "sh", "-c", "echo more >> f && echo x > new && cat f"]);
    assert_eq!(ran.stdout, "f\nmore\n", "{ran:#?}");
    assert!(o.p.dir().join("new").exists());
}

#[test]
fn a_foreign_file_inside_is_named_after_a_failure_that_it_explains() {
    let Some(o) = Other::new() else { return };
    o.file("mine", (USER, USER), 0o644);
    let hint = "`shared` belongs to group 54400, not to 54321";
    // The caller may write it on the host, by its group; the overlay cannot copy it up.
    o.file("shared", (USER, SHARED), 0o664);
    let ran = o.run(&["exec", "--", "sh", "-c", "cat shared; echo x >> shared"]);
    assert!(
        ran.stdout == "shared\n" && ran.stderr.contains("Value too large for defined data type"),
        "{ran:#?}"
    );
    assert!(ran.code != Some(0) && ran.stderr.contains(hint) && ran.stderr.contains("--rw"), "{ran:#?}");
    let ran = o.run(&["exec", "--json", "--", "sh", "-c", "echo x >> shared"]);
    assert!(ran.stdout.contains(hint), "{ran:#?}");
    // A command that goes on after it and ends well tells nobody else, on a terminal neither.
    for script in ["echo x >> shared; true", "{ echo x >> shared; } 2>&1; true"] {
        let ran = o.run(&["exec", "--", "sh", "-c", script]);
        assert!(ran.code == Some(0) && ran.stderr.contains(hint), "{ran:#?}");
    }
    // Not after success without it, nor after a failure of another kind.
    for script in ["cat shared", "echo wrong; exit 3", "echo Permission denied EOVERFLOW >&2"] {
        let ran = o.run(&["exec", "--", "sh", "-c", script]);
        assert!(!ran.stderr.contains("belongs to"), "{ran:#?}");
    }
    let ran = o.run(&["exec", "--rw", "--", "sh", "-c", "echo x >> shared; cat shared"]);
    assert_eq!(ran.stdout, "shared\nx\n", "the way that was named: {ran:#?}");
    // Removing and replacing it works without a copy.
    let ran = o.run(&["exec", "--", "sh", "-c", "rm shared && echo mine now > shared && cat shared"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "mine now\n"), "{ran:#?}");
}

#[test]
fn leftovers_of_sudo_are_named_too() {
    let Some(o) = Other::new() else { return };
    o.file("deep/build/root", (0, 0), 0o644);
    for d in ["deep", "deep/build"] {
        chown(o.p.dir().join(d), Some(USER), Some(USER)).unwrap();
    }
    let ran = o.run(&["exec", "--", "sh", "-c", "echo x >> deep/build/root"]);
    assert!(ran.code != Some(0) && ran.stderr.contains("Permission denied"), "{ran:#?}");
    assert!(ran.stderr.contains("`deep/build/root` belongs to user 0, not to 54321"), "{ran:#?}");
    assert!(ran.stderr.contains("chown"), "{ran:#?}");
}

#[test]
fn root_in_a_directory_of_a_user_is_that_user_inside() {
    if !is_root() {
        return skip("this test is about root");
    }
    let p = Project::new();
    p.write("theirs", "theirs\n");
    p.write("sub/left", "left\n");
    for name in ["theirs", "sub", "."] {
        chown(p.dir().join(name), Some(USER), Some(SHARED)).unwrap();
    }
    let ran = p.aj(["exec", "--", "sh", "-c", "stat -c %U:%G . theirs sub; stat -c %u:%g sub/left; echo x >> theirs; echo y > sub/new; cat theirs sub/new"]);
    assert_eq!(ran.stdout, "agent:agent\nagent:agent\nagent:agent\n65534:65534\ntheirs\nx\ny\n", "{ran:#?}");
    // What root left there belongs to nobody inside.
    let ran = p.aj(["exec", "--", "sh", "-c", "echo x >> sub/left"]);
    assert!(ran.stderr.contains("`sub/left` belongs to user 0, not to 54321"), "{ran:#?}");
    assert!(!ran.stderr.contains("--rw"), "a bind would not help root: {ran:#?}");
    // Written for real, it belongs to whom the directory belongs to.
    let ran = p.aj([
        "exec",
        "--rw",
        "--",
        "sh",
        "-c",
        "echo x > sub/real; chmod 751 sub/real; stat -c %U sub/real",
    ]);
    assert_eq!(ran.stdout, "agent\n", "{ran:#?}");
    assert_eq!(p.outside("stat -c %u:%g:%a sub/real"), format!("{USER}:{SHARED}:751\n"));
}
