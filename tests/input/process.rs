//! What a process is started with: variables, descriptors, umask, limits, namespaces.

use std::process::{Command, Stdio};

use super::{assert_nothing_left, assert_refused, in_mount_namespace};
use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root, skip};

/// A bash script outside, with `aj` as `$AJ`.
fn bash(p: &Project, script: &str) -> Command {
    let mut command = p.command("bash");
    command.args(["-c", script]).env("AJ", aj());
    command
}

fn run(p: &Project, script: &str) -> Ran {
    Ran::from(bash(p, script).output().unwrap())
}

#[test]
fn an_empty_environment_is_enough() {
    let p = Project::new();
    let mut command = Command::new(aj());
    command.env_clear().env("AJ_STATE_DIR", p.state()).current_dir(p.dir()).args(["exec", "--", "env"]);
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    for line in ["HOME=/home/agent", "USER=agent", "PATH=/usr/local/bin:/usr/bin:/bin", "TMPDIR=/tmp"] {
        assert!(ran.stdout.lines().any(|l| l == line), "{line} in {ran:#?}");
    }
    assert!(!ran.stdout.contains("AJ_STATE_DIR"), "{ran:#?}");
    // Without a home and a state directory there is no place for records.
    let mut command = Command::new(aj());
    let ran =
        Ran::from(command.env_clear().current_dir(p.dir()).args(["exec", "--", "true"]).output().unwrap());
    assert_refused(&ran, &["no state directory", "AJ_STATE_DIR"]);
    let mut command = Command::new(aj());
    command.env_clear().env("AJ_STATE_DIR", "relative").current_dir(p.dir()).args(["exec", "--", "true"]);
    assert_refused(&Ran::from(command.output().unwrap()), &["AJ_STATE_DIR", "`relative`", "absolute"]);
}

#[test]
fn the_language_of_the_caller_changes_nothing_of_ours() {
    let p = Project::new();
    for language in ["C", "POSIX", "de_DE.UTF-8", "no-such-language", ""] {
        let script = "unset TZ; \"$AJ\" exec -- sh -c 'date +%Z >/dev/null && printf \"%s\\n\" \"$LC_ALL\"'";
        let ran = Ran::from(bash(&p, script).env("LC_ALL", language).output().unwrap());
        assert_eq!(ran.stdout, format!("{language}\n"), "{ran:#?}");
        let mut command = p.command(aj());
        let ran =
            Ran::from(command.args(["exec", "--", "no-such"]).env("LC_ALL", language).output().unwrap());
        assert!(
            ran.stderr.starts_with("aj: error: `no-such` was not found in the jail's PATH (ENOENT)\n"),
            "{ran:#?}"
        );
    }
}

#[test]
fn closed_standard_descriptors_are_no_accident() {
    let p = Project::new();
    assert_eq!(run(&p, "\"$AJ\" exec -- cat <&-").code, Some(0));
    // The command has all three, and they are the jail's own.
    let ran = run(
        &p,
        "\"$AJ\" exec -- sh -c 'ls -l /proc/self/fd > fds; [ $(grep -c \" [012] -> \" fds) = 3 ]' <&- >&- 2>&-",
    );
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ran = run(&p, "\"$AJ\" exec -- sh -c 'echo out; echo err >&2' >&-");
    assert!(ran.stderr.contains("err\n"), "{ran:#?}");
    let mut command = p.command(aj());
    command.args(["exec", "--", "sh", "-c", "cat; echo end"]).stdin(Stdio::piped());
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"end\n");
}

#[test]
fn any_umask_is_the_commands_and_nobody_elses() {
    let p = Project::new();
    for (mask, file) in
        [("0777", "----------"), ("0077", "-rw-------"), ("0000", "-rw-rw-rw-"), ("0022", "-rw-r--r--")]
    {
        // The state directory is made under that umask as well.
        let script = format!(
            "umask {mask}; export AJ_STATE_DIR=$AJ_STATE_DIR/{mask}; exec \"$AJ\" exec -- sh -c '\
             umask; touch new; stat -c %A new; stat -c %a / /tmp /var/tmp /dev/shm ~ | tr \"\\n\" \" \"; echo; \
             cat /etc/passwd /etc/ssl/openssl.cnf >/dev/null; touch /tmp/x /var/tmp/x ~/x /dev/shm/x; whoami; cat < /dev/null > /dev/full'"
        );
        let ran = run(&p, &script);
        assert_eq!(ran.stdout, format!("{mask}\n{file}\n755 1777 1777 1777 755 \nagent\n"), "{ran:#?}");
    }
    let modes = p.outside("find $AJ_STATE_DIR/*/ -not -path '*/cache/etc-*' -not -path '*/trees/*/*' -printf '%y%m\\n' | sort -u");
    for line in modes.lines() {
        assert!(line.ends_with("00"), "{modes}");
    }
}

