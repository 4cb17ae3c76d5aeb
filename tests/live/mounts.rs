//! What is mounted in a workspace beside its tree is what `aj fs`, `aj cp` and `aj search` show, as commands in it
//! see it, whether its jail runs or not.

use std::io::Write;
use std::path::Path;

use super::Shared;
use super::files::{does, fails};
use crate::yard::said;

/// A workspace with a directory and a file of the host's in its tree, a directory elsewhere that it may write, and
/// two volumes, one of them read-only.
fn mounted() -> Option<(Shared, tempfile::TempDir)> {
    let shared = Shared::new(&[])?;
    let more = tempfile::tempdir().unwrap();
    let ws = shared.yard.ws.clone();
    std::fs::create_dir_all(ws.join("lib/deep")).unwrap();
    std::fs::create_dir(ws.join("conf")).unwrap();
    std::fs::write(ws.join("lib/deep/one"), "of the host\n").unwrap();
    std::fs::write(ws.join("conf/file"), "also\n").unwrap();
    // What the tree has in those places: nobody sees it when something is mounted there.
    shared.sh("echo beneath > lib/deep/one; echo beneath > lib/two; echo beneath > conf/file; echo own > f");
    assert!(shared.ends(std::time::Duration::from_secs(20)));
    for volume in ["data", "fixed"] {
        does(&shared, &["volume", "create", volume], b"");
    }
    does(&shared, &["fs", "write", "vol:fixed", "old"], b"kept\n");
    let [lib, file, rw] =
        [&ws.join("lib"), &ws.join("conf/file"), more.path()].map(|p| p.to_str().unwrap().to_owned());
    // Settings are those of `create`; here the tree was to be written to before they hold.
    let all = shared.yard.state().join("workspaces");
    let record = std::fs::read_dir(all)
        .unwrap()
        .flatten()
        .map(|e| e.path().join("workspace.toml"))
        .find(|p| p.exists());
    let mut record = std::fs::OpenOptions::new().append(true).open(record.unwrap()).unwrap();
    writeln!(record, "\n[policy]\nro = [{lib:?}, {file:?}]\nrw = [{rw:?}]").unwrap();
    for volume in ["data", "fixed:/srv/fixed:ro"] {
        does(&shared, &["volume", "attach", "api", volume], b"");
    }
    Some((shared, more))
}

/// The same questions, and the answers that commands inside would give.
fn sees(shared: &Shared, more: &Path) {
    let out = |words: &[&str]| does(shared, words, b"").out;
    assert_eq!(
        out(&["fs", "list", "api", "-R", "--all"])
            .lines()
            .filter(|l| !l.contains("life"))
            .collect::<Vec<_>>(),
        ["conf/", "conf/file", "f", "lib/", "lib/deep/", "lib/deep/one"]
    );
    assert_eq!(out(&["fs", "cat", "api", "lib/deep/one"]), "of the host\n");
    assert_eq!(out(&["fs", "cat", "api", "/workspace/conf/file"]), "also\n");
    assert_eq!(out(&["fs", "cat", "api", "/srv/fixed/old"]), "kept\n");
    assert_eq!(
        out(&["search", "api", "beneath|of the host|also"]),
        "conf/file:1:also\nlib/deep/one:1:of the host\n"
    );
    assert_eq!(out(&["search", "api", "kept", "/srv/fixed"]), "/srv/fixed/old:1:kept\n");
    let stat: serde_json::Value =
        serde_json::from_str(&out(&["fs", "stat", "api", "lib/deep/one", "--json"])).unwrap();
    assert_eq!((&stat["size"], &stat["uid"]), (&12.into(), &1000.into()), "{stat:#}");
    let copy = shared.yard.path("copy");
    std::fs::remove_dir_all(&copy).ok();
    does(shared, &["cp", "-r", "api:.", copy.to_str().unwrap()], b"");
    assert_eq!(std::fs::read_to_string(copy.join("lib/deep/one")).unwrap(), "of the host\n");
    assert_eq!(std::fs::read_to_string(copy.join("conf/file")).unwrap(), "also\n");
    assert!(!copy.join("lib/two").exists());
    let tar = said(&mut shared.yard.sh("\"$AJ\" cp -r api:. - 2>/dev/null | tar -xO conf/file lib/deep/one"));
    assert_eq!(tar.out, "also\nof the host\n", "{tar:#?}");
    // What nobody may change stays as it is.
    for path in ["lib/deep/one", "lib/new", "lib/x/y", "conf/file", "/srv/fixed/new"] {
        fails(shared, &["fs", "write", "api", path], 4, "is mounted read-only in the workspace (EROFS)");
    }
    fails(shared, &["fs", "rm", "api", "lib/deep/one"], 4, "EROFS");
    fails(shared, &["fs", "mkdir", "api", "/srv/fixed/d"], 4, "EROFS");
    fails(shared, &["fs", "rm", "api", "-r", "conf"], 5, "EBUSY");
    fails(shared, &["fs", "mv", "api", "conf", "other"], 5, "EBUSY");
    fails(shared, &["fs", "rm", "api", "-r", "lib"], 2, "is the top of what is shown there");
    let from = shared.yard.path("from");
    std::fs::create_dir_all(from.join("lib")).unwrap();
    std::fs::write(from.join("lib/sly"), "x").unwrap();
    let sly = said(&mut shared.aj(&["cp", "-r", &format!("{}/.", from.display()), "api:."]));
    assert!(
        matches!(sly.fate, 1 | 6) && sly.err.contains("another file system is mounted there"),
        "{sly:#?}"
    );
    assert_eq!(std::fs::read_dir(more).unwrap().count(), 0);
}

