//! `aj doctor` on this machine, and on this machine made worse: in user namespaces whose limits are 0, in
//! a sandbox that masks `/proc`, in a chroot. What `aj exec` says there must be what `aj doctor` says.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentjail::host::report;
use agentjail::schema::doctor::{Check, Document, Status};

use crate::common::{Ran, aj, older_than};

/// A state directory and a directory to work in, both of this user alone.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        Place { dir }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.dir.path().join("work"))
            .env("AJ_STATE_DIR", self.state())
            .env("AJ_CONFIG_DIR", self.dir.path().join("config"))
            .env("HOME", "/nonexistent");
    }

    fn run(&self, before: &[&str], words: &[&str]) -> Ran {
        let aj = aj();
        let line: Vec<&str> =
            before.iter().copied().chain([aj.to_str().unwrap()]).chain(words.iter().copied()).collect();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).stdin(Stdio::null());
        self.prepare(&mut command);
        command.output().unwrap().into()
    }
}

fn document(ran: &Ran) -> Document {
    assert_eq!(ran.stderr, "", "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

fn row<'a>(document: &'a Document, id: &str) -> &'a Check {
    document.checks.iter().find(|c| c.id == id).unwrap()
}

fn hints(ran: &Ran) -> Vec<String> {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    let error: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    serde_json::from_value(error["error"]["hints"].clone()).unwrap()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("SKIP: there is no `{program}`");
    }
    found
}

