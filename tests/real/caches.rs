//! Package caches that are warm on the host: what builds from them outside builds inside without a
//! network, and the host's are what they were.

use std::path::PathBuf;

use super::project::{has, is_root, skip, snapshot};
use super::registry::Registry;
use super::tools::Caller;
use crate::common::Ran;

pub(super) const BUILD: &[&str] = &["--preset", "build", "--best-effort"];

/// A caller whose cargo is that of the tests' tool chain.
pub(super) fn with_cargo() -> Option<Caller> {
    let real = Ran::from(std::process::Command::new("cargo").args(["--version", "--verbose"]).output().ok()?);
    let sysroot = std::process::Command::new("rustc").args(["--print", "sysroot"]).output();
    let (Some(0), Ok(sysroot)) = (real.code, sysroot) else {
        skip("cargo is not installed");
        return None;
    };
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout).unwrap().trim());
    let mut caller = Caller::new();
    if sysroot.join("bin/cargo").is_file() && !sysroot.starts_with("/usr") {
        // Shown by its name: it may lie in the home of somebody else than this caller.
        caller.path(sysroot.join("bin").to_str().unwrap());
        let config = caller.p.top().join("config");
        std::fs::create_dir_all(&config).unwrap();
        let shown = format!("[defaults]\nro = [{:?}]\n", sysroot.to_str().unwrap());
        std::fs::write(config.join("config.toml"), shown).unwrap();
    }
    if caller.outside("cargo --version").code != Some(0) {
        skip("cargo is not where its tool chain is");
        return None;
    }
    if caller.inside(&[], "cargo --version").code != Some(0) {
        skip("no jail has the cargo of this machine");
        return None;
    }
    Some(caller)
}