#[test]
fn what_is_mounted_is_what_is_shown_whether_a_jail_runs_or_not() {
    let Some((shared, more)) = mounted() else { return };
    sees(&shared, more.path());
    does(&shared, &["fs", "write", "api", "/volumes/data/a/b"], b"one\n");
    fails(&shared, &["fs", "write", "api", more.path().join("x").to_str().unwrap()], 4, "is the host's own");
    assert_eq!(shared.ws("start", &[]).fate, 0);
    sees(&shared, more.path());
    does(&shared, &["fs", "write", "api", "/volumes/data/a/b", "--append"], b"two\n");
    does(&shared, &["cp", "-", "api:/volumes/data/c"], b"three\n");
    assert_eq!(
        shared.sh("cat /volumes/data/a/b /volumes/data/c; stat -c %U /volumes/data/a/b"),
        "one\ntwo\nthree\nagent\n"
    );
    shared.sh("rm -r /volumes/data/a; echo inside > /volumes/data/d");
    assert_eq!(does(&shared, &["fs", "list", "api", "/volumes/data"], b"").out, "c\nd\n");
    assert_eq!(does(&shared, &["fs", "cat", "vol:data", "d"], b"").out, "inside\n");
    let x = more.path().join("x");
    does(&shared, &["fs", "write", "api", x.to_str().unwrap()], b"by the jail\n");
    assert_eq!(std::fs::read_to_string(&x).unwrap(), "by the jail\n");
    std::fs::remove_file(x).unwrap();
    assert_eq!(shared.ws("stop", &[]).fate, 0);
    // What was beneath is there again without the mounts, and untouched.
    assert_eq!(does(&shared, &["fs", "cat", "api", "/volumes/data/c"], b"").out, "three\n");
    assert_eq!(std::fs::read_to_string(shared.yard.ws.join("lib/deep/one")).unwrap(), "of the host\n");
}

#[test]
fn a_volume_that_another_jail_has_is_changed_by_nobody_from_outside() {
    let Some((shared, _more)) = mounted() else { return };
    does(&shared, &["workspace", "create", "other", "--vol", "data"], b"");
    does(&shared, &["workspace", "start", "other"], b"");
    fails(
        &shared,
        &["fs", "write", "api", "/volumes/data/x"],
        5,
        "`vol:data` is in use: a jail that runs has it",
    );
    // The tree itself is not, and nobody has to wait.
    does(&shared, &["fs", "write", "api", "y"], b"y");
    does(&shared, &["workspace", "stop", "other"], b"");
    does(&shared, &["fs", "write", "api", "/volumes/data/x"], b"x");
}

