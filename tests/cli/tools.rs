//! What `aj` says about the caller's tools: dry runs, the record, a command that is missing.

use crate::real::tools::Caller;

fn caller() -> Option<Caller> {
    let mut caller = Caller::in_jails()?;
    caller.program(".cargo/bin/cargo", "echo cargo").path(".cargo/bin");
    caller.program(".local/bin/mine", "echo mine").path(".local/bin");
    Some(caller)
}

#[test]
fn a_dry_run_shows_the_tools_with_their_directories_and_the_record_has_them() {
    let Some(caller) = caller() else { return };
    let home = caller.home.display().to_string();
    let ran = caller.aj(&["exec", "--dry-run", "--", "true"]);
    for line in [
        "tools\tauto\tbuilt-in".to_owned(),
        format!("rustup\t{home}/.cargo/bin\t{home}/.cargo/bin"),
        format!("local-bin\t{home}/.local/bin\t{home}/.local/bin"),
    ] {
        assert!(ran.stdout.lines().any(|l| l == line), "{line}\n{ran:#?}");
    }
    assert_eq!(caller.explained(&["--tools", "rustup"]).0, ["rustup"]);
    assert_eq!(caller.explained(&["--tools", "none"]).0, [""; 0]);
    let none = caller.aj(&["exec", "--dry-run", "--tools", "none", "--", "true"]);
    assert!(none.stdout.contains("tools\tnone\tflag --tools\n"), "{none:#?}");
    caller.aj(&["exec", "--tools", "rustup,uv", "--", "true"]);
    let shown: serde_json::Value =
        serde_json::from_str(&caller.aj(&["jail", "show", "@", "--json"]).stdout).unwrap();
    assert_eq!(shown["policy"]["tools"], serde_json::json!(["rustup"]), "{shown:#}");
    assert_eq!(shown["policy"]["tool_dirs"], serde_json::json!([format!("{home}/.cargo/bin")]), "{shown:#}");
}

#[test]
fn a_dry_run_says_what_is_not_seen_of_the_tools() {
    let Some(mut caller) = caller() else { return };
    let key = ".pyenv/versions/3.12.1/pip.conf";
    caller.program(".pyenv/shims/python", "echo python").path(".pyenv/shims").program(key, "#a key");
    let hidden = caller.home.join(key).display().to_string();
    let ran = caller.aj(&["exec", "--dry-run", "--", "true"]);
    let row = format!("pyenv\t{hidden}\tseen empty");
    assert!(ran.stdout.lines().any(|l| l == row), "{ran:#?}");
    let document = caller.aj(&["exec", "--dry-run", "--json", "--", "true"]).stdout;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let of = |name: &str| {
        let tools = document["tools"].as_array().unwrap();
        tools.iter().find(|t| t["name"] == name).unwrap()["hides"].clone()
    };
    assert_eq!(of("pyenv"), serde_json::json!([hidden]), "{document:#}");
    assert_eq!(of("rustup"), serde_json::json!([]), "{document:#}");
}

#[test]
fn a_dry_run_names_the_entries_of_path_that_are_left_out() {
    let Some(mut caller) = caller() else { return };
    caller.program("documents/x", "echo x").path("documents").path("nowhere").path("documents");
    caller.link("documents", "leads").path("leads").link(".cargo/bin", "inside").path("inside");
    caller.path("/usr/bin");
    let home = caller.home.display().to_string();
    let path = |command: &mut std::process::Command| {
        let (_, path) = command.get_envs().find(|(name, _)| *name == "PATH").unwrap();
        let path = format!(".::tools/bin:{}", path.unwrap().to_str().unwrap());
        command.env("PATH", path);
    };
    let run = |words: &[&str]| {
        let mut command = caller.command(crate::common::aj().to_str().unwrap());
        path(command.args(["exec"]).args(words).args(["--", "sh", "-c", "echo $PATH"]));
        crate::common::Ran::from(command.output().unwrap())
    };
    let here = "the current directory, whatever that holds";
    let want = [
        (".".to_owned(), format!("it is relative: it depends on {here}")),
        (String::new(), format!("it is empty: it means {here}")),
        ("tools/bin".to_owned(), format!("it is relative: it depends on {here}")),
        (format!("{home}/documents"), "it is not shown".to_owned()),
        (format!("{home}/nowhere"), "there is no such directory".to_owned()),
        (format!("{home}/leads"), format!("it leads to `{home}/documents`, which is not shown")),
    ];
    let left = |words: &[&str]| {
        let ran = run(&[&["--dry-run", "--json"], words].concat());
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let list = document["path_left_out"].as_array().unwrap_or_else(|| panic!("{ran:#?}")).clone();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        list.iter().map(|row| (text(&row["entry"]), text(&row["why"]))).collect::<Vec<_>>()
    };
    assert_eq!(left(&[]), want);
    let human = run(&["--dry-run"]).stdout;
    for (entry, why) in &want {
        let entry = if entry.is_empty() { "''" } else { entry };
        let line = format!("{entry}\t{why}");
        assert!(human.lines().any(|l| l == line), "{line}\n{human}");
    }
    // It is what a run does, and more of it where more is asked for.
    let inside = run(&[]).stdout;
    let inside: Vec<&str> = inside.trim_end().split(':').collect();
    assert!(inside.contains(&&*format!("{home}/inside")), "{inside:?}");
    assert!(want.iter().all(|(entry, _)| !inside.contains(&entry.as_str())), "{inside:?}");
    let more = left(&["--tools", "none", "--ro", &format!("{home}/documents")]);
    let named = |name: &str| more.iter().any(|(entry, _)| *entry == format!("{home}/{name}"));
    assert!(!named("documents") && named(".cargo/bin") && named(".local/bin"), "{more:?}");
    assert_eq!(left(&["-e", "PATH=/usr/bin"]), []);
}

