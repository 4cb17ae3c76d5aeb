//! What `aj` says about the caller's package caches: dry runs, the record, names that are none.

use crate::common::Ran;
use crate::real::project::{Project, skip};
use crate::real::tools::Caller;

fn caller() -> Option<Caller> {
    let mut caller = Caller::in_jails()?;
    caller.program(".local/bin/npm", "echo npm").path(".local/bin").file(".npm/_cacache/x", "");
    caller.file(".cargo/registry/index/own/config.json", "https://me:secret@x").file(".cargo/registry/x", "");
    Some(caller)
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:#?}"))
}

#[test]
fn a_dry_run_shows_the_caches_with_their_directories_and_the_record_has_them() {
    let Some(caller) = caller() else { return };
    let home = caller.home.display().to_string();
    let ran = caller.aj(&["exec", "--dry-run", "--preset", "install", "--", "true"]);
    for line in ["caches\tauto\tpreset install".to_owned(), format!("npm\t{home}/.npm/_cacache\tnpm")] {
        assert!(ran.stdout.lines().any(|l| l == line), "{line}\n{ran:#?}");
    }
    // By its name also without a program that uses it; what is covered is shown as well.
    let ran = caller.aj(&["exec", "--dry-run", "--json", "--caches", "cargo", "--", "true"]);
    let want = serde_json::json!([{
        "name": "cargo", "found_by": "--caches", "shows": [format!("{home}/.cargo/registry")],
        "hides": [format!("{home}/.cargo/registry/index/own/config.json")],
    }]);
    assert_eq!(json(&ran)["caches"], want, "{ran:#?}");
    let none = caller.aj(&["exec", "--dry-run", "--json", "--", "true"]);
    assert_eq!(json(&none)["caches"], serde_json::json!([]), "{none:#?}");
    for (flags, names, dirs) in [
        (&["--preset", "build"][..], &["npm"][..], vec![format!("{home}/.npm/_cacache")]),
        (&["--preset", "build", "--caches", "none"], &[], vec![]),
        (&[], &[], vec![]),
    ] {
        let words: Vec<&str> = ["exec"].iter().chain(flags).chain(&["--", "true"]).copied().collect();
        caller.aj(&words);
        let shown = json(&caller.aj(&["jail", "show", "@", "--json"]));
        assert_eq!(shown["policy"]["caches"], serde_json::json!(names), "{shown:#}");
        assert_eq!(shown["policy"]["cache_dirs"], serde_json::json!(dirs), "{shown:#}");
    }
}