#[test]
fn what_it_says_of_this_machine_is_so() {
    let place = Place::new();
    let started = Instant::now();
    let ran = place.run(&[], &["doctor", "--json"]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let told = document(&ran);
    let ids: Vec<&str> = told.checks.iter().map(|c| c.id.as_str()).collect();
    let all = report::checks(&Default::default());
    assert_eq!(ids, all.iter().map(|c| c.id.as_str()).collect::<Vec<_>>());
    let failed = told.checks.iter().any(|c| c.required && c.status == Status::Fail);
    let full = told.mode.as_deref() == Some("full");
    assert_eq!((ran.code, full), (Some(if failed { 69 } else { 0 }), !failed), "{ran:?}");
    // The proof of the verdict.
    let exec = place.run(&[], &["exec", "--", "true"]);
    assert_eq!(exec.code == Some(0), told.mode.as_deref() == Some("full"), "{exec:?}\n{told:?}");
    // Every row that is not fine says what it means.
    for c in &told.checks {
        assert!(!c.evidence.is_empty(), "{c:?}");
        let bad = matches!(c.status, Status::Warn | Status::Fail);
        assert!(!bad || c.effect.is_some(), "{c:?}");
    }
}

#[test]
fn it_leaves_nothing_behind() {
    let place = Place::new();
    assert!(matches!(place.run(&[], &["doctor"]).code, Some(0 | 69)));
    let names = |dir: &Path| -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .map(|d| d.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    assert_eq!(names(&place.dir.path().join("work")), [""; 0]);
    // A spool without a record, and what every run would make anyway.
    assert_eq!(names(&place.state()), ["cache", "spool", "trees", "version"]);
    assert_eq!(std::fs::read(place.state().join("spool")).unwrap(), b"");
    assert_eq!(names(&place.state().join("trees")), [""; 0]);
    let cache = names(&place.state().join("cache"));
    assert!(cache.len() == 2 && cache[0] == "doctor" && cache[1].starts_with("etc-"), "{cache:?}");
    assert_eq!(place.run(&[], &["jail", "list"]).stdout, "");
    assert_eq!(names(place.dir.path()), ["state", "work"]);
}

#[test]
fn a_person_reads_one_line_for_each_check_and_a_verdict() {
    let place = Place::new();
    let ran = place.run(&[], &["doctor"]);
    assert_eq!(ran.stderr, "");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let rows = report::checks(&Default::default());
    for (line, check) in lines.iter().zip(&rows) {
        let cells: Vec<&str> = line.split('\t').collect();
        assert!(["ok", "warn", "fail", "skip"].contains(&cells[0]), "{line}");
        assert_eq!((cells[1], cells.len()), (check.id.as_str(), 3), "{line}");
    }
    assert_eq!(lines[rows.len()], "");
    let verdict = *lines.last().unwrap();
    assert!(
        (ran.code == Some(0) && verdict == "full mode works here")
            || (ran.code == Some(69) && verdict.starts_with("full mode is impossible here: ")),
        "{ran:?}"
    );
}

/// Run `aj` in a new user namespace with our ids (all of them for root) where `limit` is 0. `None` when
/// this machine cannot do that.
fn without_namespaces(place: &Place, limit: &str, words: &[&str]) -> Option<Ran> {
    if !have("unshare") {
        return None;
    }
    let ready = place.dir.path().join("ready");
    let script = format!(": >\"$0\"; read go && echo 0 >/proc/sys/user/{limit} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--user", "--keep-caps", "sh", "-c", &script]).arg(&ready).arg(aj()).args(words);
    place.prepare(&mut command);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    // An execve while the map is being written may lose the capabilities.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !ready.exists() && Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::remove_file(&ready).ok();
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let map = |id: u32| if is_root() { "0 0 4294967295".to_owned() } else { format!("{id} {id} 1") };
    // Only an ordinary user has to give up setgroups for it.
    let denied = if is_root() { Ok(()) } else { std::fs::write(proc.join("setgroups"), "deny") };
    let mapped = denied
        .and_then(|()| std::fs::write(proc.join("uid_map"), map(uid.as_raw())))
        .and_then(|()| std::fs::write(proc.join("gid_map"), map(gid.as_raw())));
    if let Err(e) = mapped {
        println!("SKIP: a user namespace could not be prepared: {e}");
        child.kill().unwrap();
        child.wait().unwrap();
        return None;
    }
    // A child that has ended shows in its output.
    child.stdin.take().unwrap().write_all(b"go\n").ok();
    Some(child.wait_with_output().unwrap().into())
}

/// In a place made worse by `run`, both commands name `fix` for the check `id`.
fn both_say(id: &str, evidence: &str, fix: &str, run: impl Fn(&[&str]) -> Option<Ran>) {
    let Some(ran) = run(&["doctor", "--json"]) else { return };
    assert_eq!(ran.code, Some(69), "{ran:?}");
    let told = document(&ran);
    assert_ne!(told.mode.as_deref(), Some("full"));
    let bad = row(&told, id);
    assert_eq!(bad.status, Status::Fail, "{bad:?}");
    assert!(bad.evidence.contains(evidence), "{bad:?}");
    assert!(bad.fix.iter().any(|f| f.contains(fix)), "{bad:?}");
    let Some(exec) = run(&["--json", "exec", "--", "true"]) else { return };
    let hints = hints(&exec);
    for fix in &bad.fix {
        assert!(hints.contains(fix), "`aj exec` does not say {fix:?}: {hints:?}");
    }
    assert!(hints.last().is_some_and(|h| h.contains("aj doctor")), "{hints:?}");
}

#[test]
fn no_user_namespaces_allowed() {
    let place = Place::new();
    both_say(
        "userns",
        "clone3 `new namespaces`: ENOSPC",
        "sysctl -w user.max_user_namespaces=15000",
        |words| without_namespaces(&place, "max_user_namespaces", words),
    );
    let Some(ran) = without_namespaces(&place, "max_user_namespaces", &["doctor", "--json"]) else { return };
    let told = document(&ran);
    assert_eq!(row(&told, "max_user_namespaces").status, Status::Fail);
    assert!(row(&told, "userns").fix.starts_with(&row(&told, "max_user_namespaces").fix));
    assert_eq!(row(&told, "mounts").status, Status::Skip);
}

#[test]
fn no_network_namespaces_allowed() {
    let place = Place::new();
    const FIX: &str = "sysctl -w user.max_net_namespaces=15000";
    let run = |words: &[&str]| without_namespaces(&place, "max_net_namespaces", words);
    if is_root() {
        // A jail of root fails earlier: root of a user namespace may not make id-mapped mounts.
        let Some(ran) = run(&["doctor", "--json"]) else { return };
        let told = document(&ran);
        let namespaces = row(&told, "namespaces");
        assert_eq!((ran.code, namespaces.evidence.as_str()), (Some(69), "unshare `net`: ENOSPC"));
        assert!(namespaces.fix.concat().contains(FIX), "{namespaces:?}");
        assert_eq!(row(&told, "mounts").status, Status::Ok);
        return;
    }
    both_say("namespaces", "unshare `net`: ENOSPC", FIX, run);
    // What the report says of the network is true: without a namespace for it a jail starts.
    let Some(exec) = run(&["exec", "--net", "host", "--", "true"]) else { return };
    assert_eq!(exec.code, Some(0), "{exec:?}");
}

#[test]
fn a_sandbox_that_masks_proc_or_has_one_id_only() {
    let Some(masked) =
        ["/proc/keys", "/proc/timer_list", "/proc/version"].into_iter().find(|p| Path::new(p).exists())
    else {
        return;
    };
    let before = ["--dev-bind", "/", "/", "--unshare-user", "--unshare-pid", "--proc", "/proc"];
    let line: Vec<&str> =
        ["bwrap"].into_iter().chain(before).chain(["--ro-bind", "/dev/null", masked]).collect();
    if !have("bwrap") {
        return;
    }
    let works = Command::new("bwrap").args(&line[1..]).arg("true").output().unwrap();
    if !works.status.success() {
        println!("SKIP: bwrap cannot do it here: {}", String::from_utf8_lossy(&works.stderr));
        return;
    }
    let place = Place::new();
    let run = |words: &[&str]| Some(place.run(&line, words));
    if is_root() {
        // Root of one id: the range of a jail of root is not there.
        let told = document(&run(&["doctor", "--json"]).unwrap());
        assert_eq!(told.mode, None);
        let userns = row(&told, "userns");
        assert!(userns.evidence.starts_with("write uid_map"), "{userns:?}");
        assert!(userns.fix.concat().contains("run aj as an ordinary user"), "{userns:?}");
        let hints = hints(&run(&["--json", "exec", "--", "true"]).unwrap());
        assert!(hints.contains(&userns.fix[0]), "{hints:?}");
    } else {
        both_say("proc", "fsmount `proc`: EPERM", "proc", run);
    }
}

#[test]
fn a_sandbox_without_user_namespaces() {
    if !have("bwrap") {
        return;
    }
    let line = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--disable-userns"];
    let works = Command::new("bwrap").args(&line[1..]).arg("true").output().unwrap();
    if !works.status.success() {
        println!("SKIP: bwrap cannot do it here: {}", String::from_utf8_lossy(&works.stderr));
        return;
    }
    let place = Place::new();
    let told = document(&place.run(&line, &["doctor", "--json"]));
    assert_ne!(told.mode.as_deref(), Some("full"));
    let userns = row(&told, "userns");
    assert!(userns.evidence.contains("ENOSPC"), "{userns:?}");
    assert!(userns.fix.iter().any(|f| f.contains("outside the sandbox")), "{userns:?}");
    // The limit that holds is not the one that can be set in there.
    assert!(!userns.fix.concat().contains("sysctl"), "{userns:?}");
}

#[test]
fn a_chroot() {
    if !is_root() {
        println!("SKIP: only root can make a chroot");
        return;
    }
    let place = Place::new();
    let root = place.dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let script = "mount --rbind / \"$0\" && cd \"$0$PWD\" && exec chroot \"$0\" sh -c 'cd \"$0\" && exec \"$@\"' \"$PWD\" \"$@\"";
    let script = script.replace("\"$PWD\" \"$@\"", "\"$AJ_STATE_DIR/../work\" \"$@\"");
    let line = ["unshare", "--mount", "sh", "-c", &script, root.to_str().unwrap()];
    both_say("userns", "clone3 `new namespaces`: EPERM", "if this is a chroot", |words| {
        Some(place.run(&line, words))
    });
}

#[test]
fn a_state_directory_on_overlayfs() {
    if !is_root() {
        println!("SKIP: only root can mount one");
        return;
    }
    if older_than(6, 6) {
        println!(
            "SKIP: the tmpfs below it has no user attributes before Linux 6.6, and takes no copy either"
        );
        return;
    }
    let place = Place::new();
    let at = place.dir.path().join("mount");
    std::fs::create_dir(&at).unwrap();
    let script = "cd \"$0\" && mount -t tmpfs none . && cd \"$0\" && mkdir l u w m && \
                  mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m && cd ../work && \
                  export AJ_STATE_DIR=\"$0/m/state\" && exec \"$@\"";
    let line = ["unshare", "--mount", "sh", "-c", script, at.to_str().unwrap()];
    let told = place.run(&line, &["doctor", "--json"]);
    let told = document(&told);
    assert_eq!(told.mode.as_deref(), Some("full"), "what changes is held in memory");
    let overlay = row(&told, "overlay");
    assert_eq!(overlay.status, Status::Warn, "{overlay:?}");
    assert!(overlay.evidence.contains("EINVAL (state on overlay)"), "{overlay:?}");
    assert!(overlay.fix.concat().contains("set AJ_STATE_DIR"), "{overlay:?}");
    let ran = place.run(&line, &["exec", "--", "true"]);
    assert!(ran.code == Some(0) && ran.stderr.contains("storage memory: "), "{ran:?}");
}

#[test]
fn a_state_directory_that_others_may_enter() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    std::fs::create_dir(place.state()).unwrap();
    std::fs::set_permissions(place.state(), PermissionsExt::from_mode(0o755)).unwrap();
    let ran = place.run(&[], &["doctor", "--json"]);
    assert_eq!(ran.code, Some(69), "{ran:?}");
    let told = document(&ran);
    let state = row(&told, "state");
    assert_eq!(state.status, Status::Fail);
    assert_eq!(
        state.fix,
        [format!("if nobody else has put anything in, close it: `chmod 700 '{}'`", place.state().display())]
    );
    assert_eq!(hints(&place.run(&[], &["--json", "exec", "--", "true"])), state.fix);
}

