//! The caller's tool chains, laid out as their installers do: they run inside as they do outside, and
//! what lies beside them is not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::project::{Project, SYSTEM_PATH, skip};
use crate::common::{Ran, aj};

/// A caller with a home of its own, and a PATH that leads to the tools in it.
pub struct Caller {
    pub p: Project,
    pub home: PathBuf,
    path: Vec<String>,
    vars: Vec<(String, String)>,
}

impl Caller {
    pub fn new() -> Caller {
        let p = Project::new();
        // As the kernel knows it: a directory for temporary files may lie behind a link.
        let home = p.top().join("home").canonicalize().unwrap();
        Caller { p, home, path: Vec::new(), vars: Vec::new() }
    }

    /// The same; `None` where there are no jails.
    pub fn in_jails() -> Option<Caller> {
        let caller = Caller::new();
        if caller.inside(&["--tools", "none"], "true").code == Some(0) {
            return Some(caller);
        }
        crate::common::no_jails("there are no jails on this machine");
        None
    }

    /// With secrets beside what jails are shown.
    pub fn with_secrets(mut self) -> Caller {
        self.file(".aws/credentials", "the-secret\n").file(".ssh/id_ed25519", "the-secret\n");
        self
    }

    /// The secret is read outside by each of these names, and inside by none. `after`: what the script
    /// says at its end.
    #[track_caller]
    pub fn out_of_reach(&self, flags: &[&str], names: &[&str], after: &str) -> Ran {
        let names: Vec<String> = names.iter().map(|n| format!("{}/{n}", self.home.display())).collect();
        for name in &names {
            assert_eq!(self.outside(&format!("cat '{name}'")).stdout, "the-secret\n", "{name} outside");
        }
        let script =
            format!("cat {}; grep -rs the-secret {} /home{after}", names.join(" "), self.home.display());
        let ran = self.inside(flags, &script);
        assert!(!ran.stdout.contains("the-secret"), "{ran:#?}");
        ran
    }

    /// `aj` with these words.
    pub fn aj(&self, words: &[&str]) -> Ran {
        Ran::from(self.command(aj().to_str().unwrap()).args(words).output().unwrap())
    }

    /// An entry of PATH, below the home directory unless absolute.
    pub fn path(&mut self, entry: &str) -> &mut Caller {
        let entry = self.home.join(entry).to_str().unwrap().to_owned();
        self.path.push(entry);
        self
    }

    /// A variable; `~/` is the home directory.
    pub fn var(&mut self, name: &str, value: &str) -> &mut Caller {
        let value = match value.strip_prefix("~/") {
            Some(rest) => format!("{}/{rest}", self.home.display()),
            None => value.to_owned(),
        };
        self.vars.push((name.to_owned(), value));
        self
    }

