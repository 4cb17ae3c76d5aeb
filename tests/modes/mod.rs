//! Weaker modes, and states on file systems that hold no upper layer: what works there, what is said of it,
//! and what is refused.

use std::path::Path;

use crate::common::Ran;
use crate::input::in_mount_namespace;
use crate::real::project::{Project, skip};

mod lite;
mod nested;
mod storage;

/// A script after what makes a container's `/proc` of this mount namespace: something mounted over parts of
/// it, as Docker does. `$AJ` is the program. `None`, with the reason printed, where that cannot be done.
fn with_masked_proc(p: &Project, script: &str) -> Option<Ran> {
    let dir = ["/proc/acpi", "/proc/scsi", "/proc/bus"].into_iter().find(|d| Path::new(d).is_dir());
    let Some(dir) = dir else {
        skip("there is no directory in /proc to mask");
        return None;
    };
    let file = ["/proc/kcore", "/proc/keys", "/proc/timer_list"].into_iter().find(|f| Path::new(f).exists());
    let file = file.unwrap_or("/proc/version");
    let script =
        format!("mount --bind /dev/null {file} && mount -t tmpfs -o ro none {dir} || exit 99\n{script}");
    let ran = Ran::from(in_mount_namespace(p, &script)?.output().unwrap());
    assert_ne!(ran.code, Some(99), "{ran:#?}");
    Some(ran)
}

/// The value at `pointer` of the JSON document that is the last line of stdout.
#[track_caller]
fn json(ran: &Ran, pointer: &str) -> serde_json::Value {
    let last = ran.stdout.lines().last().unwrap_or_else(|| panic!("nothing said: {ran:#?}"));
    let document: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {ran:#?}"));
    document.pointer(pointer).cloned().unwrap_or_else(|| panic!("no {pointer}: {ran:#?}"))
}

#[test]
fn a_layer_that_is_required_is_in_force_or_nothing_runs() {
    let Some(p) = Project::in_jails() else { return };
    let ran = p.runs(&["exec", "--require", "netns,seccomp,proc", "--require", "caps", "--", "echo", "ran"]);
    assert_eq!(ran.stdout, "ran\n");
    let ran = p.aj(["exec", "--net", "host", "--require", "netns", "--", "touch", "ran"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:#?}");
    assert!(ran.stderr.contains("not in force, but required: netns"), "{ran:#?}");
    assert!(ran.stderr.contains("hint: see what this machine allows: `aj doctor`"), "{ran:#?}");
    assert_eq!(p.aj(["diff"]).code, Some(3), "nothing ran");
    // Asked for by a project, which may ask for more.
    p.write("aj.toml", "[jail]\nrequire = [\"netns\"]\nmode = \"lite\"\n");
    let ran = p.aj(["exec", "--net", "host", "--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("required: netns"), "{ran:#?}");
    assert!(ran.stderr.contains("`mode = lite` would widen"), "{ran:#?}");
    assert_eq!(p.aj(["exec", "--", "true"]).code, Some(0));
    for (bad, said) in
        [("netsn", "did you mean `netns`"), ("landlock:9", "2 to 6"), ("caps:1", "no versions")]
    {
        let ran = p.aj(["exec", "--require", bad, "--", "true"]);
        assert!(ran.code == Some(125) && ran.stderr.contains(said), "{bad}: {ran:#?}");
    }
}

#[test]
fn a_landlock_version_is_required_by_its_number() {
    let Some(p) = Project::in_jails() else { return };
    let abi = agentjail::sys::landlock::abi();
    for n in 2..=6 {
        let ran = p.aj(["exec", "--require", &format!("landlock:{n}"), "--", "true"]);
        assert_eq!(ran.code, Some(if n <= abi { 0 } else { 125 }), "{n} of {abi}: {ran:#?}");
    }
    if abi < 2 {
        return skip("no Landlock here");
    }
    // There, and switched off by what the jail is to allow.
    let ran = p.aj(["exec", "--nested-userns", "--require", "landlock:2", "--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("required: landlock:2"), "{ran:#?}");
    assert_eq!(p.aj(["exec", "--require", "full", "--", "true"]).code, Some(0));
}
