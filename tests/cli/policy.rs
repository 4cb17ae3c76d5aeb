//! Settings from files and flags: which one holds, what is refused, and what a dry run says of it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::common::{Ran, run};
use crate::real::project::Project;

/// A project and a `config.toml` for its user.
fn configured(text: &str) -> Project {
    let p = Project::new();
    std::fs::create_dir(p.top().join("config")).unwrap();
    std::fs::write(p.top().join("config/config.toml"), text).unwrap();
    p
}

fn works(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{ran:#?}");
}

/// The error of an `aj exec` and its hints.
fn error(ran: &Ran) -> (String, Vec<String>) {
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    let first = ran.stderr.lines().find_map(|l| l.strip_prefix("aj: error: "));
    let hints = ran.stderr.lines().filter_map(|l| l.strip_prefix("hint: ")).map(str::to_owned);
    (first.unwrap_or_else(|| panic!("{ran:#?}")).to_owned(), hints.collect())
}

#[test]
fn what_the_help_says_beats_what_does() {
    let p = configured(
        "[defaults]\npreset = \"build\"\npids = 2000\ntimeout = \"9m\"\ngrace = 3\n[presets.mine]\npids = 1500\n",
    );
    let get = |key: &str, words: &[&str]| {
        let ran = p.aj([&["config", "get", key], words].concat());
        works(&ran);
        ran.stdout.trim().to_owned()
    };
    // 5 below 4: the preset that a file names, and the file itself.
    assert_eq!((get("timeout", &[]), get("pids", &[])), ("9m".into(), "2000".into()));
    // 3 above 4: a preset on the command line; what it does not name stays the user's.
    let agent = &["--preset", "agent"];
    assert_eq!(
        (get("timeout", agent), get("pids", agent), get("grace", agent)),
        ("1h".into(), "1024".into(), "3s".into())
    );
    assert_eq!(get("pids", &["--preset", "mine"]), "1500");
    // 2 above 3, downwards only; 1 above all.
    p.write("aj.toml", "[jail]\npids = 700\ngrace = 60\n");
    assert_eq!((get("pids", agent), get("grace", agent)), ("700".into(), "3s".into()));
    let ran =
        p.aj(["exec", "--dry-run", "--preset", "agent", "--pids", "900", "--best-effort", "--", "true"]);
    works(&ran);
    assert!(ran.stdout.contains("pids\t900\tflag --pids\n"), "{ran:#?}");
    // The page tells it in this order.
    let page = run(&["help", "policy"]).stdout;
    let places =
        ["flag of `aj exec`", "aj.toml", "--preset", "[defaults]", "preset that [defaults]", "built in"];
    let found: Vec<usize> = (1..)
        .zip(places)
        .map(|(n, what)| {
            page.lines().position(|l| l.starts_with(&format!("  {n}. ")) && l.contains(what)).unwrap_or(0)
        })
        .collect();
    assert!(found[0] > 0 && found.is_sorted() && found.windows(2).all(|w| w[0] != w[1]), "{found:?}\n{page}");
}

/// The first indented block of a page from the line `first` on.
fn example(page: &str, first: &str) -> String {
    let page = run(&["help", page]).stdout;
    let from = page.lines().skip_while(|l| l.trim_start() != first).take_while(|l| l.starts_with("  "));
    let text: String = from.map(|l| format!("{}\n", l.trim_start())).collect();
    assert!(text.lines().count() > 1, "{first} in\n{page}");
    text
}

#[test]
fn the_files_that_the_help_shows_do_what_they_say() {
    for page in ["policy", "secrets"] {
        let p = configured(&example(page, "[defaults]"));
        p.write("aj.toml", example(page, "[jail]"));
        p.write("a/secrets/x.json", "SECRET");
        p.write("k.kdbx", "SECRET");
        works(&p.aj(["config", "check"]));
        let ran = p.aj(["exec", "--best-effort", "--", "sh", "-c", "cat a/secrets/x.json k.kdbx; true"]);
        works(&ran);
        assert!(!ran.stdout.contains("SECRET"), "{ran:#?}");
    }
}

#[test]
fn what_a_file_hides_in_the_wrong_place_is_not_shown() {
    let p = configured("");
    p.write("key.txt", "SECRET");
    for (text, line) in [("hide = [\"key.txt\"]\n", 1), ("[defaults]\nhide = [\"key.txt\"]\n", 2)] {
        p.write("aj.toml", text);
        let ran = p.aj(["exec", "--", "cat", "key.txt"]);
        let (message, _) = error(&ran);
        assert!(
            message.contains(&format!("aj.toml:{line}: `hide`")) && message.contains("`[jail]`"),
            "{message}"
        );
        assert!(!ran.stdout.contains("SECRET"), "{ran:#?}");
        // `aj config check` says the same.
        assert_ne!(p.aj(["config", "check"]).code, Some(0));
    }
    std::fs::remove_file(p.dir().join("aj.toml")).unwrap();
    std::fs::write(p.top().join("config/config.toml"), "hide = [\"key.txt\"]\n").unwrap();
    let (message, _) = error(&p.aj(["exec", "--", "cat", "key.txt"]));
    assert!(message.contains("`[defaults]`"), "{message}");
}

#[test]
fn a_broken_link_takes_no_hard_limit_away() {
    let p = configured("[limits.max]\npids = 50\n");
    let config = p.top().join("config");
    let runs = || p.aj(["exec", "--pids", "60", "--", "true"]);
    assert!(error(&runs()).0.contains("is above the hard limit 50"));
    // As a manager of dotfiles puts it; then its checkout moves away.
    std::fs::rename(config.join("config.toml"), p.top().join("dotfile")).unwrap();
    symlink("../dotfile", config.join("config.toml")).unwrap();
    assert!(error(&runs()).0.contains("is above the hard limit 50"));
    std::fs::rename(p.top().join("dotfile"), p.top().join("moved")).unwrap();
    let (message, hints) = error(&runs());
    let link = config.join("config.toml").display().to_string();
    assert!(
        message.contains(&format!("`{link}` is a link to `../dotfile`, which does not exist (ENOENT)")),
        "{message}"
    );
    assert!(hints[0].contains(&link), "{hints:?}");
    for words in [&["config", "check"] as &[&str], &["config", "list"], &["exec", "--dry-run", "--", "true"]]
    {
        let ran = p.aj(words);
        assert!(ran.code != Some(0) && ran.stderr.contains("which does not exist (ENOENT)"), "{ran:#?}");
    }
    // A file in the place of the directory, and a link to nothing there.
    std::fs::rename(&config, p.top().join("aside")).unwrap();
    std::fs::write(&config, "").unwrap();
    assert!(error(&runs()).0.contains("/config` is a file, not a directory (ENOTDIR)"));
    std::fs::remove_file(&config).unwrap();
    symlink("nowhere", &config).unwrap();
    assert!(error(&runs()).0.contains("/config` is a link to `nowhere`"));
    std::fs::remove_file(&config).unwrap();
    works(&runs());
}

#[test]
fn a_limit_that_cannot_be_enforced_is_named_by_whoever_asked_for_it() {
    let p = configured("");
    let config = p.top().join("config/config.toml");
    let exec = |words: &[&str]| p.aj([&["exec"], words, &["--", "true"]].concat());
    if exec(&["--dry-run", "--mem", "1G"]).code == Some(0) {
        // Where it can be held there is nothing to say.
        p.write("aj.toml", "[jail]\nmem = \"1G\"\n");
        std::fs::write(&config, "[limits.max]\nmem = \"2G\"\n").unwrap();
        let ran = exec(&[]);
        works(&ran);
        assert_eq!(ran.stderr, "");
        eprintln!("SKIP: every limit can be enforced here");
        return;
    }
    // By a project: the run goes on, with one line for each.
    p.write("aj.toml", "[jail]\nmem = \"1G\"\n");
    let ran = exec(&[]);
    works(&ran);
    let says = "aj: warning: `mem` (aj.toml:2) is best effort: memory is watched, but for buffers of pipes and sockets, segments of System V that nobody has attached, and memfds that are neither mapped nor open, and the jail killed when it is over: it needs a cgroup, and ";
    assert!(ran.stderr.starts_with(says) && ran.stderr.lines().count() == 1, "{ran:#?}");
    assert_eq!(exec(&["--dry-run"]).stderr, ran.stderr);
    p.write("aj.toml", "[jail]\n\ncpus = 1\n");
    let ran = exec(&[]);
    works(&ran);
    let says = "aj: warning: `cpus` (aj.toml:3) is not enforced: it needs a cgroup, and ";
    assert!(ran.stderr.starts_with(says) && ran.stderr.lines().count() == 1, "{ran:#?}");
    // By the user: refused, also where a project asks for less.
    std::fs::write(&config, "[defaults]\ncpus = 2\n").unwrap();
    let says = format!("`cpus` ({}:2) cannot be enforced here: it needs a cgroup, and ", config.display());
    assert!(error(&exec(&[])).0.starts_with(&says));
    std::fs::write(&config, "[limits.max]\nmem = \"2M\"\n").unwrap();
    p.write("aj.toml", "[jail]\nmem = \"1M\"\n");
    let (message, hints) = error(&exec(&[]));
    assert!(
        message.starts_with(&format!("`limits.max.mem` ({}:2) cannot be enforced here", config.display())),
        "{message}"
    );
    assert_eq!(hints.last().map(String::as_str), Some("or let it be best effort: `--best-effort`"));
    assert!(hints.len() > 1, "{hints:?}");
    std::fs::write(&config, "").unwrap();
    assert!(error(&exec(&["--mem", "1G"])).0.starts_with("`--mem` cannot be enforced here"));
    works(&exec(&["--mem", "1G", "--best-effort"]));
}

#[test]
fn too_few_open_files_are_told_by_their_setting() {
    let p = Project::new();
    let hint = |words: &[&str]| error(&p.aj([&["exec"], words, &["--", "true"]].concat())).1;
    assert_eq!(hint(&["--nofile", "4"]), ["raise `--nofile`: with 4 open files no jail can be made"]);
    p.write("aj.toml", "[jail]\nnofile = 3\n");
    assert_eq!(hint(&[]), ["raise `nofile` (aj.toml:2): with 3 open files no jail can be made"]);
}

#[test]
fn a_dry_run_is_refused_like_the_run() {
    let p = Project::new();
    let home = p.top().join("home");
    let refused: [(PathBuf, &[&str]); 8] = [
        (home, &[]),
        ("/".into(), &[]),
        (p.dir().into(), &["--disk", "512M", "--rw"]),
        (p.dir().into(), &["--cwd", "/etc"]),
        (p.dir().into(), &["--ro", "/nope"]),
        (p.dir().into(), &["--rw=/"]),
        (p.dir().into(), &["--ro", "/proc"]),
        (p.dir().into(), &["--status-fd", "77"]),
    ];
    for (dir, words) in refused {
        let ran = |dry: &[&str]| {
            let mut command = p.command(crate::common::aj());
            command.current_dir(&dir).arg("exec").args(words).args(dry).args(["--", "true"]);
            Ran::from(command.output().unwrap())
        };
        let (run, dry) = (ran(&[]), ran(&["--dry-run"]));
        assert_eq!((run.code, dry.code), (Some(125), Some(125)), "{dir:?} {words:?}: {dry:#?}");
        assert_eq!((&dry.stdout, &dry.stderr), (&run.stdout, &run.stderr), "{dir:?} {words:?}");
    }
    // Nothing is started and nothing recorded.
    let ran = p.aj(["exec", "--dry-run", "--explain", "-n", "--", "touch", "x"]);
    works(&ran);
    assert!(ran.stdout.contains("workspace\toverlay\tbuilt-in\n"), "{ran:#?}");
    assert_eq!(p.aj(["jail", "list"]).stdout, "");
    assert!(run(&["help", "exec"]).stdout.contains("[alias: --explain]"));
}

#[test]
fn a_home_that_holds_the_state_is_refused_once_with_what_works() {
    let p = Project::new();
    let home = p.top().join("home");
    let state = home.join(".local/state/agentjail");
    let exec = |words: &[&str], state: &std::path::Path| {
        let mut command = p.command(crate::common::aj());
        command.current_dir(&home).env("AJ_STATE_DIR", state).arg("exec").args(words).args(["--", "true"]);
        Ran::from(command.output().unwrap())
    };
    let (message, hints) = error(&exec(&[], &state));
    assert!(message.ends_with(
        "is your home directory, with every key and token in it, and contains aj's state directory"
    ));
    assert!(hints[1].contains("`aj exec --ro --i-mean-it -- …`"), "{hints:?}");
    assert!(hints[2].contains("AJ_STATE_DIR") && hints[2].contains("insist with `--i-mean-it`"), "{hints:?}");
    // Either of them does.
    works(&exec(&["--ro", "--i-mean-it"], &state));
    works(&exec(&["--i-mean-it"], &p.state()));
    // Not insisting is the only thing wrong when the state is elsewhere.
    let (message, hints) = error(&exec(&[], &p.state()));
    assert!(!message.contains("state directory") && hints[0].contains("--i-mean-it"), "{message} {hints:?}");
}
