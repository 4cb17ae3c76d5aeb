//! The caller's tools as a way to what lies beside them: links, variables, entries of PATH, files of the
//! project. Outside, each of the secrets is read by the same name.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::Ran;
use crate::real::project::{is_root, skip};
use crate::real::tools::Caller;

/// A caller with a secret, or `None` where there are no jails.
fn caller() -> Option<Caller> {
    Caller::in_jails().map(Caller::with_secrets)
}

/// The secret is read outside by each of these names, and inside by none.
#[track_caller]
fn out_of_reach(caller: &Caller, names: &[&str]) -> Ran {
    caller.out_of_reach(&[], names, "")
}

#[test]
fn a_tool_directory_that_leads_to_secrets_is_refused_by_name() {
    for (entry, target, told) in [
        (".cargo/bin", "../.aws", "`~/.cargo/bin` of the tools `rustup` is not shown: it leads to `~/.aws`"),
        (
            ".local/bin",
            "../.ssh",
            "`~/.local/bin` of the tools `local-bin` is not shown: it leads to `~/.ssh`",
        ),
        ("bin", ".", "`~/bin` of the tools `home-bin` is not shown: it has your home directory in it"),
        (".nvm", ".", "`~/.nvm` of the tools `nvm` is not shown: it has your home directory in it"),
        (".bun/bin", "..", "`~/.bun/bin` of the tools `bun` is not shown: it has your home directory in it"),
        (
            ".deno/bin",
            "/",
            "`~/.deno/bin` of the tools `deno` is not shown: it has your home directory in it",
        ),
    ] {
        let Some(mut caller) = caller() else { return };
        caller.link(target, entry).path(entry);
        let name = match target {
            "../.aws" => format!("{entry}/credentials"),
            "../.ssh" => format!("{entry}/id_ed25519"),
            "/" => format!("{entry}{}/.aws/credentials", caller.home.display()),
            _ => format!("{entry}/.aws/credentials"),
        };
        let ran = out_of_reach(&caller, &[&name]);
        assert!(ran.stderr.contains(told), "{told}\n{ran:#?}");
    }
    // Nor one that leads to a place of nobody's tools, while one within the catalogue is followed.
    let Some(mut caller) = caller() else { return };
    caller.program("documents/bin/x", "echo x").link("../documents/bin", ".deno/bin").path(".deno/bin");
    caller.program(".bun/bin/y", "echo $0").link("../.bun/bin", ".volta/bin").path(".volta/bin");
    let ran = caller.inside(&[], "y; x");
    assert_eq!(ran.stdout, format!("{}/.volta/bin/y\n", caller.home.display()), "{ran:#?}");
    assert!(ran.stderr.contains("it leads to `~/documents/bin`, which is in no catalogue"), "{ran:#?}");
}

#[test]
fn links_inside_a_tool_directory_lead_nowhere() {
    let Some(mut caller) = caller() else { return };
    caller.program(".cargo/bin/cargo", "echo cargo").path(".cargo/bin").path(".nvm/versions/node/v1/bin");
    caller.link("../../.aws", ".cargo/bin/aws").link("/", ".cargo/bin/root");
    caller.file(".nvm/nvm.sh", "").link("../../..", ".nvm/versions/node/v1");
    caller.link("../../../.ssh", ".nvm/versions/node/etc");
    let home = caller.home.display().to_string();
    out_of_reach(
        &caller,
        &[
            ".cargo/bin/aws/credentials",
            &format!(".cargo/bin/root/{home}/.aws/credentials"),
            ".nvm/versions/node/v1/.aws/credentials",
            ".nvm/versions/node/etc/id_ed25519",
        ],
    );
    assert_eq!(caller.inside(&[], "cargo").stdout, "cargo\n");
}