/// What both commands say about the state directory as it is now.
#[track_caller]
fn state_is_bad(place: &Place, evidence: &str, fix: &str) {
    let told = document(&place.run(&[], &["doctor", "--json"]));
    let state = row(&told, "state");
    assert_eq!((state.status, told.mode.as_deref()), (Status::Fail, None), "{state:?}");
    assert!(state.evidence.contains(evidence) && state.fix.concat().contains(fix), "{state:?}");
    let exec = hints(&place.run(&[], &["--json", "exec", "--", "true"])).concat();
    assert!(exec.contains(fix), "{exec}");
}

#[test]
fn a_state_directory_that_fails_a_run_fails_here_with_the_same_fix() {
    let place = Place::new();
    if place.run(&[], &["exec", "--", "true"]).code != Some(0) {
        return println!("SKIP: no jail can be started on this machine");
    }
    let at = |name: &str| place.state().join(name);
    std::fs::rename(at("cache"), at("cache.aside")).unwrap();
    std::fs::write(at("cache"), "").unwrap();
    state_is_bad(&place, "/cache`: Not a directory (ENOTDIR)", &format!("`rm '{}'`", at("cache").display()));
    std::fs::remove_file(at("cache")).unwrap();
    std::fs::rename(at("trees"), at("trees.aside")).unwrap();
    std::fs::write(at("trees"), "").unwrap();
    let away = format!("`mv '{0}' '{0}.bad'`", at("trees").display());
    state_is_bad(&place, "/trees`: Not a directory (ENOTDIR)", &away);
    std::fs::remove_file(at("trees")).unwrap();
    std::fs::write(at("version"), "abc").unwrap();
    let away = format!("`mv '{0}' '{0}.bad'`", at("version").display());
    state_is_bad(&place, "holds `abc`", &away);
    let list = place.run(&[], &["jail", "list"]);
    assert!(list.code == Some(1) && list.stderr.contains(&away), "{list:?}");
    // The fix is one.
    std::fs::rename(at("version"), at("version.bad")).unwrap();
    assert_eq!(place.run(&[], &["exec", "--", "true"]).code, Some(0));
    if is_root() {
        return println!("SKIP: root appends whatever the mode of a file");
    }
    std::fs::set_permissions(at("spool"), std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let mode = format!("`chmod u+rwX '{}'`", at("spool").display());
    state_is_bad(&place, "/spool`: Permission denied (EACCES)", &mode);
}

#[test]
fn what_a_run_sets_aside_is_no_failure() {
    let place = Place::new();
    if place.run(&[], &["exec", "--", "true"]).code != Some(0) {
        return println!("SKIP: no jail can be started on this machine");
    }
    let spool = place.state().join("spool");
    std::fs::remove_file(&spool).unwrap();
    std::fs::create_dir(&spool).unwrap();
    let told = document(&place.run(&[], &["doctor", "--json"]));
    let state = row(&told, "state");
    assert_eq!(told.mode.as_deref(), Some("full"), "{told:?}");
    assert!(state.evidence.ends_with("; the spool is a directory; the next run sets it aside"), "{state:?}");
    let exec = place.run(&[], &["exec", "--", "true"]);
    assert!(
        exec.code == Some(0) && exec.stderr.contains("/spool` was a directory; set aside as `"),
        "{exec:?}"
    );
}

#[test]
fn limits_of_the_shell_are_told_in_words() {
    let place = Place::new();
    for (limit, words, fix) in [
        ("-f 0", "File too large (EFBIG)", "`ulimit -f unlimited`"),
        ("-s 64", "was killed by SIG", "`ulimit -s 8192`"),
    ] {
        let script = format!("ulimit {limit} && exec \"$0\" doctor --json");
        let ran = place.run(&["sh", "-c", &script], &[]);
        let Ok(told) = serde_json::from_str::<Document>(&ran.stdout) else {
            // So little that not even a report is possible.
            println!("SKIP: `ulimit {limit}` ends aj itself: {ran:?}");
            continue;
        };
        for bad in told.checks.iter().filter(|c| c.status == Status::Fail) {
            assert!(bad.evidence.contains(words), "{bad:?}");
            assert_eq!(bad.fix.len(), 1, "{bad:?}");
            assert!(bad.fix[0].contains(fix), "{bad:?}");
        }
    }
}
