use std::os::unix::ffi::OsStringExt;

use clap::{Args as _, FromArgMatches as _};
use proptest::prelude::*;

use super::*;

#[derive(clap::Args, Debug, PartialEq)]
struct Exec {
    #[command(flatten)]
    policy: PolicyArgs,
    workspace: Option<String>,
    #[arg(last = true)]
    command: Vec<OsString>,
}

fn exec(words: &[OsString]) -> Result<Exec, String> {
    let words = std::iter::once(OsString::from("exec")).chain(words.iter().cloned());
    let command = Exec::augment_args(clap::Command::new("exec"));
    let matches = command.try_get_matches_from(words).map_err(|e| e.to_string())?;
    Exec::from_arg_matches(&matches).map_err(|e| e.to_string())
}

fn os_words(line: &str) -> Vec<OsString> {
    line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect()
}

fn flags(line: &str) -> Flags {
    let words = os_words(&format!("{line} -- ls"));
    exec(&words).unwrap_or_else(|e| panic!("{line}: {e}")).policy.into_flags().unwrap()
}

#[test]
fn directories_and_the_workspace_are_told_apart() {
    let check = |line: &str, access: Option<Access>, ro: &[&str], rw: &[&str]| {
        let Layer { access: a, ro: r, rw: w, .. } = flags(line).layer;
        let paths = |v: &[policy::At<PathBuf>]| v.iter().map(|p| p.value.clone()).collect::<Vec<_>>();
        assert_eq!(a.map(|a| a.value), access, "{line}");
        assert_eq!(paths(&r), ro.iter().map(PathBuf::from).collect::<Vec<_>>(), "{line}");
        assert_eq!(paths(&w), rw.iter().map(PathBuf::from).collect::<Vec<_>>(), "{line}");
    };
    check("", None, &[], &[]);
    check("--ro", Some(Access::Ro), &[], &[]);
    check("--rw --net none", Some(Access::Rw), &[], &[]);
    check("--ro /opt/a --ro=./b --rw", Some(Access::Rw), &["/opt/a", "./b"], &[]);
    check("--rw . --ro", Some(Access::Ro), &[], &["."]);
    check("--ro /a --ro /b --rw /c/", None, &["/a", "/b"], &["/c/"]);
    // A workspace before the flag is a workspace; a bare word after it is neither guessed at nor eaten.
    assert_eq!(exec(&os_words("api --ro -- ls")).unwrap().workspace.as_deref(), Some("api"));
    for line in ["--ro api -- ls", "--rw ls", "--ro=api -- ls"] {
        let e = exec(&os_words(line)).unwrap_err();
        assert!(e.contains("written with a `/`"), "{e}");
    }
    // An unset shell variable is not the workspace.
    let e = exec(&["--rw=".into(), "--".into(), "ls".into()]).unwrap_err();
    assert!(e.contains("missing"), "{e}");
    let e = exec(&os_words("--ro --rw -- ls")).unwrap().policy.into_flags().unwrap_err();
    assert_eq!((e.exit, e.code), (125, "usage"));
}

#[test]
fn every_flag_reaches_its_setting() {
    let layer = flags(
        "--preset build --seccomp strict --nested-userns --as-root --durable --net host --tools uv,nvm,uv --caches cargo --show .env --hide a --hide **/b --timeout 1h30m \
         --kill-after 0 --mem 2G --cpus 0.5 --pids none --nofile 99 --tmp 1M --disk 1G --storage memory --io-read 1M --io-write none --best-effort",
    )
    .layer;
    let want = Layer {
        preset: Some("build".to_owned().into()),
        seccomp: Some(Seccomp::Strict.into()),
        nested_userns: Some(true.into()),
        as_root: Some(true.into()),
        durable: Some(true.into()),
        disk: Some(Some(1 << 30).into()),
        storage: Some(Storage::Memory.into()),
        io_read: Some(Some(1 << 20).into()),
        io_write: Some(None.into()),
        tools: Some(Tools::Only(vec!["uv".into(), "nvm".into()]).into()),
        caches: Some(Tools::Only(vec!["cargo".into()]).into()),
        show: vec![".env".to_owned().into()],
        hide: vec!["a".to_owned().into(), "**/b".to_owned().into()],
        net: Some(Net::Host.into()),
        timeout: Some(Some(Duration::from_secs(5400)).into()),
        grace: Some(Duration::ZERO.into()),
        mem: Some(Some(2 << 30).into()),
        cpu_millis: Some(Some(500).into()),
        pids: Some(None.into()),
        nofile: Some(Some(99).into()),
        tmp: Some((1 << 20).into()),
        best_effort: Some(true.into()),
        ..Layer::default()
    };
    assert_eq!(layer, want);
    assert_eq!(flags("").layer, Layer::default());
}