#[test]
fn names_of_no_cache_are_refused_on_the_command_line_and_named_in_files() {
    let Some(caller) = caller() else { return };
    let ran = caller.aj(&["exec", "--caches", "crago", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    assert!(ran.stderr.contains("there is no cache of the name `crago`"), "{ran:#?}");
    assert!(ran.stderr.contains("did you mean `cargo`?"), "{ran:#?}");
    let ran = caller.aj(&["exec", "--caches", "cargo,maven", "--", "true"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("there is nothing of the cache `maven` on this machine"), "{ran:#?}");
    caller.p.write("aj.toml", "[jail]\ncaches = [\"npm\", \"nobodys\"]\n");
    let ran = caller.aj(&["exec", "--preset", "build", "--", "true"]);
    assert!(ran.stderr.contains("aj.toml:2: there is no cache of the name `nobodys`"), "{ran:#?}");
    // Names of tools and of caches are two lists.
    let ran = caller.aj(&["exec", "--tools", "npm", "--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("there are no tools of the name `npm`"), "{ran:#?}");
}

#[test]
fn a_cache_is_shown_to_jails_that_have_a_program_for_it() {
    let Some(mut caller) = caller() else { return };
    let shown = |caller: &Caller, flags: &[&str]| {
        let words = ["exec", "--dry-run", "--json", "--caches", "auto"];
        let words: Vec<&str> = words.iter().chain(flags).chain(&["--", "true"]).copied().collect();
        let caches = json(&caller.aj(&words))["caches"].clone();
        caches.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // cargo of the tests' own machine is in no PATH of this caller.
    let system =
        std::path::Path::new("/usr/bin/cargo").exists() || std::path::Path::new("/usr/bin/npm").exists();
    if system {
        skip("the machine itself has cargo or npm");
    } else {
        assert_eq!(shown(&caller, &[]), ["npm"]);
        assert_eq!(shown(&caller, &["--tools", "none"]), [""; 0]);
    }
    caller.program(".cargo/bin/cargo", "echo cargo").path(".cargo/bin");
    assert_eq!(shown(&caller, &[]), ["cargo", "npm"]);
}

#[test]
fn a_file_of_the_users_adds_a_cache_and_replaces_built_in_ones() {
    let Some(mut caller) = caller() else { return };
    let own = caller.p.top().join("config/flavors");
    std::fs::create_dir_all(&own).unwrap();
    let write = |name: &str, text: &str| std::fs::write(own.join(name), text).unwrap();
    caller.file("acme/store/x", "warm\n").file("acme/token", "secret").file("acme/store/auth/x", "secret");
    write(
        "acme.toml",
        "[cache]\nabout = \"packages of ACME\"\nfor = [\"sh\"]\nshow = [\"$ACME_HOME/store\"]\n\
         hide = [\"$ACME_HOME/store/auth\"]\nwhere = { ACME_HOME = \"~/acme\" }\n\
         set = { ACME_HOME = \"$ACME_HOME\", ACME_MODE = \"=copy\" }\nhome = { \"~/.acme/store\" = \"$ACME_HOME/store\" }\n",
    );
    write("npm.toml", "[cache]\nabout = \"none\"\nfor = [\"npm\"]\nshow = []\n");
    write("odd.toml", "[cache]\nshwo = []\nshow = [\"~/..\"]\n");
    let script = "ls -A $ACME_HOME $ACME_HOME/store/auth; cat ~/.acme/store/x; echo $ACME_MODE; touch $ACME_HOME/y ~/.acme/z; ls ~/.npm";
    let ran = caller.inside(&["--caches", "auto"], script);
    let home = caller.home.display();
    let want = format!("{home}/acme:\nstore\n\n{home}/acme/store/auth:\nwarm\ncopy\n");
    assert_eq!(ran.stdout, want, "{ran:#?}");
    assert!(
        ran.stderr.contains("config/flavors/odd.toml:3: `cache show`: `~/..` holds `.`, `..`"),
        "{ran:#?}"
    );
    assert!(!caller.home.join("acme/y").exists());
}

#[test]
fn a_command_that_wanted_the_network_or_packages_is_told_what_gives_them() {
    let p = Project::new();
    let told = |flags: &[&str], said: &str, code: u8| {
        let script = format!("echo '{said}' >&2; exit {code}");
        let words: Vec<&str> =
            ["exec"].iter().chain(flags).chain(&["--", "sh", "-c", &script]).copied().collect();
        let ran = p.aj(words);
        assert_eq!(ran.code, Some(i32::from(code)), "{ran:#?}");
        ran.stderr.strip_prefix(&format!("{said}\n")).unwrap().to_owned()
    };
    let resolve = "curl: (6) Could not resolve host: index.crates.io";
    let line = |way: &str| format!("aj: warning: the jail has no network: {way}\n");
    let (net, caches) =
        ("`--net host` gives it this machine's", "`--preset build` shows your package caches");
    assert_eq!(told(&[], resolve, 101), line(&format!("{net}, {caches}")));
    assert_eq!(told(&[], "npm error code ENOTCACHED", 1), line(caches));
    assert_eq!(told(&["--preset", "build", "--best-effort", "-q"], resolve, 1), line(net));
    assert_eq!(told(&["--net", "none"], resolve, 1), line(caches));
    for (flags, said, code) in [
        (&[][..], resolve, 0),
        (&[], "test result: FAILED", 101),
        (&["--net", "host"], resolve, 1),
        (&["--net", "none", "--caches", "none"], resolve, 1),
    ] {
        let told = told(flags, said, code);
        assert!(!told.contains("the jail has no network"), "{flags:?} {told}");
    }
}
