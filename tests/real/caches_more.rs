//! Package caches of tools that a machine may have: those in the PATH of the tests.

use std::path::{Path, PathBuf};

use super::caches::BUILD;
use super::project::{has, is_root, skip, snapshot};
use super::registry::Registry;
use super::tools::Caller;
use crate::common::{Ran, aj};

/// A caller that has `program` of the tests' PATH, and what shows that to a jail. `None`, with the reason,
/// where there is none.
fn with(program: &str) -> Option<(Caller, Vec<String>)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    let Some(file) = file else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    let mut caller = Caller::new();
    let dir = file.parent().unwrap().canonicalize().unwrap();
    let mut flags: Vec<String> = BUILD.iter().map(|flag| (*flag).to_owned()).collect();
    if !dir.starts_with("/usr") {
        caller.path(dir.to_str().unwrap());
        // A link may lead to beside its directory, as those of npm do.
        let real = file.canonicalize().unwrap();
        let top = dir.ancestors().find(|dir| real.starts_with(dir)).unwrap();
        let top = if top.ends_with("bin") { top.parent().unwrap() } else { top };
        flags.push(format!("--ro={}", top.display()));
    }
    let version = if program == "go" { "version" } else { "--version" };
    if caller.outside(&format!("{program} {version}")).code != Some(0) {
        skip(&format!("{program} does not run in a home of its own"));
        return None;
    }
    Some((caller, flags))
}

/// The cache is made by `fill` outside; `offline` then works without a network in a jail, and not
/// without the cache; the cache stays what it was.
#[track_caller]
fn warm((caller, flags): &(Caller, Vec<String>), cache: &str, fill: &str, offline: &str, want: &str) {
    let filled = caller.outside(fill);
    assert_eq!(filled.code, Some(0), "{fill}\n{filled:#?}");
    let cache: PathBuf = caller.home.join(cache);
    let before = snapshot(&cache);
    assert!(before.len() > 1, "{}: {before:#?}", cache.display());
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ran = caller.inside(&flags, offline);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), want), "{offline}\n{ran:#?}");
    assert_eq!(snapshot(&cache), before);
    flags.extend(["--caches", "none"]);
    let cold = caller.inside(&flags, offline);
    assert_ne!((cold.code, cold.stdout.as_str()), (Some(0), want), "cold: {cold:#?}");
}

