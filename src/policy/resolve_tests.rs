use super::super::hide::{Rules, by_custom};
use std::path::{Path, PathBuf};

use super::*;
use crate::policy::file::{parse_project, parse_user};

const FACTS: Facts = Facts { ram: 32 << 30, cpus: 16, nofile_soft: 1024, nofile_hard: 1_048_576 };

fn flags(edit: impl FnOnce(&mut Layer)) -> Layer {
    let mut layer = Layer::default();
    edit(&mut layer);
    layer
}

fn run(user: &str, project: &str, flags: &Layer) -> Result<Resolved, Error> {
    let user = parse_user("config.toml", user.as_bytes(), Some(Path::new("/home/me"))).unwrap();
    let project = parse_project("aj.toml", project.as_bytes()).unwrap();
    resolve(Sources { user: Some(&user), project: Some(&project), workspace: None, flags }, &FACTS)
}

fn merged(user: &str, project: &str, flags: &Layer) -> Resolved {
    run(user, project, flags).unwrap()
}

/// `key=text <- origin` of every setting that is not built in.
fn explained(r: &Resolved) -> Vec<String> {
    let rows = r.rows().into_iter().filter(|row| row.layer != "built-in");
    rows.map(|row| format!("{}={} <- {}", row.key, row.text, row.origin)).collect()
}

fn none() -> Layer {
    Layer::default()
}

#[test]
fn built_in_values_follow_the_machine() {
    let empty = none();
    let of = |facts: &Facts| {
        resolve(Sources { user: None, project: None, workspace: None, flags: &empty }, facts).unwrap()
    };
    let r = of(&FACTS);
    assert_eq!(explained(&r), Vec::<String>::new());
    assert_eq!((&r.warnings, &r.weakened), (&vec![], &vec![]));
    assert_eq!((r.asked(Key::Mem), r.asked(Key::Cpus)), (Asked::Nobody, Asked::Nobody));
    let s = r.settings;
    assert_eq!((s.mem, s.tmp, s.pids, s.nofile), (Some(8 << 30), 4 << 30, Some(4096), Some(4096)));
    assert_eq!((s.cpu_millis, s.timeout, s.grace), (None, None, Duration::from_secs(2)));
    let small = Facts { ram: 1_000_000_007, cpus: 1, nofile_soft: 256, nofile_hard: 512 };
    let s = of(&small).settings;
    assert_eq!((s.mem, s.tmp, s.nofile), (Some(476 << 20), 476 << 20, Some(512)));
    let odd = Facts { ram: 0, cpus: 0, nofile_soft: u64::MAX, nofile_hard: u64::MAX };
    let s = of(&odd).settings;
    assert_eq!((s.mem, s.nofile), (Some(8 << 30), Some(65_536)));
    assert_eq!(of(&Facts { ram: 1, ..small }).settings.mem, Some(1 << 20));
}

#[test]
fn sources_override_each_other_in_order() {
    let user = "[defaults]\npreset = \"agent\"\nmem = \"6G\"\ngrace = 3\n";
    let check = |user: &str, project: &str, f: &Layer, want: &[&str]| {
        assert_eq!(explained(&merged(user, project, f)), want);
    };
    check("", "", &none(), &[]);
    check(
        user,
        "",
        &none(),
        &[
            "preset=agent <- config.toml:2",
            "net=none <- preset agent",
            "timeout=1h <- preset agent",
            "grace=3s <- config.toml:4",
            "mem=6G <- config.toml:3",
            "cpus=2 <- preset agent",
            "pids=1024 <- preset agent",
        ],
    );
    check(
        user,
        "[jail]\ntimeout = \"5m\"\nmem = \"1G\"\n",
        &none(),
        &[
            "preset=agent <- config.toml:2",
            "net=none <- preset agent",
            "timeout=5m <- aj.toml:2",
            "grace=3s <- config.toml:4",
            "mem=1G <- aj.toml:3",
            "cpus=2 <- preset agent",
            "pids=1024 <- preset agent",
        ],
    );
    // A flag passes the project's bound: the person at the keyboard decides.
    let f = flags(|l| {
        l.mem = Some(Some(10 << 30).into());
        l.timeout = Some(None.into());
    });
    check(
        user,
        "[jail]\ntimeout = \"5m\"\nmem = \"1G\"\n",
        &f,
        &[
            "preset=agent <- config.toml:2",
            "net=none <- preset agent",
            "timeout=none <- flag --timeout",
            "grace=3s <- config.toml:4",
            "mem=10G <- flag --mem",
            "cpus=2 <- preset agent",
            "pids=1024 <- preset agent",
        ],
    );
    // A preset named for this run takes the place of the default one and stands above [defaults].
    let f = flags(|l| l.preset = Some("dev".to_owned().into()));
    check(
        "[defaults]\npreset = \"agent\"\ntimeout = \"9m\"\nmem = \"6G\"",
        "",
        &f,
        &[
            "preset=dev <- flag --preset",
            "net=none <- preset dev",
            "timeout=none <- preset dev",
            "mem=6G <- config.toml:4",
            "cpus=4 <- preset dev",
        ],
    );
}