    /// A file below the home directory, with its parents.
    pub fn file(&mut self, name: &str, text: &str) -> &mut Caller {
        let path = self.home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// A program there: a script of sh. It is written by another process, because executing a file
    /// that a process just forked has open for writing is ETXTBSY.
    pub fn program(&mut self, name: &str, script: &str) -> &mut Caller {
        let path = self.home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = "umask 022; printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\"; chmod 755 \"$1\"";
        let done = Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(script).status();
        assert!(done.unwrap().success());
        self
    }

    /// A link there.
    pub fn link(&mut self, target: impl AsRef<Path>, name: &str) -> &mut Caller {
        let path = self.home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
        self
    }

    /// A program of the host, or `aj`, with the caller's PATH and variables.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.p.command(program);
        let mut path = self.path.clone();
        path.push(SYSTEM_PATH.to_owned());
        command.env("HOME", &self.home).env("PATH", path.join(":"));
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `aj exec FLAGS -- sh -c SCRIPT`.
    pub fn inside(&self, flags: &[&str], script: &str) -> Ran {
        let mut command = self.command(aj().to_str().unwrap());
        command.args(["exec", "--timeout", "60s"]).args(flags).args(["--", "sh", "-c", script]);
        Ran::from(command.output().unwrap())
    }

    /// The same outside.
    pub fn outside(&self, script: &str) -> Ran {
        Ran::from(self.command("/bin/sh").args(["-c", script]).output().unwrap())
    }

    /// The script says the same inside and outside, and succeeds.
    #[track_caller]
    pub fn same(&self, script: &str) {
        let (inside, outside) = (self.inside(&[], script), self.outside(script));
        assert_eq!(outside.code, Some(0), "outside: {script}\n{outside:#?}");
        assert_eq!((inside.code, &inside.stdout), (Some(0), &outside.stdout), "{script}\n{inside:#?}");
    }

    /// Names of the tool chains that are shown, and warnings, as `--dry-run` says.
    pub fn explained(&self, flags: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut command = self.command(aj().to_str().unwrap());
        let ran = command.args(["exec", "--dry-run", "--json"]).args(flags).args(["--", "true"]).output();
        let ran = Ran::from(ran.unwrap());
        let document: serde_json::Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:#?}"));
        let words = |list: &serde_json::Value, key: Option<&str>| -> Vec<String> {
            let word = |item: &serde_json::Value| {
                let item = key.map_or(item, |key| &item[key]);
                item.as_str().unwrap().to_owned()
            };
            list.as_array().unwrap().iter().map(word).collect()
        };
        (words(&document["tools"], Some("name")), words(&document["warnings"], None))
    }
}

/// Says which file it is, so that inside and outside can be compared.
const SELF: &str = "echo \"$0 $*\"";

/// What stands in each: a comment to whoever takes it for configuration.
const SECRET: &str = "#a key";
/// What `npm config set -g`, `uv auth`, `cargo login` and people leave beside tools.
const SECRETS: &[&str] = &[
    ".cargo/credentials.toml",
    ".npmrc",
    ".gem/credentials",
    ".m2/settings.xml",
    ".config/pip/pip.conf",
    ".docker/config.json",
    ".aws/credentials",
    ".ssh/id_ed25519",
    ".local/share/uv/credentials/credentials.toml",
    ".config/mise/config.toml",
    ".cabal/config",
    ".dotnet/corefx/cryptography/x509stores/my/key.pfx",
    ".volta/hooks.json",
    ".bunfig.toml",
    ".conda/.condarc",
    "miniconda3/.condarc",
    "miniconda3/envs/e/.condarc",
    ".nvm/.git/config",
    ".nvm/versions/node/v20.1.0/etc/npmrc",
    ".volta/tools/image/node/20.1.0/etc/npmrc",
    ".asdf/installs/nodejs/20.1.0/etc/npmrc",
    ".local/share/mise/installs/node/20.1.0/etc/npmrc",
    ".pyenv/.git/config",
    ".pyenv/versions/3.12.1/pip.conf",
    ".local/share/uv/python/cpython-3.12.1-linux-x86_64-gnu/pip.conf",
    ".local/share/pipx/venvs/black/pip.conf",
    ".local/share/pypoetry/venv/pip.conf",
    ".rbenv/versions/3.3.0/etc/gemrc",
    ".asdf/installs/ruby/3.3.0/etc/gemrc",
    ".nvm/versions/node/v20.1.0/lib/node_modules/npm/npmrc",
    ".volta/tools/image/node/20.1.0/lib/node_modules/npm/npmrc",
    ".volta/tools/image/npm/10.1.0/npmrc",
    ".asdf/installs/nodejs/20.1.0/lib/node_modules/npm/npmrc",
    ".local/share/mise/installs/node/20.1.0/lib/node_modules/npm/npmrc",
    "go/bin/.env",
    "go/bin/.env.local",
    "go/src/private/key.go",
    "go/pkg/mod/private/key.go",
];

/// `(tool chain, its files: path and script, entries of PATH, what to run)`.
type Layout = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static str);