#[test]
fn variables_that_name_too_much_show_nothing() {
    for (name, value) in [
        ("JAVA_HOME", "~/"),
        ("JAVA_HOME", "/"),
        ("GOROOT", "~/.aws"),
        ("RUSTUP_HOME", "~/../home"),
        ("NVM_DIR", "~/.ssh"),
        ("PYENV_ROOT", "/etc"),
        ("PNPM_HOME", "/proc/self/root"),
        ("GOBIN", "~/.aws/../.aws"),
        ("VIRTUAL_ENV", "~/.ssh"),
    ] {
        let Some(mut caller) = caller() else { return };
        caller.var(name, value);
        let ran = out_of_reach(&caller, &[".aws/credentials", ".ssh/id_ed25519"]);
        let shown = caller.inside(&[], "cat /proc/self/mountinfo | wc -l");
        let without = caller.inside(&["--tools", "none"], "cat /proc/self/mountinfo | wc -l");
        assert_eq!(shown.stdout, without.stdout, "{name}={value}: {ran:#?}");
    }
}

#[test]
fn odd_entries_of_path_are_no_way_in() {
    let Some(mut caller) = caller() else { return };
    let home = caller.home.display().to_string();
    caller.program(".local/bin/mine", "echo mine").program("open/bin/x", "echo x");
    caller.p.script("planted", "#!/bin/sh\necho planted\n");
    caller.p.script("sub/planted-below", "#!/bin/sh\necho below\n");
    std::fs::set_permissions(caller.home.join("open/bin"), std::fs::Permissions::from_mode(0o777)).unwrap();
    for entry in [".local/bin", "open/bin", "", "/"] {
        caller.path(entry);
    }
    let ws = caller.p.dir().canonicalize().unwrap();
    caller.path(ws.join("sub").to_str().unwrap()).path(".cargo/bin/../../.aws").path(".aws");
    let mut command = caller.command(crate::common::aj().to_str().unwrap());
    let path =
        command.get_envs().find(|(n, _)| *n == "PATH").unwrap().1.unwrap().to_str().unwrap().to_owned();
    command.env("PATH", format!(".::bin:{path}::"));
    let ran = Ran::from(
        command.args(["exec", "--", "sh", "-c", "echo $PATH; mine; planted-below"]).output().unwrap(),
    );
    let system = crate::real::project::SYSTEM_PATH;
    // A directory of the workspace is there anyway; the rest is dropped.
    let want = format!("{home}/.local/bin:{}:{system}\nmine\nbelow\n", ws.join("sub").display());
    assert_eq!(ran.stdout, want, "{ran:#?}");
    let ran = caller.inside(&[], "planted; x");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(127), ""), "{ran:#?}");
    out_of_reach(&caller, &[".aws/credentials"]);
    // A directory of the catalogue that everyone may write is not shown either.
    std::fs::set_permissions(caller.home.join(".local/bin"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let ran = caller.inside(&[], "mine");
    assert_eq!(ran.code, Some(127), "{ran:#?}");
    assert!(
        ran.stderr.contains("`~/.local/bin` of the tools `local-bin` is not shown: everyone may write"),
        "{ran:#?}"
    );
}

#[test]
fn a_project_describes_no_tools_and_widens_nothing() {
    let Some(mut caller) = caller() else { return };
    let described = "path = [\"~/.aws\", \"/usr/bin\"]\nshow = [\"~/.aws\", \"~/documents\"]\n";
    caller.file("documents/x", "the-secret\n").program(".cargo/bin/cargo", "echo cargo").path(".cargo/bin");
    for dir in ["flavors", ".config/agentjail/flavors", ".agentjail/flavors", "config/flavors"] {
        caller.p.write(&format!("{dir}/evil.toml"), described);
        caller.p.write(&format!("{dir}/local-bin.toml"), described);
    }
    out_of_reach(&caller, &["documents/x", ".aws/credentials"]);
    // The user's own is read; it may show documents, but no known secret.
    let config = caller.p.top().join("config/flavors");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("own.toml"), described).unwrap();
    caller.path("documents").path(".aws");
    let ran = caller.inside(&[], &format!("cat {0}/documents/x {0}/.aws/credentials", caller.home.display()));
    assert_eq!(ran.stdout, "the-secret\n", "{ran:#?}");
    assert!(
        ran.stderr.contains("`~/.aws` of the tools `own` is not shown: secrets are kept in `~/.aws`"),
        "{ran:#?}"
    );
    // aj.toml narrows, and what would widen is ignored with its line.
    caller.p.write("aj.toml", "[jail]\ntools = \"none\"\n");
    assert_eq!(caller.inside(&[], "cargo").code, Some(127));
    assert_eq!(
        caller.inside(&["--tools", "rustup"], "cargo").stdout,
        "cargo\n",
        "a flag is above the project"
    );
    std::fs::write(config.join("../config.toml"), "[defaults]\ntools = \"none\"\n").unwrap();
    caller.p.write("aj.toml", "[jail]\ntools = [\"rustup\"]\n");
    let ran = caller.inside(&[], "cargo");
    assert_eq!(ran.code, Some(127), "{ran:#?}");
    assert!(ran.stderr.contains("aj.toml:2: `tools = rustup` would widen"), "{ran:#?}");
}