#[test]
fn a_preset_of_the_user_adds_to_the_built_in_one_of_its_name() {
    let user = "[presets.agent]\nmem = \"12G\"\nro = [\"/opt/x\"]\n[presets.mine]\npids = 9\n";
    let f = flags(|l| l.preset = Some("agent".to_owned().into()));
    assert_eq!(
        explained(&merged(user, "", &f)),
        [
            "preset=agent <- flag --preset",
            "net=none <- preset agent",
            "timeout=1h <- preset agent",
            "mem=12G <- preset agent (config.toml:2)",
            "cpus=2 <- preset agent",
            "pids=1024 <- preset agent",
            "ro=/opt/x <- preset agent (config.toml:3)",
        ]
    );
    let f = flags(|l| l.preset = Some("mine".to_owned().into()));
    assert_eq!(
        explained(&merged(user, "", &f)),
        ["preset=mine <- flag --preset", "pids=9 <- preset mine (config.toml:5)",]
    );
    let f = flags(|l| l.preset = Some("agnet".to_owned().into()));
    let Err(Error::UnknownPreset { meant, known, origin, .. }) = run(user, "", &f) else { panic!() };
    assert_eq!((meant.as_deref(), origin.as_str()), (Some("agent"), "flag --preset"));
    assert_eq!(known, ["build", "install", "agent", "dev", "agent", "mine"]);
}