const LAYOUTS: &[Layout] = &[
    // nvm: a directory a version, the active one in PATH; the default is a file that names another.
    (
        "nvm",
        &[(".nvm/versions/node/v20.1.0/bin/node", SELF), (".nvm/versions/node/v18.0.0/bin/node", SELF)],
        &[".nvm/versions/node/v20.1.0/bin"],
        "node a; $(dirname $(dirname $(dirname $(command -v node))))/v18.0.0/bin/node b; cat $NVM_DIR/alias/default",
    ),
    // volta: shims are links to one program, which reads what is the default and starts the image.
    (
        "volta",
        &[
            (
                ".volta/bin/volta-shim",
                "v=$(cat \"$(dirname \"$0\")/../tools/user/platform.json\") && \
                 test -e \"$(dirname \"$0\")/../layout.v4\" && \
                 exec \"$(dirname \"$0\")/../tools/image/node/$v/bin/$(basename \"$0\")\" \"$@\"",
            ),
            (".volta/tools/image/node/20.1.0/bin/node", SELF),
        ],
        &[".volta/bin"],
        "node x | sed 's,/bin/../,/,'",
    ),
    (
        "bun",
        &[(".bun/bin/bun", SELF), (".bun/install/global/node_modules/x/x", SELF)],
        &[".bun/bin"],
        "bun 1; x 2",
    ),
    ("deno", &[(".deno/bin/deno", SELF)], &[".deno/bin"], "deno 1"),
    // pyenv: a shim starts pyenv, which finds the version in the project or in `version`.
    (
        "pyenv",
        &[
            (".pyenv/shims/python", "exec \"$PYENV_ROOT/libexec/pyenv\" exec python \"$@\""),
            (
                ".pyenv/libexec/pyenv",
                "v=$(cat .python-version 2>&- || cat \"$PYENV_ROOT/version\"); shift; p=$1; shift; \
                 exec \"$PYENV_ROOT/versions/$v/bin/$p\" \"$@\"",
            ),
            (".pyenv/versions/3.12.1/bin/python", SELF),
        ],
        &[".pyenv/shims", ".pyenv/bin"],
        "python 1",
    ),
    ("rbenv", &[(".rbenv/shims/ruby", SELF)], &[".rbenv/shims"], "ruby 1"),
    // uv: links in ~/.local/bin to tools in virtual environments, whose Python is one of uv's own.
    (
        "uv",
        &[
            (
                ".local/share/uv/tools/ruff/bin/ruff",
                "cd \"$(dirname \"$(readlink -f \"$0\")\")/../../../python\" && exec */bin/python \"$@\"",
            ),
            (".local/share/uv/python/cpython-3.12.1-linux-x86_64-gnu/bin/python", "echo python $*"),
        ],
        &[".local/bin"],
        "ruff 1",
    ),
    ("pipx", &[(".local/share/pipx/venvs/black/bin/black", "echo black $*")], &[".local/bin"], "black 1"),
    // poetry: the installer's link leads to an environment of its own.
    ("poetry", &[(".local/share/pypoetry/venv/bin/poetry", "echo poetry $*")], &[".local/bin"], "poetry 1"),
    // conda: the base installation and its environments.
    (
        "conda",
        &[
            ("miniconda3/bin/python", SELF),
            ("miniconda3/condabin/conda", SELF),
            ("miniconda3/envs/e/bin/python", SELF),
            ("miniconda3/lib/x", ""),
        ],
        &["miniconda3/envs/e/bin", "miniconda3/condabin"],
        "python 1; conda 2; echo $CONDA_PREFIX",
    ),
    // asdf: a shim names its versions and starts asdf, which reads .tool-versions, at last in ~.
    (
        "asdf",
        &[
            (".asdf/shims/node", "exec \"$(dirname \"$0\")/../bin/asdf\" exec node \"$@\""),
            (
                ".asdf/bin/asdf",
                "v=$(sed -n 's/^nodejs //p' .tool-versions 2>&- || sed -n 's/^nodejs //p' ~/.tool-versions); \
                 shift 2; exec \"$ASDF_DATA_DIR/installs/nodejs/$v/bin/node\" \"$@\"",
            ),
            (".asdf/installs/nodejs/20.1.0/bin/node", SELF),
        ],
        &[".asdf/shims"],
        "node 1",
    ),
    (
        "mise",
        &[(".local/share/mise/installs/node/20.1.0/bin/node", SELF)],
        &[".local/share/mise/installs/node/20.1.0/bin"],
        "node 1",
    ),
    (
        "sdkman",
        &[(".sdkman/candidates/java/21.0.2-tem/bin/java", SELF)],
        &[".sdkman/candidates/java/21.0.2-tem/bin"],
        "java 1",
    ),
    (
        "go",
        &[("sdk/go1.22.0/bin/go", SELF), ("go/bin/gopls", SELF)],
        &["sdk/go1.22.0/bin", "go/bin"],
        "go 1; gopls 2",
    ),
    (
        "dotnet",
        &[(".dotnet/dotnet", SELF), (".dotnet/tools/t", SELF)],
        &[".dotnet", ".dotnet/tools"],
        "dotnet 1; t 2",
    ),
    ("ghcup", &[(".ghcup/ghc/9.4.7/bin/ghc", "echo ghc $*")], &[".ghcup/bin"], "ghc 1"),
    // juliaup: the launcher writes a lock beside the versions, in the home directory.
    (
        "juliaup",
        &[
            (
                ".juliaup/bin/julia",
                "touch ~/.julia/juliaup/.juliaup-lock && exec ~/.julia/juliaup/julia-1.10.4/bin/julia",
            ),
            (".julia/juliaup/julia-1.10.4/bin/julia", "echo julia"),
        ],
        &[".juliaup/bin"],
        "julia",
    ),
    ("local-bin", &[(".local/bin/mine", SELF)], &[".local/bin"], "mine 1"),
    ("home-bin", &[("bin/mine", SELF)], &["bin"], "mine 1"),
];