#[test]
fn wrong_values_are_named_with_the_right_form() {
    for (line, want) in [
        ("--net allow:x.org -- ls", "later version"),
        ("--net full -- ls", "not one of `none`, `loopback`, `host`"),
        ("--tools Rust -- ls", "not a name of a tool"),
        ("--tools auto,nvm -- ls", "not a name of a tool"),
        ("--caches Rust -- ls", "not a name of a cache"),
        ("--hide ../x -- ls", "leads out of the tree"),
        ("--show {a,b} -- ls", "two patterns"),
        ("--seccomp off -- ls", "not one of `standard`, `strict`, `log`"),
        ("--storage ram -- ls", "not one of `disk`, `memory`"),
        ("--mem 2Q -- ls", "is not a size"),
        ("--timeout 0 -- ls", "more than zero"),
        ("--cpus 0 -- ls", "not a number of processors"),
        ("--tmp 0 -- ls", "more than zero"),
        ("--mem 1G --mem 2G -- ls", "cannot be used multiple times"),
    ] {
        let e = exec(&os_words(line)).unwrap_err();
        assert!(e.contains(want), "{line}: {e}");
    }
}

#[test]
fn variables_keep_their_bytes_and_the_last_word_holds() {
    let odd = OsString::from_vec(b"ODD=\xff=\xfe".to_vec());
    let words: Vec<OsString> =
        ["-e", "A=1", "-eB", "--env", "A", "--env=C=", "--pass", "P,Q", "--env-file", "f.env", "-e"]
            .into_iter()
            .map(OsString::from)
            .chain([odd, "--".into(), "ls".into()])
            .collect();
    let Flags { layer, env_files, gpus: _, volumes: _ } = exec(&words).unwrap().policy.into_flags().unwrap();
    let env: Vec<(&[u8], &[u8])> =
        layer.env.iter().map(|e| (e.value.0.as_bytes(), e.value.1.as_bytes())).collect();
    assert_eq!(env, [(b"C".as_slice(), b"".as_slice()), (b"ODD", b"\xff=\xfe")]);
    let pass: Vec<&[u8]> = layer.pass.iter().map(|p| p.value.as_bytes()).collect();
    assert_eq!(pass, [b"P", b"Q", b"B", b"A"]);
    assert_eq!(env_files, [PathBuf::from("f.env")]);
    for bad in ["-e =x -- ls", "--pass A=1 -- ls", "--pass , -- ls"] {
        let e = exec(&os_words(bad)).unwrap().policy.into_flags().unwrap_err();
        assert_eq!(e.exit, exit::AJ_FAILED, "{bad}");
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_without_repeating_it() {
    let key = "ghp_0123456789abcdefABCD";
    let e = exec(&os_words(&format!("-e GH_TOKEN={key} -- ls"))).unwrap().policy.into_flags().unwrap_err();
    assert_eq!(e.code, "secret_in_argv");
    assert!(!format!("{e:?}").contains(key) && format!("{e:?}").contains("--env GH_TOKEN"), "{e:?}");
    assert_eq!(flags("-e GH_TOKEN=test").layer.env.len(), 1);
}

#[test]
fn errors_have_stable_codes_and_a_way_out() {
    let flags = Layer { preset: Some("biuld".to_owned().into()), ..Layer::default() };
    let facts = policy::Facts { ram: 1 << 30, cpus: 1, nofile_soft: 1024, nofile_hard: 1024 };
    let sources = policy::Sources { user: None, project: None, workspace: None, flags: &flags };
    let e = ops::config::Error::Policy(policy::resolve(sources, &facts).unwrap_err());
    let shown = policy_error(&e, exit::AJ_FAILED);
    assert_eq!((shown.exit, shown.code), (125, "preset_not_found"));
    assert_eq!(shown.hints, ["did you mean `build`?"]);
}

/// The same flags by the quick way, for words in the forms that it takes.
fn quick(words: &[(&str, Option<&str>)]) -> Option<PolicyArgs> {
    let mut args = PolicyArgs::default();
    for (flag, value) in words {
        let taken = match value {
            Some(value) => args.quick_value(flag, OsStr::new(value)),
            None => args.quick_flag(flag),
        };
        if !taken {
            return None;
        }
    }
    Some(args)
}

proptest! {
    #[test]
    fn what_the_quick_way_takes_clap_reads_alike(words in prop::collection::vec((
        prop::sample::select(vec![
            "--preset", "--seccomp", "--net", "--timeout", "--grace", "--kill-after", "--mem", "--cpus", "--pids",
            "--nofile", "--tmp", "--disk", "--storage", "--io-read", "--io-write", "--env", "-e", "--env-file", "--pass", "--rw", "--nested-userns", "--as-root",
            "--durable", "--best-effort", "--mode", "--require", "--tools", "--caches", "--show", "--hide",
        ]),
        prop::option::of(prop::sample::select(vec![
            "none", "auto", "memory", "nested", "nvm,go", "host", "build", "strict", "1", "0", "90s", "1.5", "2G", "A=b", "A", "", "x y", "é", "**/*.key", "../x", "{a}",
        ])),
    ), 0..6)) {
        if let Some(quick) = quick(&words) {
            let line: Vec<OsString> = words
                .iter()
                .flat_map(|(flag, value)| [Some(*flag), *value])
                .flatten()
                .map(OsString::from)
                .collect();
            prop_assert_eq!(exec(&line).map(|e| e.policy), Ok(quick));
        }
    }
}
