//! The targets. Beside "no panic" each holds what is true of every input: what is read is written and read
//! alike, and what is said about it can be printed.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use agentjail::base::id::Id;
use agentjail::base::quote::command_line;
use agentjail::base::{duration, size, text as printing};
use agentjail::cli::fuzzing as cli;
use agentjail::host::{self, Machine};
use agentjail::jail::fuzzing as jail;
use agentjail::jail::spec::Owner;
use agentjail::job::fuzzing as job;
use agentjail::ops::repository::fuzzing as repositories;
use agentjail::policy::hide::Glob;
use agentjail::policy::{self, Facts, Layer, Sources, file, flavor as flavors, value};
use agentjail::schema::jail::bytes64;
use agentjail::store::fuzzing::{self as store, Ledger};
use agentjail::workspace::fuzzing as workspace;

/// Panics when a terminal would not take it as plain text.
#[track_caller]
fn printed(said: &str) {
    assert_eq!(printing::printable_lines(said.as_bytes()), said, "not printable");
}

/// The pieces between NUL bytes.
fn pieces<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut all = data.splitn(N, |b| *b == 0);
    [(); N].map(|()| all.next().unwrap_or_default())
}

/// What a server in a jail answers with.
pub fn answer(data: &[u8]) {
    job::answer(data);
}

/// The words after `aj exec`, one a line: the quick reader against clap.
pub fn arguments(data: &[u8]) {
    let word = |word: &[u8]| OsString::from_vec(word.iter().copied().filter(|b| *b != 0).collect());
    let words: Vec<OsString> = data.split(|b| *b == b'\n').take(64).map(word).collect();
    cli::exec_words(&words);
}

/// The small files beside a tree: `hidden`, `places`, `kept`.
pub fn beside_a_tree(data: &[u8]) {
    store::beside_a_tree(data);
}

/// What is looked at for secrets.
pub fn credentials(data: &[u8]) {
    let _ = policy::environment::looks_like_secret(OsStr::from_bytes(data));
    let _ = flavors::has_credentials(data);
}

/// An `--env-file`.
pub fn envfile(data: &[u8]) {
    let mut layer = Layer::default();
    match policy::envfile::parse(data, &mut layer) {
        Ok(()) => {
            for (name, value) in layer.env.iter().map(|at| &at.value) {
                assert!(value::is_variable_name(name.as_bytes()));
                assert!(!value.as_bytes().contains(&0));
            }
        }
        Err(e) => printed(&e.to_string()),
    }
}

/// A file of `flavors/`.
pub fn flavor(data: &[u8]) {
    match flavors::parse("mine", "mine.toml", data) {
        Ok((_, warnings)) => warnings.iter().for_each(|w| printed(w)),
        Err(e) => printed(&e.to_string()),
    }
}

/// A record of a job's log.
pub fn frame(data: &[u8]) {
    job::frame(data);
}

/// A git configuration that a jail or a stranger wrote.
pub fn git_config(data: &[u8]) {
    workspace::git_config(data);
}

/// The user's own git configuration.
pub fn git_settings(data: &[u8]) {
    jail::git_settings(&String::from_utf8_lossy(data));
}

/// A pattern of `--hide`, and a path.
pub fn globs(data: &[u8]) {
    let [pattern, path] = pieces::<2>(data);
    match Glob::parse(&String::from_utf8_lossy(pattern)) {
        Ok(glob) => {
            let mut states = glob.begin();
            for name in path.split(|b| *b == b'/') {
                states = glob.step(&states, name);
            }
            // A walk finds what the whole path says.
            if !glob.is_floating() {
                assert_eq!(glob.is_match(&states), glob.matches(path, true));
            }
        }
        Err(e) => printed(&e.to_string()),
    }
}

/// A message of pid 1.
pub fn message(data: &[u8]) {
    jail::message(data);
}

/// `/proc/self/mountinfo`.
pub fn mountinfo(data: &[u8]) {
    host::fuzzing::mountinfo(data);
}

/// The index of a pack of git's: twenty bytes of an id, then the file.
pub fn pack_index(data: &[u8]) {
    let Some((id, index)) = data.split_first_chunk::<20>() else { return };
    with_file(index, |path, _| {
        let _ = repositories::pack_index(path, id);
    });
}

/// A path in a tree that a jail wrote.
pub fn path(data: &[u8]) {
    workspace::path(data);
}

/// A plan on its way to pid 1.
pub fn plan(data: &[u8]) {
    jail::plan(data);
}

/// The user's configuration and a project's, NUL between them, and the settings that they make.
pub fn policy(data: &[u8]) {
    let [user, project] = pieces::<2>(data);
    let user = file::parse_user("config.toml", user, Some(Path::new("/home/me")));
    let project = file::parse_project("aj.toml", project);
    for warning in user.iter().flat_map(|f| &f.warnings).chain(project.iter().flat_map(|f| &f.warnings)) {
        printed(warning);
    }
    for error in [user.as_ref().err(), project.as_ref().err()].into_iter().flatten() {
        printed(&error.to_string());
    }
    let facts = Facts { ram: 8 << 30, cpus: 2, nofile_soft: 1024, nofile_hard: 4096 };
    let sources = Sources {
        user: user.as_ref().ok(),
        project: project.as_ref().ok(),
        workspace: None,
        flags: &Layer::default(),
    };
    match policy::resolve(sources, &facts) {
        Ok(resolved) => {
            for row in resolved.rows() {
                printed(&row.text);
            }
            resolved.warnings.iter().for_each(|w| printed(w));
        }
        Err(e) => printed(&e.to_string()),
    }
}

