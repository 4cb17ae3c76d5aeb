//! The pages of `aj help TOPIC`. Their facts come from the code where they can.

use super::exit;
use crate::base::env;
use crate::policy::flavor;

/// A page that belongs to no single command.
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) text: fn() -> String,
}

/// All pages.
pub(super) const ALL: &[Topic] = &[
    Topic { name: "caches", title: "Your package caches in a jail", text: caches },
    Topic { name: "environment", title: "Environment variables", text: environment },
    Topic { name: "exit-codes", title: "Exit codes", text: exit_codes },
    Topic { name: "json", title: "JSON output", text: || JSON.to_owned() },
    Topic { name: "policy", title: "Policy", text: || POLICY.to_owned() },
    Topic { name: "secrets", title: "Secrets in the tree", text: || SECRETS.to_owned() },
    Topic { name: "terminals", title: "Commands on a terminal", text: || TERMINALS.to_owned() },
    Topic { name: "tools", title: "Your tools in a jail", text: tools },
];

/// The page of that name.
pub(super) fn find(name: &str) -> Option<String> {
    ALL.iter().find(|t| t.name == name).map(|t| format!("{}\n\n{}", t.title, (t.text)()))
}

fn environment() -> String {
    let rows: Vec<_> = env::ALL.iter().map(|v| (v.name.to_owned(), v.help)).collect();
    columns(&rows)
}

/// `(code, what it means for exec, what it means for the other commands)`; empty: not used there.
const CODES: &[(u8, &str, &str)] = &[
    (exit::OK, "the command ended with 0", "done"),
    (exit::FAILED, "", "failed"),
    (exit::USAGE, "", "the command line is wrong"),
    (exit::NOT_FOUND, "", "no such object, or the name is ambiguous"),
    (exit::REFUSED, "", "refused by policy, or a credential is missing"),
    (exit::BUSY, "", "busy, locked, or it already exists"),
    (exit::PARTIAL, "", "finished, but a part failed"),
    (exit::UNAVAILABLE, "", "this machine cannot do it; `aj doctor` says why"),
    (exit::BUG, "", "a bug in aj"),
    (exit::TIMED_OUT, "`--timeout` expired", ""),
    (exit::AJ_FAILED, "aj could not do its part, before or after the command", ""),
    (exit::NOT_EXECUTABLE, "the command was found but could not be executed", ""),
    (exit::COMMAND_NOT_FOUND, "the command was not found", ""),
];

fn exit_codes() -> String {
    let of = |pick: fn(&(u8, &'static str, &'static str)) -> &'static str| -> Vec<(String, &str)> {
        CODES.iter().map(|c| (c.0.to_string(), pick(c))).filter(|(_, text)| !text.is_empty()).collect()
    };
    let mut exec = of(|c| c.1);
    exec.push(("128+N".into(), "the command died of signal N (137: killed, or out of memory)"));
    exec.push(("other".into(), "the command's own code"));
    format!(
        "aj exec and aj shell end with the code of their command:\n\n{}\n\
         A command may end with 124 to 127 itself: `--status-fd` tells its codes from those of aj.\n\n\
         The other commands:\n\n{}",
        columns(&exec),
        columns(&of(|c| c.2))
    )
}

const JSON: &str = "\
With --json a command prints one JSON document on stdout: indented on a terminal, on one line
otherwise. Listings are an object with the rows under a key, never a bare array.

  Keys are snake_case. Every key is always present; what is unknown is null.
  Every document says its `format_version`, such as `0.1`: a higher second number adds keys, a
  higher first one may change what they mean. Of `--events` it is the first line that says it.
  When nobody reads the lines of `--events` any more, the command gets SIGPIPE on its next output,
  as it would in a pipe without aj (exit code 141).
  Sizes are integers in bytes. Durations are integers in milliseconds, and the key ends in _ms.
  Times are RFC 3339 in UTC. Ids are complete, never shortened.
  Words that choose between cases are lower-case strings; new ones may appear.
  Names and commands are printable: what a terminal could obey is escaped. A key that ends in
  _base64 has the exact bytes of the one before it (standard base64, padded); null: it is exact.