fn lay_out(caller: &mut Caller, (_, programs, path, _): &Layout) {
    for secret in SECRETS {
        caller.file(secret, SECRET);
    }
    caller.file(".nvm/alias/default", "v18.0.0").var("NVM_DIR", "~/.nvm");
    caller.file(".pyenv/version", "3.12.1").file(".tool-versions", "nodejs 20.1.0\n");
    caller.file(".volta/layout.v4", "").file(".volta/tools/user/platform.json", "20.1.0");
    for (name, script) in *programs {
        caller.program(name, script);
    }
    for entry in *path {
        caller.path(entry);
    }
    let links = [
        ("volta-shim", ".volta/bin/node"),
        ("../install/global/node_modules/x/x", ".bun/bin/x"),
        ("../share/uv/tools/ruff/bin/ruff", ".local/bin/ruff"),
        ("../share/pipx/venvs/black/bin/black", ".local/bin/black"),
        ("../share/pypoetry/venv/bin/poetry", ".local/bin/poetry"),
        ("../ghc/9.4.7/bin/ghc", ".ghcup/bin/ghc"),
    ];
    for (target, name) in links {
        caller.link(target, name);
    }
    let pyenv = format!("{}/.pyenv", caller.home.display());
    let asdf = format!("{}/.asdf", caller.home.display());
    caller.var("PYENV_ROOT", &pyenv).var("ASDF_DATA_DIR", &asdf);
}

#[test]
fn each_tool_chain_runs_as_it_does_outside_and_no_secret_beside_it_is_there() {
    if Caller::in_jails().is_none() {
        return;
    }
    for layout in LAYOUTS {
        let (name, _, _, script) = layout;
        let mut caller = Caller::new();
        lay_out(&mut caller, layout);
        if *name == "conda" {
            caller.var("CONDA_PREFIX", "~/miniconda3/envs/e");
        }
        let (names, warnings) = caller.explained(&[]);
        assert!(names.iter().any(|n| n == name) && warnings.is_empty(), "{name}: {names:?} {warnings:?}");
        caller.same(script);
        // Teeth: each of these is read outside, and the program is written there.
        let home = caller.home.display().to_string();
        let secrets: Vec<String> = SECRETS.iter().map(|s| format!("{home}/{s}")).collect();
        let program = script.split(' ').next().unwrap();
        let attack = format!(
            "cat {} 2>&- | wc -c; echo '#' >> $(command -v {program}) && echo written",
            secrets.join(" ")
        );
        let inside = caller.inside(&[], &attack);
        let lines: Vec<&str> = inside.stdout.lines().collect();
        assert!(lines.first() == Some(&"0") && !lines.contains(&"written"), "{name}: {inside:#?}");
        let outside = caller.outside(&attack);
        let all = (SECRET.len() * SECRETS.len()).to_string();
        assert!(outside.stdout.starts_with(&format!("{all}\nwritten\n")), "{name}: {outside:#?}");
        let without = caller.inside(&["--tools", "none"], &format!("ls -A {home}/*"));
        assert_ne!(without.code, Some(0), "{name}: {without:#?}");
    }
}