#[test]
fn a_project_cannot_widen_any_key_and_each_attempt_is_named() {
    // Every key: a user value, the project's wider one, the project's narrower one, what then holds.
    let table = [
        ("mode", "\"full\"", "\"nested\"", None),
        ("mode", "\"nested\"", "\"lite\"", Some(("\"full\"", "full"))),
        ("workspace", "\"ro\"", "\"overlay\"", None),
        ("workspace", "\"overlay\"", "\"rw\"", Some(("\"ro\"", "ro"))),
        ("workspace", "\"rw\"", "\"x\"", Some(("\"overlay\"", "overlay"))),
        ("net", "\"none\"", "\"host\"", None),
        ("net", "\"host\"", "\"x\"", Some(("\"loopback\"", "none"))),
        ("seccomp", "\"standard\"", "\"log\"", Some(("\"strict\"", "strict"))),
        ("seccomp", "\"strict\"", "\"standard\"", None),
        ("nested_userns", "false", "true", None),
        ("nested_userns", "true", "x", Some(("false", "false"))),
        ("as_root", "false", "true", None),
        ("as_root", "true", "x", Some(("false", "false"))),
        ("tools", "\"none\"", "\"auto\"", None),
        ("tools", "\"none\"", "[\"nvm\"]", None),
        ("tools", "\"auto\"", "x", Some(("[\"go\", \"uv\"]", "go,uv"))),
        ("tools", "[\"go\", \"uv\"]", "\"auto\"", None),
        ("tools", "\"go,uv\"", "[\"uv\", \"nvm\"]", Some(("[\"uv\"]", "uv"))),
        ("caches", "\"none\"", "\"auto\"", None),
        ("caches", "\"auto\"", "x", Some(("[\"cargo\", \"npm\"]", "cargo,npm"))),
        ("caches", "[\"cargo\"]", "[\"cargo\", \"npm\"]", Some(("\"none\"", "none"))),
        ("timeout", "60", "61", Some(("\"59s\"", "59s"))),
        ("timeout", "60", "\"none\"", None),
        ("timeout", "\"none\"", "x", Some(("\"300d\"", "7200h"))),
        ("grace", "2", "3", Some(("0", "0s"))),
        ("mem", "\"2G\"", "\"2049M\"", Some(("\"2047M\"", "2047M"))),
        ("mem", "\"2G\"", "\"none\"", None),
        ("cpus", "2", "2.5", Some(("1.5", "1.5"))),
        ("cpus", "2", "\"none\"", None),
        ("pids", "100", "101", Some(("99", "99"))),
        ("pids", "100", "\"none\"", None),
        ("nofile", "100", "101", Some(("99", "99"))),
        ("nofile", "100", "\"none\"", None),
        ("tmp", "\"64M\"", "\"65M\"", Some(("\"63M\"", "63M"))),
        ("disk", "\"2G\"", "\"2049M\"", Some(("\"2047M\"", "2047M"))),
        ("disk", "\"2G\"", "\"none\"", None),
        ("storage", "\"memory\"", "\"disk\"", None),
        ("storage", "\"disk\"", "x", Some(("\"memory\"", "memory"))),
        ("io_read", "\"2M\"", "\"3M\"", Some(("\"1M\"", "1M"))),
        ("io_write", "\"2M\"", "\"3M\"", Some(("\"1M\"", "1M"))),
        ("best_effort", "false", "true", None),
        ("best_effort", "true", "x", Some(("false", "false"))),
        ("durable", "true", "false", None),
        ("durable", "false", "x", Some(("true", "true"))),
    ];
    let shown = |r: &Resolved, key: &str| r.rows().into_iter().find(|row| row.key == key).unwrap();
    for (key, held, wider, narrower) in table {
        let user = format!("[defaults]\n{key} = {held}\n");
        let before = merged(&user, "", &none());
        let ours = shown(&before, key);
        if wider.trim_matches('"') != "x" {
            let after = merged(&user, &format!("[jail]\n\n{key} = {wider}\n"), &none());
            assert_eq!(shown(&after, key), ours, "{key} = {wider} over {held}");
            let extra: Vec<_> = after.warnings.iter().filter(|w| !before.warnings.contains(w)).collect();
            let start = format!("aj.toml:3: `{key} = ");
            assert!(extra.len() == 1 && extra[0].starts_with(&start), "{key}: {extra:?}");
            assert!(extra[0].contains("would widen") && extra[0].contains("--"), "{extra:?}");
        }
        if let Some((narrower, want)) = narrower {
            let after = merged(&user, &format!("[jail]\n\n{key} = {narrower}\n"), &none());
            let row = shown(&after, key);
            assert_eq!((row.text.as_str(), row.origin.as_str()), (want, "aj.toml:3"), "{key} = {narrower}");
        }
        // The same value neither warns nor takes the credit.
        let after = merged(&user, &format!("[jail]\n{key} = {held}\n"), &none());
        assert_eq!((shown(&after, key), &after.warnings), (ours, &before.warnings), "{key}");
    }
    let keys: std::collections::BTreeSet<&str> = table.iter().map(|t| t.0).collect();
    let missing: Vec<&str> =
        Key::ALL[1..Key::SCALARS].iter().map(|k| k.name()).filter(|k| !keys.contains(k)).collect();
    assert!(missing.is_empty(), "keys without a row: {missing:?}");
}

#[test]
fn whoever_requires_a_layer_is_heard_and_nobody_takes_it_back() {
    let flags = flags(|l| l.require = vec![crate::policy::require::parse("netns").unwrap().into()]);
    let r = merged(
        "[defaults]\nrequire = [\"landlock:6\", \"seccomp\"]\n",
        "[jail]\nrequire = [\"netns\", \"full\", \"seccomp\"]\n",
        &flags,
    );
    let rows: Vec<_> = r.rows().into_iter().filter(|row| row.key == "require").collect();
    let said: Vec<_> = rows.iter().map(|row| (row.text.as_str(), row.origin.as_str())).collect();
    assert_eq!(
        said,
        [
            ("landlock:6", "config.toml:2"),
            ("seccomp", "config.toml:2"),
            ("netns", "aj.toml:2"),
            ("full", "aj.toml:2")
        ]
    );
    assert_eq!(r.warnings, Vec::<String>::new());
}

#[test]
fn a_project_cannot_add_directories_or_variables() {
    let project = "[jail]\nro = [\"/etc\", \"/root\"]\nrw = [\"/\"]\npass = [\"AWS_SECRET_ACCESS_KEY\"]\n\
                   env = { LD_PRELOAD = \"./x.so\" }\n";
    let r = merged("", project, &none());
    assert_eq!(explained(&r), Vec::<String>::new());
    assert_eq!(r.warnings.len(), 4);
    assert!(r.warnings[0].starts_with("aj.toml:2: `ro` (`/etc` and 1 more) would widen"), "{:?}", r.warnings);
    assert!(r.warnings[2].starts_with("aj.toml:5: `env` (`LD_PRELOAD`) would widen"), "{:?}", r.warnings);
    // Teeth: the same lines in the user's own file do add them.
    let r = merged(&project.replace("jail", "defaults"), "", &none());
    assert_eq!((r.settings.ro.len(), r.settings.rw.len()), (2, 1));
    assert_eq!((r.settings.env.len(), r.settings.pass.len()), (1, 1));
}

