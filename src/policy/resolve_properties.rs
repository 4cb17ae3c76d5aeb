//! What holds of any sources of a policy.

use std::ffi::OsString;
use std::path::PathBuf;

use proptest::prelude::*;

use super::tests::hides;
use super::*;
use crate::policy::file::Max;
use crate::policy::layer::At;

const FACTS: Facts = Facts { ram: 32 << 30, cpus: 16, nofile_soft: 1024, nofile_hard: 1_048_576 };

fn limit() -> impl Strategy<Value = Option<At<Option<u64>>>> {
    // Small numbers, so that the layers meet; around the built-in ones, so that those meet too.
    let n = prop_oneof![1u64..6, 4090u64..4100, Just(8 << 30), Just(9 << 30)];
    prop::option::of(prop::option::weighted(0.8, n).prop_map(At::from))
}

fn layer() -> impl Strategy<Value = Layer> {
    let word = (
        prop::option::of(prop::sample::select(vec!["build", "install", "agent", "dev", "mine"])),
        prop::option::of(prop::sample::select(vec![Access::Overlay, Access::Rw, Access::Ro])),
        prop::option::of(prop::sample::select(vec![Net::None, Net::Host])),
        prop::option::of(prop::sample::select(vec![Seccomp::Standard, Seccomp::Strict, Seccomp::Log])),
        prop::option::of(prop::sample::select(vec![Mode::Full, Mode::Nested, Mode::Lite])),
        prop::collection::vec(prop::sample::select(vec!["netns", "landlock:4", "full"]), 0..3),
        prop::option::of(prop::sample::select(vec![Storage::Disk, Storage::Memory])),
    );
    let flags = [0u8; 4].map(|_| prop::option::of(any::<bool>()));
    let limits = [0u8; 4].map(|_| limit());
    let names = prop::collection::vec(prop::sample::select(vec!["nvm", "go", "mise"]), 0..3);
    let names = names.prop_map(|n| Tools::Only(n.into_iter().map(str::to_owned).collect()));
    let tools = prop::option::of(prop_oneof![Just(Tools::None), Just(Tools::Auto), names]).boxed();
    let rest = (
        limit(),
        prop::option::of(0u64..6),
        prop::option::of(1u64..6),
        tools.clone(),
        tools,
        limit(),
        limit(),
    );
    let lists = [0u8; 4].map(|_| prop::collection::vec(prop::sample::select(vec!["/a", "/b", "/c"]), 0..3));
    let globs = prop::sample::select(vec!["*", "**", ".env", ".e*", "**/a", "a"]);
    let globs = [0u8; 2].map(|_| prop::collection::vec(globs.clone(), 0..3));
    // Boxed: in a debug build the strategies of two layers by value fill the stack of a test.
    let rest = rest.boxed();
    (word, flags, limits, rest, (lists, globs)).prop_map(|(word, flags, limits, rest, (lists, globs))| {
        let [show, hide] = globs.map(|g| g.into_iter().map(|g| g.to_owned().into()).collect());
        let [nested_userns, as_root, best_effort, durable] = flags.map(|f| f.map(At::from));
        let [mem, cpu_millis, pids, nofile] = limits;
        let [ro, rw, env, pass] = lists;
        Layer {
            preset: word.0.map(|p| p.to_owned().into()),
            mode: word.4.map(At::from),
            require: word.5.into_iter().map(|n| crate::policy::require::parse(n).unwrap().into()).collect(),
            access: word.1.map(At::from),
            net: word.2.map(At::from),
            seccomp: word.3.map(At::from),
            nested_userns,
            as_root,
            tools: rest.3.map(At::from),
            caches: rest.4.map(At::from),
            best_effort,
            durable,
            mem,
            cpu_millis,
            pids,
            nofile,
            timeout: rest.0.map(|at| At::from(at.value.map(Duration::from_secs))),
            grace: rest.1.map(|s| Duration::from_secs(s).into()),
            tmp: rest.2.map(At::from),
            disk: rest.5,
            storage: word.6.map(At::from),
            io_read: rest.6.clone(),
            io_write: rest.6,
            ro: ro.into_iter().map(|p| PathBuf::from(p).into()).collect(),
            rw: rw.into_iter().map(|p| PathBuf::from(p).into()).collect(),
            show,
            hide,
            env: env.into_iter().map(|p| (OsString::from(p), OsString::new()).into()).collect(),
            pass: pass.into_iter().map(|p| OsString::from(p).into()).collect(),
        }
    })
}