/// fnm puts a link of each shell in PATH, in the directory for sockets and the like.
#[test]
fn an_entry_of_path_that_is_a_link_into_the_catalogue_keeps_its_name() {
    let mut caller = Caller::new();
    caller.program(".local/share/fnm/node-versions/v20.1.0/installation/bin/node", "echo $0");
    caller.file(".local/share/fnm/node-versions/v20.1.0/installation/etc/npmrc", "secret");
    let installation = caller.home.join(".local/share/fnm/node-versions/v20.1.0/installation");
    let shell = caller.p.top().canonicalize().unwrap().join("run/fnm_multishells/1_2");
    caller.link(&installation, shell.to_str().unwrap()).path(&format!("{}/bin", shell.display()));
    caller.same("node; command -v node");
    assert_eq!(caller.explained(&[]).0, ["fnm"]);
    assert_eq!(caller.inside(&[], &format!("cat {}/etc/npmrc", installation.display())).stdout, "");
    // A profile of Nix is such a link as well, and a home directory that is one.
    let name = caller.p.top().canonicalize().unwrap().join("me");
    caller.link(caller.home.clone(), name.to_str().unwrap()).program(".cargo/bin/cargo", "echo $0");
    let path = format!("{}/.cargo/bin:{SYSTEM_PATH}", name.display());
    let mut command = caller.command(aj().to_str().unwrap());
    command.args(["exec", "--", "sh", "-c", "cargo; echo $PATH"]).env("HOME", &name).env("PATH", &path);
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.stdout, format!("{}/.cargo/bin/cargo\n{path}\n", name.display()), "{ran:#?}");
}

/// The tests' own machine: rustup's proxies, and shims of pyenv, as their installers left them.
#[test]
fn real_rustup_and_pyenv_work_where_the_machine_has_them() {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return skip("there is no HOME") };
    let mut caller = Caller::new();
    caller.home = home.canonicalize().unwrap_or(home);
    if caller.home.join(".rustup/toolchains").is_dir() && caller.home.join(".cargo/bin/cargo").exists() {
        caller.path(".cargo/bin");
        caller.same("cargo --version; rustc --version");
        caller.p.write("Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        caller.p.write("src/main.rs", "fn main() { println!(\"built\") }\n");
        let ran =
            caller.inside(&[], "cargo build --offline --quiet && target/debug/tiny && touch ~/.cargo/x");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "built\n"), "{ran:#?}");
        let beside = caller.inside(&[], &format!("ls -A {}/.cargo", caller.home.display()));
        assert_eq!(beside.stdout, "bin\n");
    } else {
        skip("rustup is not installed in this home directory");
    }
    if caller.home.join(".pyenv/shims/python3").exists() {
        caller.path(".pyenv/shims");
        caller.same("python3 -c 'import ssl, sys; print(sys.version, sys.prefix)'");
    } else {
        skip("pyenv is not installed in this home directory");
    }
}

#[test]
fn the_settings_of_an_installed_maven_are_an_empty_document() {
    let Some(mut caller) = Caller::in_jails() else { return };
    let settings = ".sdkman/candidates/maven/3.9.6/conf/settings.xml";
    caller.program(".sdkman/candidates/maven/3.9.6/bin/mvn", SELF).path(".sdkman/candidates/maven/3.9.6/bin");
    caller.file(
        settings,
        "<settings><servers><server><password>SECRET</password></server></servers></settings>",
    );
    let settings = format!("{}/{settings}", caller.home.display());
    let ran = caller.inside(&[], &format!("mvn 1 >&2; cat {settings}; echo x > {settings}"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), "<settings/>\n"), "{ran:#?}");
    assert!(caller.outside(&format!("cat {settings}")).stdout.contains("SECRET"));
}

#[test]
fn a_variable_that_names_no_virtual_environment_shows_nothing() {
    let Some(mut caller) = Caller::in_jails() else { return };
    caller.program("srv/bin/python", SELF).file("srv/lib/secret", "the-secret\n");
    caller.var("VIRTUAL_ENV", "~/srv").path("srv/bin");
    let script = format!("cat {}/srv/lib/secret; echo $VIRTUAL_ENV", caller.home.display());
    assert_eq!(caller.inside(&[], &script).stdout, "\n");
    // Teeth: what makes it one is that file.
    caller.file("srv/pyvenv.cfg", "home = /usr/bin\n");
    assert_eq!(caller.inside(&[], &script).stdout, format!("the-secret\n{}/srv\n", caller.home.display()));
}