#[test]
fn caches_come_with_the_presets_that_build_and_no_project_brings_them() {
    let shown = |user: &str, project: &str, preset: Option<&str>| {
        let flags = flags(|l| l.preset = preset.map(|p| p.to_owned().into()));
        let r = merged(user, project, &flags);
        let row = r.rows().into_iter().find(|row| row.key == "caches").unwrap();
        (row.text, row.origin, r.warnings)
    };
    let plain = |text: &str, origin: &str| (text.to_owned(), origin.to_owned(), Vec::<String>::new());
    assert_eq!(shown("", "", None), plain("none", "built-in"));
    for preset in ["build", "install"] {
        assert_eq!(shown("", "", Some(preset)), plain("auto", &format!("preset {preset}")));
        let narrowed = shown("", "[jail]\ncaches = [\"npm\"]\n", Some(preset));
        assert_eq!(narrowed, plain("npm", "aj.toml:2"));
    }
    let (text, _, warnings) = shown("", "[jail]\npreset = \"build\"\n", None);
    assert_eq!(text, "none");
    assert!(warnings.iter().any(|w| w.contains("caches of preset `build` would widen")), "{warnings:?}");
    let (text, _, warnings) = shown("", "[jail]\ncaches = \"auto\"\n", None);
    assert_eq!(text, "none");
    assert!(warnings.iter().any(|w| w.contains("`caches = auto` would widen")), "{warnings:?}");
}

#[test]
fn a_preset_named_by_a_project_only_narrows() {
    let user =
        "[defaults]\nmem = \"1G\"\ntimeout = \"30m\"\n[presets.agent]\nro = [\"/opt\"]\nnet = \"host\"\n";
    let r = merged(user, "[jail]\npreset = \"agent\"\n", &none());
    assert_eq!(
        explained(&r),
        [
            "preset=agent <- aj.toml:2",
            "timeout=30m <- config.toml:3",
            "mem=1G <- config.toml:2",
            "cpus=2 <- preset agent (aj.toml:2)",
            "pids=1024 <- preset agent (aj.toml:2)",
        ]
    );
    assert_eq!(
        r.warnings,
        [
            "aj.toml:2: net, timeout, mem, ro of preset `agent` would widen what the jail may do and is ignored; \
         to have the whole preset, use --preset"
        ]
    );
    // A preset on the command line replaces it.
    let f = flags(|l| l.preset = Some("dev".to_owned().into()));
    assert_eq!(merged("", "[jail]\npreset = \"agent\"\n", &f).settings.pids, Some(4096));
    let e = run("", "[jail]\npreset = \"gpu\"\n", &none()).unwrap_err();
    assert_eq!(e.to_string(), "there is no preset `gpu` (aj.toml:2)");
    let e = run("", "[jail]\npreset = \"\\u001b[31m\"\n", &none()).unwrap_err();
    assert!(!e.to_string().contains('\x1b'));
}