#[test]
fn names_of_no_tools_are_refused_on_the_command_line_and_named_in_files() {
    let Some(caller) = caller() else { return };
    let ran = caller.aj(&["exec", "--tools", "rustpu", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    assert!(ran.stderr.contains("there are no tools of the name `rustpu`"), "{ran:#?}");
    assert!(ran.stderr.contains("did you mean `rustup`?"), "{ran:#?}");
    let (names, warnings) = caller.explained(&["--tools", "rustup,pyenv"]);
    assert_eq!(names, ["rustup"]);
    assert_eq!(warnings, ["neither PATH nor a variable leads to the tools `pyenv`"]);
    caller.p.write("aj.toml", "[jail]\ntools = [\"rustup\", \"nobodys\"]\n");
    let (names, warnings) = caller.explained(&[]);
    assert_eq!(names, ["rustup"]);
    assert_eq!(warnings, ["aj.toml:2: there are no tools of the name `nobodys`"]);
}

#[test]
fn a_missing_command_says_where_the_host_has_it_and_which_flag_shows_it() {
    let Some(mut caller) = caller() else { return };
    let home = caller.home.display().to_string();
    caller.program("documents/x", "echo x").path("documents").program("inhome", "echo h").path("");
    caller.program(".local/share/app/app", "echo app").link("../share/app/app", ".local/bin/app");
    // As a tool chain that was unpacked: it needs what lies beside its `bin`.
    caller.file("unpacked/chain/lib/words", "from lib\n").path("unpacked/chain/bin");
    caller.program("unpacked/chain/bin/chain", "cat \"${0%/*}/../lib/words\"");
    for (flags, command, told) in [
        (
            &["--tools", "none"][..],
            "cargo",
            format!("`{home}/.cargo/bin/cargo`; to show it: `aj exec --tools rustup -- …`"),
        ),
        (&["--tools", "local-bin"], "cargo", "`aj exec --tools local-bin,rustup -- …`".to_owned()),
        (&[], "x", format!("`aj exec --ro {home}/documents -- …`")),
        // Only what is missing: the link is there, not what it leads to.
        (&[], "app", format!("`aj exec --ro {home}/.local/share/app -- …`")),
        (&[], "chain", format!("`aj exec --ro {home}/unpacked/chain -- …`")),
        // Never the home directory.
        (&[], "inhome", format!("`aj exec --ro {home}/inhome -- …`")),
        (&[], "nowhere", "if it is installed, show its directory".to_owned()),
    ] {
        let words: Vec<&str> = ["exec"].iter().chain(flags).chain(&["--", command]).copied().collect();
        let ran = caller.aj(&words);
        assert_eq!(ran.code, Some(127), "{command}: {ran:#?}");
        assert!(ran.stderr.contains(&told), "{told}\n{ran:#?}");
    }
    // What the hints say works.
    for words in [
        &["exec", "--tools", "local-bin,rustup", "--", "cargo"][..],
        &["exec", "--ro", &format!("{home}/documents"), "--", "x"],
        &["exec", "--ro", &format!("{home}/unpacked/chain"), "--", "chain"],
        &["exec", "--ro", &format!("{home}/.local/share/app"), "--", "app"],
    ] {
        assert_eq!(caller.aj(words).code, Some(0), "{words:?}");
    }
}

#[test]
fn a_file_of_the_users_adds_tools_and_replaces_built_in_ones() {
    let Some(mut caller) = caller() else { return };
    let own = caller.p.top().join("config/flavors");
    std::fs::create_dir_all(&own).unwrap();
    let write = |name: &str, text: &str| std::fs::write(own.join(name), text).unwrap();
    caller.program("tools/acme/bin/acme", "echo $ACME_ROOT $ACME_VERSION").path("tools/acme/bin");
    caller.file("tools/acme/token", "secret").file("tools/acme/lib/x", "");
    caller.var("ACME_VERSION", "7");
    write(
        "acme.toml",
        "about = \"ACME\"\npath = [\"$ACME_ROOT\"]\nshow = [\"@/bin\", \"@/lib\"]\ncopy = [\"ACME_VERSION\"]\n\
         [where]\nACME_ROOT = \"~/tools/acme\"\n[set]\nACME_ROOT = \"$ACME_ROOT\"\n",
    );
    write("local-bin.toml", "path = [\"~/.local/bin\"]\nshow = []\n");
    write("broken.toml", "path = [\n\"~/x\",\n\"relative\"]\n");
    write("Bad Name.toml", "");
    write("odd.toml", "path = []\nshwo = []\n[set]\nPATH = \"/\"\n");
    let ran = caller.inside(&[], &format!("acme; ls -A {}/tools/acme", caller.home.display()));
    assert_eq!(ran.stdout, format!("{}/tools/acme 7\nbin\nlib\n", caller.home.display()), "{ran:#?}");
    assert_eq!(caller.inside(&[], "mine").code, Some(127));
    for told in [
        "config/flavors/broken.toml:3: `path`: `relative` starts with neither `/` nor `~/`",
        "config/flavors/Bad Name.toml` is ignored: its name is not one that `--tools` takes",
        "config/flavors/odd.toml:4: `set PATH`: `PATH` is not a name",
    ] {
        assert!(ran.stderr.contains(told), "{told}\n{ran:#?}");
    }
    assert_eq!(caller.explained(&["--tools", "acme"]).0, ["acme"]);
}

#[test]
fn a_program_that_leads_to_what_was_not_shown_is_named_with_the_way_in() {
    let Some(mut caller) = Caller::in_jails() else { return };
    caller.program("opt/acme/bin/run", "echo ran").file("opt/acme/lib/x", "");
    let home = caller.home.display().to_string();
    let run = format!("{home}/opt/acme/bin/run");
    caller.p.script("script", &format!("#!{run} -x\n"));
    caller.p.script("nothing", "#!/nowhere/run\n");
    std::fs::create_dir_all(caller.p.dir().join(".venv/bin")).unwrap();
    std::os::unix::fs::symlink(&run, caller.p.dir().join(".venv/bin/tool")).unwrap();
    std::os::unix::fs::symlink("tool", caller.p.dir().join(".venv/bin/tool3")).unwrap();
    let way = format!("--ro {home}/opt/acme");
    for (program, code, said) in [
        (
            "./script",
            126,
            format!("its `#!` line names `{run}`, which was not shown; to show it: `aj exec {way} -- …`"),
        ),
        ("./nothing", 126, "its `#!` line names `/nowhere/run`, which this machine does not have".to_owned()),
        (
            ".venv/bin/tool",
            127,
            format!("is a link to `{run}`, which was not shown; to show it: `aj exec {way} -- …`"),
        ),
        (
            ".venv/bin/tool3",
            127,
            format!("is a link to `{run}`, which was not shown; to show it: `aj exec {way} -- …`"),
        ),
    ] {
        let ran = caller.aj(&["exec", "--", program]);
        assert_eq!(ran.code, Some(code), "{program} {ran:#?}");
        assert!(ran.stderr.contains(&said), "{program} {ran:#?}");
    }
    // It helps.
    for program in ["./script", ".venv/bin/tool", ".venv/bin/tool3"] {
        let ran = caller.aj(&["exec", "--ro", &format!("{home}/opt/acme"), "--", program]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "ran\n"), "{program} {ran:#?}");
    }
    // In a workspace the command that is named is one in it.
    caller.path("opt/acme/bin");
    assert_eq!(caller.aj(&["workspace", "create", "w"]).code, Some(0));
    let ran = caller.aj(&["exec", "w", "--", "run"]);
    assert!(ran.stderr.contains(&format!("`aj exec {way} w -- …`")), "{ran:#?}");
    let ran = caller.aj(&["exec", "--ro", &format!("{home}/opt/acme"), "w", "--", "run"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "ran\n"), "{ran:#?}");
}

#[test]
fn a_secrets_name_that_is_a_link_out_of_the_tree_is_shown_by_both_flags() {
    let Some(mut caller) = Caller::in_jails() else { return };
    caller.file("settings/dev.env", "A=1\n");
    let file = format!("{}/settings/dev.env", caller.home.display());
    std::os::unix::fs::symlink(&file, caller.p.dir().join(".env")).unwrap();
    let ran = caller.inside(&[], "cat .env");
    assert!(ran.stderr.contains(&format!("`--show .env --ro {file}` shows it")), "{ran:#?}");
    let ran = caller.inside(&["--show", ".env", "--ro", &file], "cat .env");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "A=1\n"), "{ran:#?}");
}