#[test]
fn a_workspace_and_a_tool_directory_may_lie_in_one_another() {
    let Some(mut caller) = caller() else { return };
    // A plugin of pyenv is being worked on: it is the workspace, writable, in its place.
    caller.program(".pyenv/shims/python", "echo python").path(".pyenv/shims");
    caller.file(".pyenv/plugins/mine/file", "as it was\n");
    let dir = caller.home.join(".pyenv/plugins/mine");
    let mut command = caller.command(crate::common::aj().to_str().unwrap());
    let script = "python && echo changed > file && cat file && ! touch ../x 2>&- && pwd";
    command.args(["exec", "--", "sh", "-c", script]).current_dir(&dir);
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.stdout, format!("python\nchanged\n{}\n", dir.display()), "{ran:#?}");
    assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "as it was\n");
    // Tools in the workspace are shown with it, and writable as it is.
    let ws = caller.p.dir().canonicalize().unwrap();
    caller.var("CARGO_HOME", ws.join("cargo").to_str().unwrap()).path(ws.join("cargo/bin").to_str().unwrap());
    caller.p.script("cargo/bin/cargo", "#!/bin/sh\necho cargo\n");
    let ran = caller.inside(&[], "cargo && touch cargo/bin/x");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "cargo\n"), "{ran:#?}");
    // What was asked for by --rw stays writable.
    let open = format!("--rw={}", caller.home.join(".pyenv").display());
    let ran = caller.inside(&[&open], "python && touch $(dirname $(command -v python))/new");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "python\n"), "{ran:#?}");
    assert!(caller.home.join(".pyenv/shims/new").exists());
}

/// Root runs a jail over the checkout of somebody else: what is root's own is still readable.
#[test]
fn private_tools_of_root_work_over_a_checkout_of_another_user() {
    if !is_root() {
        return skip("only root may give a directory away");
    }
    let Some(mut caller) = caller() else { return };
    caller.program(".cargo/bin/cargo", "cat \"$(dirname \"$0\")/private\"").path(".cargo/bin");
    caller.file(".cargo/bin/private", "mine\n");
    let private = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    private(&caller.home.join(".cargo/bin"), 0o700);
    private(&caller.home.join(".cargo/bin/cargo"), 0o700);
    private(&caller.home.join(".cargo/bin/private"), 0o600);
    for owner in [0, 4321] {
        std::os::unix::fs::chown(caller.p.dir(), Some(owner), Some(owner)).unwrap();
        let ran = caller.inside(&[], "cargo");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "mine\n"), "workspace of {owner}: {ran:#?}");
    }
}