#[test]
fn no_umask_shuts_the_state_for_those_who_come_later() {
    for mask in ["0777", "0177"] {
        let p = Project::new();
        let under = format!(
            "umask {mask}; \"$AJ\" -q workspace create w || exit 2; \"$AJ\" -q volume create v || exit 3; \
             \"$AJ\" -q job start w --name j -- sh -c 'umask; id -un' || exit 4; \"$AJ\" -q wait j || exit 5; \
             \"$AJ\" -q workspace create i --import . || exit 6; \"$AJ\" job logs j"
        );
        let ran = run(&p, &under);
        assert!(ran.code == Some(0) && ran.stdout.ends_with(&format!("\n{mask}\nagent\n")), "{ran:#?}");
        let later = "umask 022; \"$AJ\" exec w -- sh -c umask && \"$AJ\" -q job start w --name k -- true && \
                     \"$AJ\" -q wait k && \"$AJ\" -q volume create u && \"$AJ\" -q workspace create x && \
                     \"$AJ\" -q fork x -n 2 -- sh -c umask && \"$AJ\" exec i -- true && \"$AJ\" gc";
        let ran = run(&p, later);
        assert_eq!(ran.code, Some(0), "{mask}: {ran:#?}");
        assert_eq!(ran.stdout.matches("0022").count(), 3, "{ran:#?}");
        let modes = p.outside(
            "find $AJ_STATE_DIR -maxdepth 2 -type d -not -path '*/cache/*' -printf '%m\\n' | sort -u",
        );
        assert_eq!(modes, "700\n", "{mask}");
    }
}

#[test]
fn what_is_written_for_the_caller_has_the_callers_umask() {
    let p = Project::new();
    let ran = run(
        &p,
        "umask 002; \"$AJ\" -q exec -- sh -c 'umask 0; echo x > made; mkdir in; echo y > in/z' && \"$AJ\" -q apply && \
         \"$AJ\" -q workspace create w && \"$AJ\" exec w -- sh -c 'umask 0; echo x > ~/h' && \
         \"$AJ\" cp w:/home/agent/h out && mkdir pages && \"$AJ\" -q man pages && \
         stat -c %a made in in/z out pages/aj.1",
    );
    assert!(ran.code == Some(0) && ran.stdout.ends_with("\n666\n777\n666\n664\n664\n"), "{ran:#?}");
}

#[test]
fn tiny_limits_work_or_are_named() {
    let p = Project::new();
    // A soft limit is ours to raise; the command's comes from the policy.
    let ran = run(&p, "ulimit -Sn 12; exec \"$AJ\" exec -- sh -c 'ulimit -Sn; echo ok'");
    assert_eq!((ran.code, ran.stdout.lines().last()), (Some(0), Some("ok")), "{ran:#?}");
    for (limit, said) in
        [("-n 16", &["EMFILE", "ulimit -n"][..]), ("-n 5", &["EMFILE", "ulimit -n"]), ("-f 0", &["EFBIG"])]
    {
        let ran = run(&p, &format!("ulimit {limit}; exec \"$AJ\" exec -- true"));
        assert_refused(&ran, said);
        assert_nothing_left(&p, &ran);
    }
    // A debug build needs more than twice the stack of a release.
    for limit in ["-s 256", "-v 100000", "-l 0", "-i 0", "-q 0", "-c unlimited", "-t 5"] {
        let ran =
            run(&p, &format!("ulimit {limit} || exit 0; exec \"$AJ\" exec -- sh -c 'ulimit -c; echo ok'"));
        assert!(ran.stdout.is_empty() || ran.stdout == "0\nok\n", "{limit}: {ran:#?}");
        assert_eq!(ran.code, Some(0), "{limit}: {ran:#?}");
    }
    if is_root() {
        return skip("root has no limit of processes");
    }
    let ran = run(&p, "ulimit -u 1; exec \"$AJ\" exec -- true");
    assert_refused(&ran, &["EAGAIN", "ulimit -u"]);
    assert_nothing_left(&p, &ran);
}

#[test]
fn without_proc_the_way_out_is_to_mount_it() {
    let p = Project::new();
    let Some(mut command) = in_mount_namespace(&p, "umount -l /proc && exec \"$AJ\" exec -- true") else {
        return;
    };
    if !is_root() {
        return skip("an ordinary user cannot unmount /proc");
    }
    let ran = Ran::from(command.output().unwrap());
    assert_refused(&ran, &["/proc", "ENOENT", "mount -t proc"]);
    assert_nothing_left(&p, &ran);
}

#[test]
fn root_of_a_user_namespace_is_told_so() {
    let p = Project::new();
    let mut command = p.command("unshare");
    command.args(["--user", "--map-root-user"]).arg(aj()).args(["exec", "--", "id", "-u"]);
    let ran = Ran::from(command.output().unwrap());
    if ran.stderr.starts_with("unshare:") {
        return skip("user namespaces are not allowed here");
    }
    if ran.code == Some(0) {
        assert_eq!(ran.stdout, "1000\n");
    } else {
        assert_refused(&ran, &["EINVAL", "root of a container"]);
    }
    assert_nothing_left(&p, &ran);
    // With an id of its own it is an ordinary user.
    let mut command = p.command("unshare");
    command
        .args(["--user", "--map-user=4321", "--map-group=4321"])
        .arg(aj())
        .args(["exec", "--", "id", "-u"]);
    command.env("AJ_STATE_DIR", p.top().join("fresh"));
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.stdout, "1000\n", "{ran:#?}");
}

#[test]
fn a_jail_in_a_jail_is_told_so() {
    let p = Project::new();
    let bin = aj().parent().unwrap().to_str().unwrap().to_owned();
    for flags in [&[][..], &["--nested-userns"]] {
        let program = aj();
        let words =
            [&["exec"], flags, &["--ro", &bin, "--", program.to_str().unwrap(), "exec", "--", "true"]]
                .concat();
        let ran = p.aj(words);
        assert_eq!(ran.code, Some(125), "{ran:#?}");
        assert!(ran.stderr.contains("jails do not nest"), "{ran:#?}");
    }
}