#[test]
fn nothing_passes_the_hard_limits() {
    let max =
        "[limits.max]\ntimeout = \"1h\"\nmem = \"2G\"\ncpus = 1\npids = 50\nnofile = 64\ntmp = \"1M\"\n";
    let r = merged(max, "", &none());
    assert_eq!(
        explained(&r),
        [
            "timeout=1h <- clamp limits.max.timeout (config.toml:2)",
            "mem=2G <- clamp limits.max.mem (config.toml:3)",
            "cpus=1 <- clamp limits.max.cpus (config.toml:4)",
            "pids=50 <- clamp limits.max.pids (config.toml:5)",
            "nofile=64 <- clamp limits.max.nofile (config.toml:6)",
            "tmp=1M <- clamp limits.max.tmp (config.toml:7)",
        ]
    );
    assert_eq!(
        [r.asked(Key::Mem), r.asked(Key::Cpus)],
        [
            Asked::User("`limits.max.mem` (config.toml:3)".to_owned()),
            Asked::User("`limits.max.cpus` (config.toml:4)".to_owned()),
        ],
        "a hard limit must be enforced"
    );
    let pids = |user: &str, project: &str| merged(user, project, &none()).asked(Key::Pids);
    assert_eq!(pids(max, ""), Asked::User("`limits.max.pids` (config.toml:5)".to_owned()));
    assert_eq!(
        [pids("", ""), pids("", "[jail]\npids = 9"), pids("[defaults]\npids = 50", "[jail]\npids = 9")],
        [
            Asked::Nobody,
            Asked::Project("`pids` (aj.toml:2)".to_owned()),
            Asked::User("`pids` (config.toml:2)".to_owned())
        ]
    );
    let over: [(&str, Layer); 8] = [
        (
            "`--timeout none` is above the hard limit 1h (limits.max.timeout at config.toml:2)",
            flags(|l| l.timeout = Some(None.into())),
        ),
        ("`--timeout 1h1s` is", flags(|l| l.timeout = Some(Some(Duration::from_secs(3601)).into()))),
        ("`--mem 2049M` is above the hard limit 2G", flags(|l| l.mem = Some(Some(2049 << 20).into()))),
        ("`--mem none` is", flags(|l| l.mem = Some(None.into()))),
        ("`--cpus 1.001` is above the hard limit 1 ", flags(|l| l.cpu_millis = Some(Some(1001).into()))),
        ("`--pids 51` is", flags(|l| l.pids = Some(Some(51).into()))),
        ("`--nofile 65` is", flags(|l| l.nofile = Some(Some(65).into()))),
        ("`--tmp 1048577` is above the hard limit 1M", flags(|l| l.tmp = Some((1 << 20 | 1).into()))),
    ];
    for (want, flags) in over {
        let e = run(max, "", &flags).unwrap_err().to_string();
        assert!(e.starts_with(want), "{e}");
    }
    let f = flags(|l| l.mem = Some(Some(2 << 30).into()));
    assert!(explained(&merged(max, "", &f)).contains(&"mem=2G <- flag --mem".to_owned()));
    // A preset named by a flag is not an explicit number: it is lowered, and says so.
    let f = flags(|l| l.preset = Some("agent".to_owned().into()));
    assert!(
        explained(&merged(max, "", &f))
            .contains(&"mem=2G <- clamp limits.max.mem (config.toml:3)".to_owned())
    );
}

#[test]
fn asked_for_limits_are_told_from_defaults_and_from_wishes_of_a_project() {
    let asked = |user: &str, project: &str, f: &Layer| {
        let r = merged(user, project, f);
        [r.asked(Key::Mem), r.asked(Key::Cpus)]
    };
    let user = |text: &str| Asked::User(text.to_owned());
    assert_eq!(asked("", "", &none()), [Asked::Nobody, Asked::Nobody]);
    assert_eq!(asked("[defaults]\nmem = 1", "", &none()), [user("`mem` (config.toml:2)"), Asked::Nobody]);
    assert_eq!(
        asked("", "[jail]\ncpus = 1", &none()),
        [Asked::Nobody, Asked::Project("`cpus` (aj.toml:2)".to_owned())]
    );
    let mem = flags(|l| l.mem = Some(Some(1).into()));
    assert_eq!(asked("", "[jail]\nmem = 2", &mem), [user("`--mem`"), Asked::Nobody]);
    // A project that narrows what the user asked for takes nothing of the asking away.
    let narrow = "[jail]\nmem = \"512M\"\ncpus = 0.5";
    let preset = "[jail]\npreset = \"agent\"";
    for project in [narrow, preset] {
        assert_eq!(
            asked("[defaults]\nmem = \"6G\"\n[limits.max]\ncpus = 8", project, &none()),
            [user("`mem` (config.toml:2)"), user("`limits.max.cpus` (config.toml:4)")],
            "{project}"
        );
    }
    assert_eq!(asked("", preset, &none()), [Asked::Nobody, Asked::Nobody]);
    // "No limit" cannot fail to be enforced.
    let no = flags(|l| l.mem = Some(None.into()));
    assert_eq!(asked("[defaults]\nmem = 1", "", &no), [Asked::Nobody, Asked::Nobody]);
    let agent = flags(|l| l.preset = Some("agent".to_owned().into()));
    assert_eq!(asked("", "", &agent), [Asked::Nobody, Asked::Nobody]);
}