On stderr are JSON lines too. An error is one, stdout stays empty, and the exit code is the same as
without --json; a warning is one that has `warning` in the place of `error`, and only a message:

  {\"error\":{\"code\":\"jail_not_found\",\"message\":\"…\",\"causes\":[],\"hints\":[]}}

`code` is stable; the texts are for people and may change.

A command that looked at everything and finished a part of it, or nothing, has both: the document
says what was done and what was not, the line on stderr says that it is not all, and the exit code
is not 0. These are `aj apply` with the codes conflict, partly_applied and exec_files_withheld,
`aj discard` with tree_in_use and not_removed, and `aj exec --apply`, whose document is about the
command.
";

const POLICY: &str = "\
The policy of a jail is what its command may see, change and use. Each setting is decided by the
first of these that names it:

  1. the flag of `aj exec`
  2. aj.toml of the project, which may only narrow what follows here
  3. the preset chosen with --preset (build, install, agent, dev, or one of config.toml)
  4. [defaults] and [env] in config.toml of the user
  5. the preset that [defaults] names
  6. what is built in

A preset on the command line is chosen for this run, so it stands above [defaults]; a preset that
a file names stands below what else the file says. With --preset, those of files are not used.

The files of a project come from whoever wrote the project: a setting in aj.toml that would give
the jail more than the user's own configuration does is refused or dropped, never obeyed.
The limits under [limits.max] in the user's config.toml bind every layer, flags included.

Every setting stands below the name of its table. In aj.toml, at the top of the project, there is
one table:

  [jail]
  net = \"none\"
  mem = \"2G\"
  hide = [\"**/secrets/*.json\"]
  require = [\"netns\"]

and in config.toml of the user, ~/.config/agentjail/config.toml (`aj config path`), these:

  [defaults]
  preset = \"build\"
  hide = [\"*.kdbx\"]
  [env]
  PAGER = \"cat\"
  [limits.max]
  mem = \"16G\"
  [keep]
  age = \"30d\"
  [presets.night]
  timeout = \"8h\"

A setting above every table or in another one is an error where it may narrow (`hide`, `mem`), and
a warning where it could only widen (`show`, `rw`). `aj config check` reads the files and runs
nothing; `aj config list` shows what holds.

A layer of the jail that was asked for and cannot be applied is an error, not a weaker jail. So is
a limit of memory, processors, reading or writing that this machine cannot enforce, when a flag or
config.toml asks for it and --best-effort does not. One that only aj.toml asks for is warned of
instead: a project may narrow its jails, not keep them from starting.

A weaker jail is chosen by name: `--mode nested`, or `mode` below [defaults] in config.toml (aj.toml
may only ask for more). The strongest mode that works here is used, said on stderr and recorded;
`aj doctor` says which it is.
  full    every layer; the only one unless another is named
  nested  in a container: no fresh /proc can be had, so the one around the jail is shown, read-only.
          Processes there, their command lines and network addresses are seen, and no more
  lite    no namespaces at all: Landlock and the system call filter hold an ordinary user's command,
          which works on a private copy. It sees names and sizes of all files and the command lines
          of all processes, can change permissions and times of your files, and the priorities and
          processors of your processes, reaches System V shared memory of yours, and where Landlock
          is older than ABI 6, signals your processes. There are no message queues and semaphores
          but those of threads (fakeroot needs them). --pids and --tmp have no effect
`--require LAYER` (`require = [\"landlock:6\", \"netns\"]` below [defaults], or [jail] in aj.toml)
refuses to run without a layer: names as in `layers` of --json; `full` stands for all of them.

What a run changes is written to the state directory through an overlay. Where its file system
cannot be used for that (overlayfs in containers, some of the network and of FUSE), changes are
held in memory while the command runs, --tmp at most, and copied there at its end; a copy that
fails is an error with code 125. Where no overlay at all can be had, the command works on a
private copy of the tree, made at its start. Either is said on stderr, and recorded as `storage`;
what a run changed is lost with it when aj itself is killed (SIGKILL) in the middle.

--disk is held by a quota of the state directory's file system (root, where there are project
quotas) or by the size of the tmpfs (--storage memory). Elsewhere what is written is watched, and
the jail killed when it is over: a file that was unlinked while it is open has no name, is not seen
and takes room until it is closed. `aj doctor` says which it would be, `disk_by` which it was.

How much is kept of what runs changed is said by [keep] in the user's config.toml alone, because
it is about all projects: trees = 20, size = \"2G\" (on the disk, together), age = \"7d\" since the
last run in them; `none` is no bound. A run that keeps its changes removes what is beyond, older
changes first, never its own or what is in use, and says so.

[keep] also says what `aj gc` removes: workspaces that expired so long ago (expired = \"1d\"), jobs
that ended so long ago, with their logs (logs = \"30d\"), and records of jails, those that are older
(record_age = \"90d\") and those beyond so many (records = 100000).

`aj exec --dry-run -- COMMAND` shows each setting and where it came from, and runs nothing.
";

const SECRETS: &str = "\
A command does not see, in the project's root and in the directories from there to the one it
starts in, what has the name of a secret:

  .env, .env.*      but not .env.example, .sample, .template and .test, nor a virtual environment
  .netrc, .pypirc, .git-credentials, credentials.json
  .npmrc            with a token in it
  *.pem, id_*       with a private key in it; certificates and public keys are seen

in upper case as in lower, and of .git/config the credentials: passwords in URLs, users that are a
token (`https://me@host/` stays), tokens in queries (`?private_token=`), headers, helpers that say a
password. So it is with the configuration of submodules and worktrees, with files of the tree that
it includes, and where git's directory lies beside the tree (to show that one: `--show` with its
whole path); .git/credentials is hidden. Of a link by these names, the file in the tree that it
leads to is hidden as well. What git has noted of URLs elsewhere (reflogs, FETCH_HEAD) is seen: git
leaves users and passwords out there, but not tokens in queries. What was hidden is said in one line
on stderr, in `aj exec --dry-run`, and on record.

  --hide GLOB   hide this, too
  --show GLOB   show it all the same

In files they stand below the name of a table: in aj.toml of the project

  [jail]
  hide = [\"**/secrets/*.json\", \"deploy/keys\"]

and in config.toml of the user

  [defaults]
  hide = [\"*.kdbx\"]
  show = [\".env.test\"]

A GLOB is a path below the project's root: `*`, `?` and `[a-z]` match within a name, `**` any
number of directories. One that is a name alone is looked for where the names above are; with a
`/` in front, in the root only. A directory is hidden with all that is in it. The command line
decides first, then aj.toml, which can only hide, then config.toml; in one of them, hiding wins.
`--show '*'` shows all that is hidden by its name, `--show '**'` everything.

In ~/bin and ~/.local/bin, where PATH shows them (`aj help tools`), the same names are hidden at the
top; one is shown by its whole path.

In an overlay the files are not there, and the command may make its own: `aj apply` never brings
those back, and never deletes what was hidden. With --rw and --ro, and in directories shown by
these, they are there, empty, and cannot be changed, moved or removed. A file that is shown by its
own name (`--ro ./.env`) is shown.

What git tracks and is hidden is a change to git inside: `git commit -a` commits it, `git rebase`
stops at it. `--show` it, or `git update-index --skip-worktree` it outside; a warning names it.

`aj exec @` hides what an earlier run in the same changes did not see, unless `--show` names it.

It is looked for once, before the command starts. What the host makes there later is seen, and
with --rw so is a secret that the host replaces meanwhile, as editors do. Other names of the same
file (hard links) are seen; there is a warning. A search by `**` does not enter .git directories,
remembers what it saw, and ends the run with an error when it meets more than 500000 names, 64
levels, or 3 seconds.
";

const TERMINALS: &str = "\
When stdin, stdout and stderr of `aj exec` are all terminals, the command has a terminal: one of the
jail's own, never yours. What you type goes there, what it writes comes here as it is, and it has
the size of your window. Your terminal is raw meanwhile: Ctrl-C and Ctrl-Z are for the program in
the foreground inside.

  -t, --tty       the same when only stdin is a terminal; stdout and stderr become one stream
  -T, --no-tty    pipes, as when any of the three is no terminal, and with --json and --events

With pipes, lines that you type are for the command, those that it does not read as well; keys that
a pager asks for (`aj exec -- make | less`) are for the pager.

  Ctrl-C          to the program in the foreground inside, as outside
  Ctrl-Z          when it stops the command itself, the jail and its clock stop, and aj with them:
                  `fg` continues. A job of a shell inside is that shell's affair
  Ctrl-] thrice   within a second: the jail is killed, whatever its programs do

Signals sent to aj go to the command; the second one kills the jail. When your terminal is closed
the command gets SIGHUP, and after --grace the jail is killed. In the background (`aj exec … &`) aj
leaves the keyboard and the settings of your terminal alone until it is brought to the foreground.

However it ends, your terminal is as it was: its settings, and what the program left switched on
(alternate screen, mouse, pasting, hidden cursor, colours, a link …). Only `kill -9` of aj itself
leaves that to `reset`. What you typed and the command did not read is gone with it.

A program can make your terminal do what any output can: set its title or its clipboard, ask it
questions. -T and a pipe (`| cat -v`) keep it away; `aj jail show` escapes what it shows.

TERM, COLORTERM and the like come along; LINES and COLUMNS do not, because the terminal says it. A
program whose TERM is not known inside (a terminfo below your home): `-e TERM=xterm-256color`.
";

fn tools() -> String {
    let rows: Vec<_> = flavor::built_in().map(|f| (f.name.to_string(), f.about.to_string())).collect();
    let rows: Vec<_> = rows.iter().map(|(name, about)| (name.clone(), about.as_str())).collect();
    format!("{TOOLS}\n{}", columns(&rows))
}

const TOOLS: &str = "\
Most tool chains live under the home directory, which a jail does not show. `aj` knows where they
are: when your PATH, or a variable like NVM_DIR, leads to one of the list below, the directories
that its programs need are shown, read-only and at their own paths, and PATH inside is yours
without what cannot be seen. Nothing is searched, and nothing beside these directories is shown:
credentials.toml beside ~/.cargo/bin, ~/.npmrc and ~/.m2/settings.xml do not exist inside.

  aj exec --dry-run -- true        which tools are shown, their directories, what led to them, and
                                   which entries of PATH are left out, and why
  aj exec --tools none -- true     show none
  aj exec --tools uv,nvm -- true   show these at most
  aj exec --ro DIR -- true         show another directory

In config.toml the same is `tools = [\"uv\", \"nvm\"]` under [defaults].

The aj.toml of a project may only name fewer, below [jail]. A directory that is a link to elsewhere,
that everyone may write, or that secrets are kept in is left out with a warning. /usr, and
/usr/local with it, is always there.

Installed tools cannot be changed from inside, and what they write goes to the jail's own home: the
registry of cargo to ~/.cargo, packages of `pip install` to ~/.local, `go install` to ~/go. With the
presets build and install your package caches are there as well: `aj help caches`.

Where the jail has cargo, what decides how is built (sources, registries, flags, profiles, aliases)
is copied from your ~/.cargo/config.toml to /.cargo/config.toml: no tokens nor what provides them,
no credentials in URLs, no wrapper of rustc, and no [env], which a warning names.

To add a tool chain, describe it in ~/.config/agentjail/flavors/NAME.toml:

  about = \"the ACME compiler\"
  path = [\"$ACME_ROOT\"]             PATH or the variable leads here
  show = [\"@/bin\", \"@/lib\"]         shown read-only; @ is what was reached
  hide = [\"@/lib/*/token\"]          seen empty
  [where]
  ACME_ROOT = \"~/acme\"              a variable, and its usual value
  [set]
  ACME_ROOT = \"$ACME_ROOT\"          set inside

A file with the name of one below takes its place. The files of these are the flavors/ of the
source, where rustup.toml explains every key.
";

fn caches() -> String {
    let rows: Vec<_> = flavor::caches().map(|c| (c.name.to_string(), c.about.to_string())).collect();
    let rows: Vec<_> = rows.iter().map(|(name, about)| (name.clone(), about.as_str())).collect();
    format!("{CACHES}\n{}", columns(&rows))
}

const CACHES: &str = "\
What package managers have downloaded lies under the home directory, which a jail does not show.
With --preset build or --preset install it is there: `cargo build --offline` and `npm ci --offline`
work without a network as they do outside.

  aj exec --preset build -- cargo test             with the caches of programs that the jail has
  aj exec --caches auto -- cargo test              the same caches, without the preset
  aj exec --caches cargo,npm -- make               these at most
  aj exec --preset build --caches none -- make     none
  aj exec --preset build --dry-run -- true         which caches, their directories, what uses them

Each cache is seen at its own path. What is written to it stays in the run and goes with it: yours
never changes, the next run begins with yours again, `aj diff` and `aj apply` know nothing of it. It
is kept in memory (see --tmp) when there is no network; on disk when there is one, when the cache is
of what compilers make, and always on Linux before 6.6.

A cache is found as its program finds it: by CARGO_HOME, npm_config_cache, PIP_CACHE_DIR,
UV_CACHE_DIR, GOMODCACHE, GOCACHE, GRADLE_USER_HOME, -Dmaven.repo.local in MAVEN_OPTS, CCACHE_DIR,
XDG_CACHE_HOME and the like, else where it usually is. Settings in files (~/.npmrc, `go env -w`,
settings.xml) are not read, and not shown: neither are credentials.toml, config.toml,
gradle.properties, init.d, or logs. Of pip only wheels are shown: with whole responses it may keep
passwords that were sent.

A directory that is reached through a link, that everyone may write, that is somebody else's, or
that holds your home directory, secrets, the workspace or the state of aj is left out, with one
warning for all. Where a link is in the way, a variable that names the true place helps. When no
overlay can be mounted over the file system of a cache, it is empty inside, with a warning.

In config.toml the same is `caches = [\"cargo\", \"npm\"]` under [defaults]. The aj.toml of a project
may only name fewer, below [jail].

To add a cache, describe it in ~/.config/agentjail/flavors/NAME.toml:

  [cache]
  about = \"packages of ACME\"
  for = [\"acme\"]                                  shown when the jail has this program
  show = [\"$ACME_CACHE\"]                          what the tool fills by itself, no configuration
  hide = [\"$ACME_CACHE/auth\"]                     seen empty
  where = { ACME_CACHE = \"~/.cache/acme\" }        a variable, and its usual value
  set = { ACME_CACHE = \"$ACME_CACHE\" }            set inside

A file with the name of one below takes its place. The files of these are the flavors/ of the
source, where cargo.toml explains every key.
";

/// Two columns, the second one aligned.
fn columns(rows: &[(String, &str)]) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.iter().map(|(left, right)| format!("  {left:width$}  {right}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_and_every_code_is_on_its_page() {
        let page = find("environment").unwrap();
        for var in env::ALL {
            assert!(page.contains(&format!("  {} ", var.name)), "{} in\n{page}", var.name);
        }
        let page = find("exit-codes").unwrap();
        for code in [0, 1, 2, 3, 4, 5, 6, 69, 70, 124, 125, 126, 127] {
            assert!(
                page.lines().any(|l| l.trim_start().starts_with(&format!("{code} "))),
                "{code} in\n{page}"
            );
        }
        assert!(find("nonsense").is_none());
    }

    #[test]
    fn pages_fit_a_terminal() {
        for topic in ALL {
            for line in (topic.text)().lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", topic.name);
            }
        }
    }
}