#[test]
fn what_a_jail_plants_in_a_volume_leads_nowhere_outside() {
    let Some((shared, _more)) = mounted() else { return };
    let secret = shared.yard.path("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    shared.sh(&format!(
        "cd /volumes/data; ln -s {0} abs; ln -s / root; ln -s /proc/self/root{0} magic; mkfifo fifo; \
         ln -s ../../../../../../../..{0} rel; mkdir d; ln -s /workspace/f in; mknod null c 1 3 2>/dev/null; true",
        secret.display()
    ));
    for live in [false, true] {
        if live {
            assert_eq!(shared.ws("start", &[]).fate, 0);
        } else {
            assert!(shared.ends(std::time::Duration::from_secs(20)));
        }
        for path in ["abs", "root/etc/passwd", "magic", "rel"] {
            let path = format!("/volumes/data/{path}");
            fails(&shared, &["fs", "cat", "api", &path], 4, "leads out of the workspace");
            fails(&shared, &["fs", "write", "api", &path], 4, "leads out of the workspace");
        }
        fails(&shared, &["fs", "cat", "api", "/volumes/data/fifo"], 1, "is a fifo");
        fails(&shared, &["fs", "write", "api", "/volumes/data/fifo"], 1, "is a fifo");
        // One that stays in what the workspace shows is followed, as inside.
        assert_eq!(does(&shared, &["fs", "cat", "api", "/volumes/data/in"], b"").out, "own\n");
        let found = said(&mut shared.aj(&["search", "api", "hunter2|root:", "/volumes/data", "--hidden"]));
        assert_eq!((found.fate, found.out.as_str()), (1, ""), "{found:#?}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "hunter2\n");
}

#[test]
fn what_a_jail_puts_in_the_way_of_a_volume_can_be_removed_as_the_hint_says() {
    let Some((shared, _more)) = mounted() else { return };
    assert!(shared.ends(std::time::Duration::from_secs(20)));
    does(&shared, &["volume", "create", "deep"], b"");
    does(&shared, &["volume", "attach", "api", "deep:/home/agent/a/b"], b"");
    let elsewhere = shared.yard.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    shared.sh(&format!("mv ~/a ~/c && ln -s {} ~/a", elsewhere.display()));
    assert!(shared.ends(std::time::Duration::from_secs(20)));
    let ran = said(&mut shared.aj(&["exec", "api", "--", "true"]));
    assert_eq!(ran.fate, 125, "{ran:#?}");
    assert!(ran.err.contains("`aj fs rm api /home/agent/a`"), "{ran:#?}");
    does(&shared, &["fs", "rm", "api", "/home/agent/a"], b"");
    shared.sh("ls ~/a/b");
    assert!(shared.ends(std::time::Duration::from_secs(20)));
    // A directory on the way is no such thing.
    fails(&shared, &["fs", "rm", "-r", "api", "/home/agent/a"], 5, "mounted");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing is made through the link");
}

#[test]
fn a_link_in_the_very_place_of_a_volume_goes_as_the_hint_says() {
    let Some((shared, _more)) = mounted() else { return };
    shared.sh("ln -s /etc ~/vv");
    assert!(shared.ends(std::time::Duration::from_secs(20)));
    does(&shared, &["volume", "create", "vv"], b"");
    does(&shared, &["volume", "attach", "api", "vv:/home/agent/vv"], b"");
    let ran = said(&mut shared.aj(&["exec", "api", "--", "true"]));
    assert_eq!(ran.fate, 125, "{ran:#?}");
    let said: Vec<&str> = ran.err.split('`').filter_map(|word| word.strip_prefix("aj ")).collect();
    let sequence =
        ["volume detach api vv", "fs rm api /home/agent/vv", "volume attach api vv:/home/agent/vv"];
    assert_eq!(said, sequence, "{ran:#?}");
    for line in sequence {
        does(&shared, &line.split(' ').collect::<Vec<_>>(), b"");
    }
    shared.sh("touch ~/vv/there");
    assert!(shared.ends(std::time::Duration::from_secs(20)));
}