#[test]
fn open_files_never_pass_the_host_and_weak_layers_are_said() {
    let f = flags(|l| l.nofile = Some(Some(1 << 30).into()));
    let r = merged("", "", &f);
    assert_eq!(explained(&r), ["nofile=1048576 <- hard limit of this host"]);
    assert_eq!(r.warnings.len(), 1);
    let f = flags(|l| l.nofile = Some(None.into()));
    assert_eq!(merged("", "", &f).settings.nofile, Some(1_048_576));
    let f = flags(|l| {
        l.net = Some(Net::Host.into());
        l.seccomp = Some(Seccomp::Log.into());
        l.nested_userns = Some(true.into());
    });
    let r = merged("", "", &f);
    assert_eq!((r.warnings.len(), r.weakened.len()), (0, 3));
}

#[test]
fn the_last_word_about_a_directory_or_a_variable_holds() {
    let user =
        "[defaults]\nro = [\"/a\", \"/b\"]\nrw = [\"/c\"]\npass = [\"P\"]\n[env]\nE = \"1\"\nF = \"1\"\n";
    let f = flags(|l| {
        l.rw.push(PathBuf::from("/a").into());
        l.ro.push(PathBuf::from("/c").into());
        l.set_env("P".into(), "2".into(), 0);
        l.pass_env("E".into(), 0);
    });
    assert_eq!(
        explained(&merged(user, "", &f)),
        [
            "ro=/b <- config.toml:2",
            "ro=/c <- flag --ro",
            "rw=/a <- flag --rw",
            "env=F <- config.toml:7",
            "env=P <- flag --env",
            "pass=E <- flag --pass",
        ]
    );
}

#[test]
fn rows_show_no_value_of_a_variable_and_no_escape() {
    let f = flags(|l| {
        l.set_env("TOKEN\x1b[2J".into(), "hunter2".into(), 0);
        l.ro.push(PathBuf::from("/x\x1b[2J").into());
    });
    let text = serde_json::to_string(&merged("", "", &f).document()).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("\\u001b"), "{text}");
    assert!(text.contains(r#""format_version":"0.1""#));
    let mem = r#"{"key":"mem","value":8589934592,"unit":"bytes","text":"8G","origin":"built-in","layer":"built-in","file":null,"line":null}"#;
    assert!(text.contains(mem), "{text}");
}

/// Whether a name in the root of the tree is hidden.
pub(super) fn hides(settings: &Settings, path: &str) -> bool {
    let (rules, path) = (Rules::of(settings, "/p"), path.as_bytes());
    let looked = !path.contains(&b'/');
    let by = rules.hide.iter().filter(|(_, g)| g.matches(path, looked)).map(|(p, _)| p.rank).max();
    let custom = looked && rules.custom && by_custom(path).is_some();
    (by.is_some() || custom) && !rules.is_shown(path, looked, by.unwrap_or(0))
}

#[test]
fn the_stronger_source_decides_what_is_hidden_and_a_project_only_hides() {
    let user = "[defaults]\nshow = ['.env']\nhide = ['*.key', 'a']";
    let project = "[jail]\nhide = ['b', '.env']\nshow = ['a', '*']";
    let flags = |show: &[&str], hide: &[&str]| {
        let list = |l: &[&str]| l.iter().map(|p| (*p).to_owned().into()).collect();
        Layer { show: list(show), hide: list(hide), ..Layer::default() }
    };
    let none = Layer::default();
    let all = |r: &Resolved| [".env", "x.key", "a", "b", ".netrc"].map(|p| hides(&r.settings, p));
    assert_eq!(all(&merged("", "", &none)), [true, false, false, false, true]);
    assert_eq!(all(&merged(user, "", &none)), [false, true, true, false, true]);
    let both = merged(user, project, &none);
    assert_eq!(all(&both), [true, true, true, true, true]);
    assert!(both.warnings.iter().any(|w| w.contains("`show` (`a` and 1 more)")), "{:?}", both.warnings);
    assert_eq!(all(&merged(user, project, &flags(&["*"], &["a"]))), [false, false, true, false, false]);
    assert_eq!(
        all(&merged(user, project, &flags(&[".env", "b"], &[".env"]))),
        [true, true, true, false, true]
    );
    let rows = merged(user, project, &none).rows();
    let of = |key: &str| {
        rows.iter().filter(|r| r.key == key).map(|r| (r.text.clone(), r.layer)).collect::<Vec<_>>()
    };
    let row = |text: &str, layer| (text.to_owned(), layer);
    assert_eq!(of("show"), [row(".env", "user")]);
    let hidden = [row("*.key", "user"), row("a", "user"), row("b", "project"), row(".env", "project")];
    assert_eq!(of("hide"), hidden);
}