#[test]
fn secrets_among_the_callers_own_programs_are_hidden_as_in_a_project() {
    let Some(mut caller) = caller() else { return };
    let key = "-----BEGIN PRIVATE KEY-----\nthe-secret\n";
    let git = "[remote \"o\"]\n\turl = https://u:the-secret@h/x\n";
    caller.program(".local/bin/mine", "cat \"${0%/*}/.env\"").path(".local/bin").path("bin");
    caller.file(".local/bin/.env", "the-secret\n").file(".local/bin/id_rsa", key).file("bin/deploy.pem", key);
    caller.file("bin/.env.local/x", "the-secret\n").file("bin/.git/config", git).file("bin/.git/HEAD", "x\n");
    caller.link("id_rsa", ".local/bin/id_link").link("../.aws/credentials", "bin/.netrc");
    // Not by custom, or not at the top.
    caller.file("bin/.env.example", "shown-1\n").file("bin/ca.pem", "shown-2\n");
    caller.file("bin/sub/.env", "shown-3\n").file("bin/id_map", "shown-4\n");
    let home = caller.home.display().to_string();
    let read = format!(
        "mine; cd {home}; cat .local/bin/* .local/bin/.env bin/.netrc; grep -rs . bin .local; exit 0"
    );
    assert!(caller.outside(&read).stdout.matches("the-secret").count() >= 8, "teeth");
    for flags in [&[][..], &["--rw"], &["--as-root"]] {
        let ran = caller.inside(flags, &read);
        assert!(!ran.stdout.contains("the-secret"), "{flags:?}: {ran:#?}");
        for shown in ["shown-1", "shown-2", "shown-3", "shown-4", "url = https://h/x"] {
            assert!(ran.stdout.contains(shown), "{flags:?} {shown}: {ran:#?}");
        }
        for name in
            ["bin/.env.local", "bin/deploy.pem", ".local/bin/.env", ".local/bin/id_rsa", "bin/.git/config"]
        {
            assert!(ran.stderr.contains(&format!("`{home}/{name}`")), "{flags:?} {name}: {ran:#?}");
        }
    }
    // One by its whole path, and not by the name of a project's; all; and no word where it is not shown.
    let env = format!("{home}/.local/bin/.env");
    let said = |flags: &[&str]| caller.inside(flags, "mine").stdout;
    assert_eq!(said(&["--show", &env]), "the-secret\n");
    assert_eq!(said(&["--show", ".env"]), "");
    assert_eq!(said(&["--show", "**"]), "the-secret\n");
    let none = caller.inside(&["--tools", "none"], &read);
    assert!(!none.stdout.contains("the-secret") && !none.stderr.contains("hidden"), "{none:#?}");
}

/// People keep their own things below /opt, too. A directory there that the project is in is shown whole by no entry
/// of PATH, and what lies in the project leads to none.
#[test]
fn what_lies_beside_a_project_below_opt_is_out_of_reach() {
    if !is_root() {
        return skip("only root may make a directory in /opt");
    }
    let Some(mut caller) = caller() else { return };
    let top = tempfile::Builder::new().prefix("aj-test-").tempdir_in("/opt").unwrap();
    let project = top.path().join("co/web");
    std::fs::create_dir_all(project.join(".venv/bin")).unwrap();
    std::fs::create_dir_all(top.path().join("tool/bin")).unwrap();
    std::fs::write(top.path().join("co/secret"), "SECRET").unwrap();
    std::os::unix::fs::symlink("../../tool/bin", project.join("leads")).unwrap();
    for entry in [project.join(".venv/bin"), project.join("leads"), top.path().join("tool/bin")] {
        caller.path(entry.to_str().unwrap());
        let mut aj = caller.command(crate::common::aj().to_str().unwrap());
        aj.current_dir(&project).args(["exec", "--", "cat", "../secret"]);
        let ran = Ran::from(aj.output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{entry:?} {ran:#?}");
        let named = ran.stderr.contains("of the tools `opt` is not shown: this project is in it");
        assert_eq!(named, entry.ends_with("tool/bin"), "{entry:?} {ran:#?}");
    }
}