/// Written out a second time on purpose, not by way of the code under test.
fn at_most(a: &Settings, b: &Settings) -> Result<(), String> {
    fn le<T: PartialOrd>(a: Option<T>, b: Option<T>) -> bool {
        match (a, b) {
            (_, None) => true,
            (Some(a), Some(b)) => a <= b,
            (None, Some(_)) => false,
        }
    }
    let room = |x: Access| [Access::Ro, Access::Overlay, Access::Rw].iter().position(|y| *y == x);
    let reach = |x: Seccomp| [Seccomp::Strict, Seccomp::Standard, Seccomp::Log].iter().position(|y| *y == x);
    for (what, holds) in [
        ("mode", a.mode <= b.mode),
        ("require", b.require.iter().all(|n| a.require.contains(n))),
        ("access", room(a.access) <= room(b.access)),
        ("net", a.net == Net::None || b.net == Net::Host),
        ("seccomp", reach(a.seccomp) <= reach(b.seccomp)),
        ("nested_userns", a.nested_userns <= b.nested_userns),
        ("as_root", a.as_root <= b.as_root),
        ("tools", ["nvm", "go", "mise", "other"].iter().all(|n| b.tools.allows(n) || !a.tools.allows(n))),
        ("caches", ["nvm", "go", "mise", "other"].iter().all(|n| b.caches.allows(n) || !a.caches.allows(n))),
        ("best_effort", a.best_effort <= b.best_effort),
        ("durable", a.durable >= b.durable),
        ("storage", a.storage == Storage::Memory || b.storage == Storage::Disk),
        ("timeout", le(a.timeout, b.timeout)),
        ("grace", a.grace <= b.grace),
        ("mem", le(a.mem, b.mem)),
        ("cpus", le(a.cpu_millis, b.cpu_millis)),
        ("pids", le(a.pids, b.pids)),
        ("nofile", le(a.nofile, b.nofile)),
        ("tmp", a.tmp <= b.tmp),
        ("disk", le(a.disk, b.disk)),
        ("io_read", le(a.io_read, b.io_read)),
        ("io_write", le(a.io_write, b.io_write)),
        ("ro", a.ro == b.ro),
        ("rw", a.rw == b.rw),
        ("hidden", [".env", "a", "x/a", ".ex"].iter().all(|p| hides(a, p) || !hides(b, p))),
        ("env", a.env == b.env),
        ("pass", a.pass == b.pass),
    ] {
        if !holds {
            return Err(format!("{what} is wider: {a:?} against {b:?}"));
        }
    }
    Ok(())
}

fn user_file(defaults: Layer, mut mine: Layer, max: [Option<u64>; 3]) -> UserFile {
    mine.preset = None;
    let [mem, pids, timeout] = max;
    UserFile {
        path: "config.toml".to_owned(),
        defaults,
        max: Max {
            mem: mem.map(At::from),
            pids: pids.map(At::from),
            timeout: timeout.map(|s| Duration::from_secs(s).into()),
            ..Max::default()
        },
        presets: [("mine".to_owned(), mine)].into(),
        ..UserFile::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_project_file_yields_more_than_its_absence(
        defaults in layer(), mine in layer(), project in layer(), flags in layer(),
        max in [0u8; 3].map(|_| prop::option::of(1u64..6)),
    ) {
        let user = user_file(defaults, mine, max);
        let project = ProjectFile { path: "aj.toml".to_owned(), layer: project, warnings: Vec::new() };
        let without = resolve(Sources { user: Some(&user), project: None, workspace: None, flags: &flags }, &FACTS);
        let with = resolve(Sources { user: Some(&user), project: Some(&project), workspace: None, flags: &flags }, &FACTS);
        if let (Ok(with), Ok(without)) = (&with, &without) {
            prop_assert_eq!(at_most(&with.settings, &without.settings), Ok(()));
        }
        // Nor does it turn a refusal into a run.
        prop_assert!(!(with.is_ok() && without.is_err()));
    }

    #[test]
    fn no_source_passes_a_hard_limit(
        defaults in layer(), mine in layer(), project in layer(), flags in layer(),
        max in [0u8; 3].map(|_| prop::option::of(1u64..6)),
    ) {
        let user = user_file(defaults, mine, max);
        let project = ProjectFile { path: "aj.toml".to_owned(), layer: project, warnings: Vec::new() };
        let sources = Sources { user: Some(&user), project: Some(&project), workspace: None, flags: &flags };
        if let Ok(Resolved { settings, .. }) = resolve(sources, &FACTS) {
            let [mem, pids, timeout] = max;
            prop_assert!(mem.is_none_or(|m| settings.mem.is_some_and(|v| v <= m)));
            prop_assert!(pids.is_none_or(|m| settings.pids.is_some_and(|v| v <= m)));
            prop_assert!(timeout.is_none_or(|m| settings.timeout.is_some_and(|v| v.as_secs() <= m)));
        }
    }
}