fn node_project(caller: &Caller) -> Registry {
    let registry = Registry::new();
    registry.with_package();
    caller.p.write(".npmrc", format!("registry={}/npm/\n", registry.url));
    caller.p.write("package.json", r#"{"name":"app","version":"1.0.0","dependencies":{"warm":"1.0.0"}}"#);
    registry
}

#[test]
fn pnpm_installs_offline() {
    let Some(tool) = with("pnpm") else { return };
    let _registry = node_project(&tool.0);
    warm(
        &tool,
        ".local/share/pnpm/store",
        "pnpm install 2>&1 && mv node_modules made-outside",
        "pnpm install --offline --frozen-lockfile >log && node -p 'require(\"warm\")'",
        "from the registry\n",
    );
    // And over node_modules of the host, which names the store by its path.
    let flags: Vec<&str> = tool.1.iter().map(String::as_str).collect();
    let ran = tool.0.inside(&flags, "mv made-outside node_modules && pnpm install --offline --frozen-lockfile && node -p 'require(\"warm\")'");
    assert!(ran.code == Some(0) && ran.stdout.contains("Already up to date"), "{ran:#?}");
}

#[test]
fn yarn_installs_offline() {
    let Some(mut tool) = with("yarn") else { return };
    if is_root() {
        // Root's is below /usr/local/share otherwise.
        tool.0.var("YARN_CACHE_FOLDER", "~/.cache/yarn");
    }
    let registry = node_project(&tool.0);
    let classic = tool.0.outside("yarn --version").stdout.starts_with("1.");
    let (cache, install, offline) = if classic {
        tool.0.p.write(".yarnrc", format!("registry \"{}/npm/\"\n", registry.url));
        let install = "yarn install --non-interactive";
        (".cache/yarn", install.to_owned(), format!("{install} --offline --frozen-lockfile"))
    } else {
        let settings = "enableTelemetry: false\nnodeLinker: node-modules\nunsafeHttpWhitelist: [127.0.0.1]\n";
        tool.0.p.write(".yarnrc.yml", format!("{settings}npmRegistryServer: \"{}/npm/\"\n", registry.url));
        let offline = "YARN_ENABLE_NETWORK=0 yarn install --immutable".to_owned();
        (".yarn/berry/cache", "yarn install --no-immutable".to_owned(), offline)
    };
    let fill = format!("{install} 2>&1 && rm -rf node_modules .yarn");
    let offline = format!("{offline} >log && node -p 'require(\"warm\")'");
    warm(&tool, cache, &fill, &offline, "from the registry\n");
}

#[test]
fn bun_installs_from_its_cache() {
    let Some(tool) = with("bun") else { return };
    let _registry = node_project(&tool.0);
    warm(
        &tool,
        ".bun/install/cache",
        "bun install 2>&1 && rm -rf node_modules",
        "bun install --frozen-lockfile >log && node -p 'require(\"warm\")'",
        "from the registry\n",
    );
}

#[test]
fn uv_installs_offline() {
    if !has("python3") {
        return;
    }
    let Some(tool) = with("uv") else { return };
    let registry = Registry::new();
    let url = registry.with_sdist();
    let install = format!(
        "uv venv -q --clear --python /usr/bin/python3 env && VIRTUAL_ENV=env uv pip install -q 'warm @ {url}'"
    );
    warm(
        &tool,
        ".cache/uv",
        &format!("{install} 2>&1"),
        &format!(
            "{} && env/bin/python -c 'import warm; print(warm.WORD)'",
            install.replace(" -q", " -q --offline")
        ),
        "from the index\n",
    );
}

/// A repository laid out by hand: the parent of a project, as `mvn` keeps what it downloaded.
#[test]
fn maven_finds_a_parent_in_the_local_repository_wherever_it_is() {
    if !has("mvn") {
        return;
    }
    let pom = |more: &str, name: &str| {
        format!(
            "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>{more}\
             <groupId>org.example</groupId><artifactId>{name}</artifactId><version>1.0</version>\
             <packaging>pom</packaging></project>\n"
        )
    };
    let parent =
        "<parent><groupId>org.example</groupId><artifactId>base</artifactId><version>1.0</version></parent>";
    for (repository, options) in [(".m2/repository", ""), ("elsewhere/m2", "-Dmaven.repo.local=")] {
        let mut caller = Caller::new();
        caller.file(&format!("{repository}/org/example/base/1.0/base-1.0.pom"), &pom("", "base"));
        caller.file(".m2/settings.xml", "<settings/>");
        caller.p.write("pom.xml", pom(parent, "app"));
        let script = "mvn -B -o -q validate && echo valid; ls ~/.m2/settings.xml";
        if !options.is_empty() {
            caller.var("MAVEN_OPTS", &format!("{options}{}", caller.home.join(repository).display()));
        }
        // Java takes the home directory from the passwd file, not from HOME.
        let outside =
            caller.outside(&format!("export MAVEN_OPTS=\"$MAVEN_OPTS -Duser.home=$HOME\"; {script}"));
        assert!(outside.stdout.contains("valid\n"), "{outside:#?}");
        let ran = caller.inside(BUILD, script);
        assert!(ran.stdout.ends_with("valid\n"), "{repository}: {ran:#?}");
        assert!(!caller.inside(&[], script).stdout.contains("valid"), "cold");
    }
}

#[test]
fn go_builds_offline_and_compiles_nothing_again() {
    if !has("python3") {
        return;
    }
    let Some(tool) = with("go") else { return };
    let (caller, flags) = &tool;
    // A proxy of modules as files, which only the host has.
    let proxy = caller.p.top().join("proxy/example.org/warm/@v");
    std::fs::create_dir_all(&proxy).unwrap();
    std::fs::write(proxy.join("list"), "v1.0.0\n").unwrap();
    std::fs::write(proxy.join("v1.0.0.info"), r#"{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}"#)
        .unwrap();
    std::fs::write(proxy.join("v1.0.0.mod"), "module example.org/warm\n\ngo 1.18\n").unwrap();
    let zip = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w'); top = 'example.org/warm@v1.0.0/'; \
               z.writestr(top + 'go.mod', 'module example.org/warm\\n\\ngo 1.18\\n'); \
               z.writestr(top + 'warm.go', 'package warm\\n\\nconst Word = \"from the proxy\"\\n'); z.close()";
    let done = caller.command("python3").args(["-c", zip]).arg(proxy.join("v1.0.0.zip")).status();
    assert!(done.unwrap().success());
    caller.p.write("go.mod", "module example.org/app\n\ngo 1.18\n\nrequire example.org/warm v1.0.0\n");
    caller.p.write("main.go", "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.org/warm\"\n)\n\nfunc main() { fmt.Println(warm.Word) }\n");
    let fill = format!(
        "GOPROXY=file://{}/proxy GONOSUMDB=example.org GOFLAGS=-mod=mod go build -o app . 2>&1 && rm app",
        caller.p.top().display()
    );
    let filled = caller.outside(&fill);
    assert_eq!(filled.code, Some(0), "{filled:#?}");
    std::fs::remove_dir_all(caller.p.top().join("proxy")).unwrap();
    let before = snapshot(&caller.home.join(".cache/go-build"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    // What is compiled is named by -x; linking is not cached.
    let ran = caller.inside(&flags, "go build -x -o app . 2>&1 | grep -c '/compile '; ./app");
    assert_eq!(ran.stdout, "0\nfrom the proxy\n", "{ran:#?}");
    assert_eq!(snapshot(&caller.home.join(".cache/go-build")), before);
    assert_ne!(caller.inside(&[], "go build -o app .").code, Some(0), "cold");
    // Modules are read-only, and a directory for temporary files is removed by whoever made it.
    caller.outside("chmod -R u+w ~/go");
}

#[test]
fn ccache_hits_what_the_host_compiled() {
    if !has("gcc") {
        return;
    }
    let Some(tool) = with("ccache") else { return };
    let (caller, flags) = &tool;
    caller.p.write("a.c", "int main(void) { return 0; }\n");
    assert_eq!(caller.outside("ccache gcc -c a.c && rm a.o").code, Some(0));
    let cache =
        [".cache/ccache", ".ccache"].map(|dir| caller.home.join(dir)).into_iter().find(|d| d.is_dir());
    let before = snapshot(cache.as_deref().unwrap());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ran = caller.inside(&flags, "CCACHE_LOGFILE=log ccache gcc -c a.c && grep -c -E 'Result: direct_cache_hit|Succeeded getting cached result' log");
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(snapshot(cache.as_deref().unwrap()), before);
}

/// What a build left stays valid when it is taken to the other side.
#[test]
fn build_trees_made_inside_are_valid_outside() {
    if !(has("cmake") && has("gcc") && has("make") && has("python3")) {
        return;
    }
    let caller = Caller::new();
    caller.p.write("a.c", "int main(void) { return 0; }\n");
    caller.p.write("CMakeLists.txt", "cmake_minimum_required(VERSION 3.10)\nproject(a C)\nset(CMAKE_EXPORT_COMPILE_COMMANDS ON)\nadd_executable(a a.c)\n");
    let script = "cmake -S . -B build >/dev/null && cmake --build build >/dev/null && \
                  python3 -m venv --without-pip env && printf '#!%s/env/bin/python\\nprint(1)\\n' \"$PWD\" > env/bin/mine && \
                  chmod +x env/bin/mine && cat build/compile_commands.json";
    let inside = caller.inside(BUILD, script);
    assert_eq!(inside.code, Some(0), "{inside:#?}");
    // The Makefile is one of those that the host runs.
    let apply = ["apply", "@", "--allow-exec-files"];
    let applied = Ran::from(caller.command(aj().to_str().unwrap()).args(apply).output().unwrap());
    assert_eq!(applied.code, Some(0), "{applied:#?}");
    let commands: serde_json::Value = serde_json::from_str(&inside.stdout).unwrap();
    let dir = caller.p.dir().canonicalize().unwrap();
    let place = |key: &str| PathBuf::from(commands[0][key].as_str().unwrap());
    assert_eq!((place("directory"), place("file")), (dir.join("build"), dir.join("a.c")));
    let outside =
        caller.outside("cmake --build build && build/a && env/bin/mine && cat build/compile_commands.json");
    assert!(outside.code == Some(0) && !outside.stdout.contains("Building"), "{outside:#?}");
    assert!(outside.stdout.contains("\n1\n") && outside.stdout.ends_with(&inside.stdout), "{outside:#?}");
    assert!(Path::new(&dir).join("env/bin/mine").exists());
}