/// A project that needs the crate `warm` and a git dependency, built outside: caches and `target` are warm.
fn warm_project(caller: &mut Caller, registry: &Registry) {
    registry.with_crate();
    let outside = |script: &str| {
        let ran = caller.outside(script);
        assert_eq!(ran.code, Some(0), "{script}\n{ran:#?}");
    };
    let git = "git -c user.name=a -c user.email=a@b -c init.defaultBranch=main";
    let dep = caller.p.top().join("dep");
    std::fs::create_dir_all(dep.join("src")).unwrap();
    std::fs::write(
        dep.join("Cargo.toml"),
        "[package]\nname = \"gitdep\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    )
    .unwrap();
    std::fs::write(dep.join("src/lib.rs"), "pub fn word() -> &'static str { \"from git\" }\n").unwrap();
    outside(&format!("cd {} && {git} init -q && {git} add . && {git} commit -qm x", dep.display()));
    caller.p.write(
        ".cargo/config.toml",
        format!("[registries.own]\nindex = \"sparse+{}/index/\"\n", registry.url),
    );
    caller.p.write(
        "Cargo.toml",
        format!(
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
             warm = {{ version = \"1\", registry = \"own\" }}\ngitdep = {{ git = \"file://{}\" }}\n",
            dep.display()
        ),
    );
    caller.p.write("src/main.rs", "fn main() { println!(\"{}, {}\", warm::word(), gitdep::word()) }\n");
    outside("cargo build 2>&1");
    std::fs::remove_dir_all(dep).unwrap();
}

/// Lines of cargo that say what was compiled.
fn compiled(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().map(str::trim).filter(|l| l.starts_with("Compiling") || l.contains("Dirty")).collect()
}

#[test]
fn cargo_builds_offline_and_recompiles_nothing_in_both_directions() {
    let Some(mut caller) = with_cargo() else { return };
    let registry = Registry::new();
    warm_project(&mut caller, &registry);
    let before = snapshot(&caller.home.join(".cargo"));
    // The whole of `target` is that of the host.
    let ran = caller.inside(BUILD, "cargo build --offline --verbose && target/debug/app");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from the registry, from git\n"), "{ran:#?}");
    assert_eq!(compiled(&ran), [""; 0], "{ran:#?}");
    // From nothing, without a network and without the server.
    let ran = caller
        .inside(BUILD, "rm -rf target && cargo build --offline && target/debug/app && cargo build --offline");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from the registry, from git\n"), "{ran:#?}");
    assert_eq!(compiled(&ran).len(), 3, "once each: {ran:#?}");
    // The presets are what brings the caches, and a flag takes them away.
    for flags in [&[][..], &["--preset", "build", "--best-effort", "--caches", "none"]] {
        let ran = caller.inside(flags, "rm -rf target && cargo build --offline");
        assert_eq!(ran.code, Some(101), "{flags:?}: {ran:#?}");
    }
    assert_eq!(snapshot(&caller.home.join(".cargo")), before);
    // What is built inside is used outside: applied, or written there.
    for (flags, edit) in [(&["--apply"][..], "// one"), (&["--rw"], "// two")] {
        let flags: Vec<&str> = BUILD.iter().chain(flags).copied().collect();
        let ran = caller.inside(&flags, &format!("echo '{edit}' >> src/main.rs && cargo build --offline"));
        assert_eq!((ran.code, compiled(&ran).len()), (Some(0), 1), "{flags:?}: {ran:#?}");
        let outside = caller.outside("cargo build --offline --verbose && target/debug/app");
        assert_eq!(outside.stdout, "from the registry, from git\n", "{outside:#?}");
        assert_eq!(compiled(&outside), [""; 0], "{flags:?}: {outside:#?}");
    }
}

#[test]
fn what_lies_beside_the_registry_is_not_there_and_cargo_may_write_its_own() {
    let Some(mut caller) = with_cargo() else { return };
    let registry = Registry::new();
    warm_project(&mut caller, &registry);
    caller
        .file(".cargo/credentials.toml", "secret")
        .file(".cargo/config.toml", "secret = 1")
        .file(".cargo/bin/x", "secret");
    let home = caller.home.display().to_string();
    let ran = caller.inside(
        BUILD,
        &format!("ls -A {home} {home}/.cargo; cat {home}/.cargo/c* {home}/.cargo/bin/x; echo $CARGO_HOME"),
    );
    assert_eq!(
        ran.stdout,
        format!("{home}:\n.cargo\n\n{home}/.cargo:\ngit\nregistry\n{home}/.cargo\n"),
        "{ran:#?}"
    );
    let ran = caller.inside(
        BUILD,
        "mkdir t && cd t && cargo init -q --name t && cargo install -q --offline --path . && $CARGO_INSTALL_ROOT/bin/t",
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Hello, world!\n"), "{ran:#?}");
    assert!(!caller.home.join(".cargo/bin/t").exists());
}

#[test]
fn npm_installs_offline_from_a_warm_cache() {
    if !has("npm") {
        return;
    }
    let caller = Caller::new();
    let registry = Registry::new();
    registry.with_package();
    caller.p.write(".npmrc", format!("registry={}/npm/\nupdate-notifier=false\n", registry.url));
    caller.p.write("package.json", r#"{"name":"app","version":"1.0.0","dependencies":{"warm":"1.0.0"}}"#);
    let ran = caller.outside("npm install 2>&1 && npx warm && rm -rf node_modules");
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let cache = caller.home.join(".npm/_cacache");
    let before = snapshot(&cache);
    assert!(before.len() > 5, "{before:#?}");
    let script = "npm ci --offline >log && npx warm && npm ci --prefer-offline >log";
    let ran = caller.inside(BUILD, script);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from the registry\n"), "{ran:#?}");
    assert_eq!(snapshot(&cache), before);
    assert_ne!(caller.inside(&[], "npm ci --offline").code, Some(0), "cold without the preset");
    // Beside the cache are what programs ran, and with which words.
    let ran =
        caller.inside(BUILD, &format!("ls -A {0}/.npm {0}/.npm/_cacache | head -2", caller.home.display()));
    assert_eq!(ran.stdout, format!("{0}/.npm:\n_cacache\n", caller.home.display()), "{ran:#?}");
    // The project's .npmrc decides nothing: the variable stands above it, and the place is inside.
    caller.p.write(".npmrc", format!("registry={}/npm/\ncache=/root\n", registry.url));
    let ran = caller.inside(BUILD, script);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from the registry\n"), "{ran:#?}");
}

#[test]
fn pip_finds_the_wheels_that_it_built() {
    let mut caller = Caller::new();
    let registry = Registry::new();
    let url = registry.with_sdist();
    if caller.outside("python3 -m venv venv && venv/bin/pip --version").code != Some(0) {
        return skip("python3 has no venv here");
    }
    let install = format!(
        "venv/bin/pip --disable-pip-version-check --retries 0 install --quiet --force-reinstall 'warm @ {url}'"
    );
    let ran = caller.outside(&format!("{install} && venv/bin/pip uninstall -qy warm"));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let wheels = caller.home.join(".cache/pip/wheels");
    let before = snapshot(&wheels);
    assert!(before.keys().any(|n| n.extension().is_some_and(|e| e == "whl")), "{before:#?}");
    caller.file(".config/pip/pip.conf", "[global]\nindex-url = https://me:secret@x\n");
    let script = format!("{install} && venv/bin/python -c 'import warm; print(warm.WORD)'");
    let ran = caller.inside(BUILD, &script);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from the index\n"), "{ran:#?}");
    assert_eq!(snapshot(&wheels), before);
    assert_ne!(caller.inside(&[], &script).code, Some(0), "cold without the preset");
    // Whole responses, with what was sent for them, are not shown.
    let beside = caller.inside(BUILD, &format!("ls -A {}/.cache/pip", caller.home.display()));
    assert_eq!(beside.stdout, "wheels\n", "{beside:#?}");
}

/// Root's own caches, over a checkout of somebody else.
#[test]
fn caches_of_root_work_over_a_checkout_of_another_user() {
    if !is_root() {
        return skip("only root may give a directory away");
    }
    let Some(mut caller) = with_cargo() else { return };
    let registry = Registry::new();
    warm_project(&mut caller, &registry);
    for entry in walkdir::WalkDir::new(caller.p.dir()) {
        std::os::unix::fs::lchown(entry.unwrap().path(), Some(4321), Some(4321)).unwrap();
    }
    let ran = caller.inside(
        BUILD,
        "rm -rf target && cargo build --offline && target/debug/app && touch $CARGO_HOME/registry/x",
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from the registry, from git\n"), "{ran:#?}");
}

#[test]
fn a_registry_and_flags_that_only_the_callers_configuration_has_are_known_inside() {
    let Some(mut caller) = with_cargo() else { return };
    let registry = Registry::new();
    warm_project(&mut caller, &registry);
    // The same as before, but in the caller's file, with what is nobody else's business beside it.
    let own = std::fs::read_to_string(caller.p.dir().join(".cargo/config.toml")).unwrap();
    std::fs::remove_file(caller.p.dir().join(".cargo/config.toml")).unwrap();
    let config = format!(
        "{own}token = \"SECRET\"\n[build]\nrustflags = [\"--cfg=own\"]\n[env]\nKEY = \"SECRET\"\n[alias]\nown = \"version\"\n"
    );
    caller.file(".cargo/config.toml", &config);
    caller.p.write(
        "src/main.rs",
        "fn main() { println!(\"{} {} {}\", warm::word(), gitdep::word(), cfg!(own)) }\n",
    );
    let outside = caller.outside("cargo build --offline 2>&1");
    assert_eq!(outside.code, Some(0), "{outside:#?}");
    let script = "cargo build --offline --verbose && target/debug/app; cat ~/.cargo/config.toml /.cargo/config.toml \
                  $CARGO_HOME/config.toml";
    let ran = caller.inside(BUILD, script);
    assert!(ran.stdout.starts_with("from the registry from git true\n"), "{ran:#?}");
    assert_eq!(compiled(&ran), Vec::<&str>::new(), "{ran:#?}");
    assert!(!ran.stdout.contains("SECRET") && ran.stdout.contains("--cfg=own"), "{ran:#?}");
    let lines: Vec<&str> = ran.stderr.lines().filter(|l| l.contains("`[env]`")).collect();
    assert!(lines.len() == 1 && lines[0].contains("(KEY)"), "{ran:#?}");
    // No program inside can change it for the next one.
    let ran = caller.inside(BUILD, "echo x > /.cargo/config.toml || rm -rf /.cargo; cat /.cargo/config.toml");
    assert!(ran.stdout.contains("--cfg=own"), "{ran:#?}");
    // Nothing of it without cargo; and no aliases, whose words may be keys.
    let without = ["--tools", "none", "--caches", "none"];
    let ran = caller.inside(&without, "ls -d /.cargo");
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    let ran = caller.inside(BUILD, "cargo own");
    assert_ne!(ran.code, Some(0), "{ran:#?}");
}