/// A record of the spool: whether it is a start, then its JSON.
pub fn record(data: &[u8]) {
    thread_local!(static LEDGER: RefCell<Option<Ledger>> = const { RefCell::new(None) });
    let Some((start, payload)) = data.split_first() else { return };
    LEDGER.with_borrow_mut(|ledger| {
        let ledger = ledger.get_or_insert_with(|| Ledger::new().expect("SQLite works"));
        ledger.record(start % 2 == 1, payload).expect("any record is taken or passed over");
    });
}

/// A planted repository: `.git`, then files of the directory beside it, NUL between them. What it is
/// shown may not be the tree's neighbour, which knows nothing of it.
pub fn repository(data: &[u8]) {
    thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a directory"));
    const NAMES: [&str; 6] =
        ["commondir", "gitdir", "config", "HEAD", "packed-refs", "objects/info/alternates"];
    DIR.with(|dir| {
        let (tree, beside) = (dir.path().join("tree"), dir.path().join("beside"));
        for made in
            [&tree, &beside.join("objects/info"), &beside.join("refs"), &dir.path().join("neighbour/objects")]
        {
            fs::create_dir_all(made).expect("a directory");
        }
        let [git, rest @ ..] = pieces::<7>(data);
        fs::write(tree.join(".git"), git).expect("a file");
        for (name, text) in NAMES.into_iter().zip(rest) {
            let path = beside.join(name);
            if text.is_empty() {
                fs::remove_file(&path).ok();
            } else {
                fs::write(&path, text).expect("a file");
            }
        }
        let around = repositories::Around {
            tree: &tree,
            owner: Owner { uid: 0, gid: 0 },
            state: Path::new("/nonexistent/state"),
            overlay: true,
            shown: &|_| false,
        };
        let mut warnings = Vec::new();
        let needs = repositories::find(&around, &mut warnings);
        warnings.iter().for_each(|w| printed(w));
        let shown = needs.shared.iter().map(|(path, _)| path).chain(&needs.borrowed);
        for path in shown {
            assert!(!path.starts_with(dir.path().join("neighbour")), "{}", path.display());
            assert!(path.starts_with(&beside), "{}", path.display());
        }
    });
}

/// What a command writes to its terminal.
pub fn screen(data: &[u8]) {
    jail::screen(data);
}

/// A spool.
pub fn spool(data: &[u8]) {
    with_file(data, |_, file| store::spool(file, data.len() as u64).expect("the file can be read"));
}

/// A `/proc/PID/stat`.
pub fn stat(data: &[u8]) {
    jail::stat(data);
}

/// `/proc/PID/status`.
pub fn status(data: &[u8]) {
    let _ = jail::status(&String::from_utf8_lossy(data));
}

/// A step that failed and its errno: what is said about it.
pub fn step(data: &[u8]) {
    let [step, errno, kernel] = pieces::<3>(data).map(String::from_utf8_lossy);
    let machine = Machine { kernel: printing::printable(kernel.as_bytes()), uid: 1000, ..Machine::default() };
    for fix in host::fixes(&step, &errno, &machine) {
        printed(&fix);
    }
}

/// Text of a jail on its way to a terminal.
pub fn text(data: &[u8]) {
    let line = printing::printable(data);
    assert!(!line.contains(['\n', '\t', '\x1b', '\u{9b}', '\u{202e}']));
    assert_eq!(printing::printable(line.as_bytes()), line);
    let lines = printing::printable_lines(data);
    printed(&lines);
    printed(&printing::brief(&line));
    printed(&command_line(&[line]));
    let encoded = bytes64::encode(data);
    assert_eq!(bytes64::decode(&encoded).as_deref(), Some(data));
    let _ = bytes64::decode(&String::from_utf8_lossy(data));
}

/// Ids, sizes, times and the other values of flags and settings.
pub fn values(data: &[u8]) {
    let given = String::from_utf8_lossy(data);
    if let Ok(id) = given.parse::<Id>() {
        assert_eq!(id.as_str(), given);
        assert!(Id::looks_like(&given));
    }
    if let Ok(bytes) = size::parse(&given) {
        assert_eq!(size::parse(&value::size_text(bytes)), Ok(bytes));
        printed(&size::human(bytes));
    }
    if let Ok(time) = duration::parse(&given) {
        // Settings are shown down to milliseconds.
        let shown = duration::parse(&value::time_text(time)).expect("what is shown is understood");
        assert_eq!(shown.as_millis(), time.as_millis());
        printed(&duration::human(time));
    }
    if let Ok(Some(millis)) = value::cpu_limit(&given) {
        assert_eq!(value::cpu_limit(&value::cpu_text(millis)), Ok(Some(millis)));
    }
    let said = [
        value::size_limit(&given).err(),
        value::size_value(&given).err(),
        value::time_limit(&given).err(),
        value::time_value(&given).err(),
        value::cpu_limit(&given).err(),
        value::pid_limit(&given).err(),
        value::file_limit(&given).err(),
        value::access(&given).err(),
        value::net(&given).err(),
        value::seccomp(&given).err(),
        value::tools(&given).err(),
        value::caches(&given).err(),
        value::cache_name(&given).err(),
        value::tool_name(&given).err(),
    ];
    for error in said.into_iter().flatten() {
        printed(&error.to_string());
    }
}

/// A file of these bytes, the same one every time.
fn with_file(data: &[u8], run: impl FnOnce(&Path, &File)) {
    thread_local!(static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("a file")));
    FILE.with_borrow_mut(|file| {
        let open = file.as_file_mut();
        open.set_len(0).and_then(|()| open.rewind()).and_then(|()| open.write_all(data)).expect("a file");
        run(file.path(), file.as_file());
    });
}
