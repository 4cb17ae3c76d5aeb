//! `aj exec`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap_complete::engine::ArgValueCompleter;

use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::quick::{Quick, Take, once};
use super::ui::Ui;
use crate::base::{clock, size};
use crate::ops::exec::{self as op, Report, Request, Tty, Watcher};
use crate::ops::project::Choice;
use crate::ops::workspaces;
use crate::schema::exec::{Event, FORMAT, Line};
use crate::schema::jail::{Outcome, Usage};

mod answer;
mod failed;

use answer::answer;
use failed::failed_as;
pub(super) use failed::{failed, live, not_started};

const EXAMPLES: &str = "\
Examples:
  aj exec -- npm test                    run over a copy-on-write view of this directory
  aj exec api -- npm ci                  in a workspace that was made before
  aj exec api --pids 50 -- npm test      with limits of its own in the jail of that workspace
  aj exec @ -- npm start                 go on in what the last run left
  aj exec --rw -- make                   let it write here for real
  aj exec --timeout 5m -- ./fuzz         stop it after five minutes (exit code 124)
  aj exec --mem 2G --cpus 1 -- make      with limits of the jail as a whole, or not at all
  aj exec --show .env -- npm start       let it see a secret of the project that is hidden otherwise
  aj exec -- vim notes.txt               on a terminal: full-screen programs, Ctrl-C, Ctrl-Z and fg
  aj exec --json -- python3 a.py | jq    one JSON object with output, exit code and use
  aj exec --dry-run -- true              show the effective policy and where it comes from";

/// Run a command in a jail over the current directory
///
/// The command sees the project that this directory belongs to (the nearest directory at or above it
/// with an aj.toml or a .git, below your home directory; without one, this directory alone), at its
/// own path and as /workspace, through an overlay: what it writes stays apart until `aj apply` brings
/// it back. It starts in this directory. It has no network, no host processes, no
/// home directory of yours, no capabilities, and a filtered set of system calls.
///
/// git works as outside, in linked worktrees and submodules too: the git directory that they share is
/// seen in the same way, and so is one that lies elsewhere (`git clone --separate-git-dir`) when its setting
/// core.worktree names this tree. With --rw, the project's own git settings and hooks stay read-only, and those of its
/// submodules; what a command makes there that was missing (.git/commondir) is given another name when it has ended.
/// Another repository in the tree is files like all others.
///
/// With WORKSPACE the command runs in that workspace (`aj workspace create`): in its tree, with its home
/// and /output, which stay as the command leaves them, and with the settings that the workspace keeps,
/// below the flags of this command line.
///
/// With `@` or the id of a jail the command goes on in the kept changes of a run and adds to them: `@` is
/// the newest kept of this project, an id or the start of one is that jail, whatever directory it ran
/// over. The policy is that of this command line.
///
/// Commands in a workspace share one jail: processes, localhost, /tmp. The first starts it, it ends with
/// the last process, and what a command leaves behind lives on in it (`aj workspace stop` ends that).
/// What makes the jail what it is (--net, --ro, --tmp …) is the same for all of them; of --mem, --cpus and
/// --pids one command may have less.
///
/// In either it starts in this directory where that is in the tree, otherwise at its top. Kept changes
/// that are in use are refused.
///
/// On a terminal the command has a terminal of its own (`aj help terminals`); otherwise pipes.
///
/// The exit code is the command's own; 124 when its time was up; 125 when aj could not do its part;
/// 126 not executable; 127 not found; 128+n killed by signal n, 137 also when out of memory.
#[derive(clap::Args, Debug, Default, PartialEq)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub(super) policy: super::policy_flags::PolicyArgs,
    /// Show only this directory, not the whole project that it belongs to
    #[arg(long, help_heading = "Jail")]
    pub(super) here: bool,
    /// Show this directory instead of the project
    #[arg(long, value_name = "DIR", conflicts_with = "here", help_heading = "Jail")]
    pub(super) root_dir: Option<PathBuf>,
    /// Start in this directory of the tree
    #[arg(long, value_name = "DIR", help_heading = "Jail")]
    pub(super) cwd: Option<PathBuf>,
    /// Run STRING with a shell inside: `--sh 'a | b'`
    #[arg(long, value_name = "STRING", conflicts_with = "command", help_heading = "Jail")]
    pub(super) sh: Option<OsString>,
    /// Give the command a terminal of its own although its output goes elsewhere: stdin must be a terminal,
    /// and stdout and stderr are one. When all three are terminals it has one without being asked
    #[arg(short, long, conflicts_with_all = ["no_tty", "events"], help_heading = "Jail")]
    pub(super) tty: bool,
    /// Give the command no terminal but pipes
    #[arg(short = 'T', long, help_heading = "Jail")]
    pub(super) no_tty: bool,
    /// Show a directory that is refused otherwise (/, your home)
    #[arg(long, help_heading = "Jail")]
    pub(super) i_mean_it: bool,
    /// Apply the changes to the directory when the command succeeds
    #[arg(long, help_heading = "Changes")]
    pub(super) apply: bool,
    /// With --apply: also what the host would execute (git hooks, editor tasks …)
    #[arg(long, requires = "apply", help_heading = "Changes")]
    pub(super) allow_exec_files: bool,
    /// Check everything that can be checked before a start, print the effective policy and where each
    /// value comes from, and run nothing
    #[arg(long, visible_alias = "explain", short = 'n', overrides_with = "dry_run", help_heading = "Output")]
    pub(super) dry_run: bool,
    /// Write events as JSON lines to stdout: started, stdout, stderr, stats, and at last completed, or failed
    /// where the command could not be started. When their reader leaves, the command's output is closed
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub(super) events: bool,
    /// In a workspace: fail (exit code 5) if anything runs in it, and keep others out until this has ended
    #[arg(long, help_heading = "Jail")]
    pub(super) exclusive: bool,
    /// In a workspace: run in a fork of it, in a jail of its own, whatever else runs there. The fork is thrown
    /// away at the end, unless the command has changed something in the tree or in /output: then it is a
    /// workspace of its own (`aj diff`, `aj promote`), which is removed when it has not been used for as long
    /// as changes are kept (`keep.age`)
    #[arg(long, conflicts_with = "exclusive", help_heading = "Jail")]
    pub(super) isolated: bool,
    /// Write JSON lines about the start and the end to this descriptor
    #[arg(long, value_name = "FD", help_heading = "Output")]
    pub(super) status_fd: Option<i32>,
    /// Run in this workspace (name, id or the start of one), or go on in the kept changes of a jail (id,
    /// start of one, or `@` for the newest of this project)
    #[arg(value_name = "WORKSPACE", value_parser = jail(), add = ArgValueCompleter::new(super::complete::places))]
    pub(super) jail: Option<OsString>,
    /// The command and its arguments, untouched
    #[arg(last = true, required_unless_present = "sh", value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// The plain spellings that skip clap (see `quick`).
pub(super) const QUICK: Quick<Args> = Quick {
    flags: &[
        ("--preset", Take::Value(|a, v| a.policy.quick_value("--preset", v))),
        ("--mode", Take::Value(|a, v| a.policy.quick_value("--mode", v))),
        ("--seccomp", Take::Value(|a, v| a.policy.quick_value("--seccomp", v))),
        ("--net", Take::Value(|a, v| a.policy.quick_value("--net", v))),
        ("--tools", Take::Value(|a, v| a.policy.quick_value("--tools", v))),
        ("--caches", Take::Value(|a, v| a.policy.quick_value("--caches", v))),
        ("--timeout", Take::Value(|a, v| a.policy.quick_value("--timeout", v))),
        ("--grace", Take::Value(|a, v| a.policy.quick_value("--grace", v))),
        ("--mem", Take::Value(|a, v| a.policy.quick_value("--mem", v))),
        ("--pids", Take::Value(|a, v| a.policy.quick_value("--pids", v))),
        ("--nofile", Take::Value(|a, v| a.policy.quick_value("--nofile", v))),
        ("--tmp", Take::Value(|a, v| a.policy.quick_value("--tmp", v))),
        ("--cpus", Take::Value(|a, v| a.policy.quick_value("--cpus", v))),
        ("--disk", Take::Value(|a, v| a.policy.quick_value("--disk", v))),
        ("--storage", Take::Value(|a, v| a.policy.quick_value("--storage", v))),
        ("--io-read", Take::Value(|a, v| a.policy.quick_value("--io-read", v))),
        ("--io-write", Take::Value(|a, v| a.policy.quick_value("--io-write", v))),
        ("--env", Take::Value(|a, v| a.policy.quick_value("--env", v))),
        ("-e", Take::Value(|a, v| a.policy.quick_value("-e", v))),
        ("--vol", Take::Value(|a, v| a.policy.quick_value("--vol", v))),
        ("--show", Take::Value(|a, v| a.policy.quick_value("--show", v))),
        ("--hide", Take::Value(|a, v| a.policy.quick_value("--hide", v))),
        ("--best-effort", Take::Flag(|a| a.policy.quick_flag("--best-effort"))),
        ("--durable", Take::Flag(|a| a.policy.quick_flag("--durable"))),
        ("--as-root", Take::Flag(|a| a.policy.quick_flag("--as-root"))),
        ("--nested-userns", Take::Flag(|a| a.policy.quick_flag("--nested-userns"))),
        ("--apply", Take::Flag(|a| !std::mem::replace(&mut a.apply, true))),
        ("--events", Take::Flag(|a| !a.tty && !std::mem::replace(&mut a.events, true))),
        ("-t", Take::Flag(tty)),
        ("--tty", Take::Flag(tty)),
        ("-T", Take::Flag(no_tty)),
        ("--no-tty", Take::Flag(no_tty)),
        ("--here", Take::Flag(|a| a.root_dir.is_none() && !std::mem::replace(&mut a.here, true))),
        ("--root-dir", Take::Value(|a, v| !a.here && once(&mut a.root_dir, Some(PathBuf::from(v))))),
        ("--cwd", Take::Value(|a, v| once(&mut a.cwd, Some(PathBuf::from(v))))),
        ("--status-fd", Take::Value(|a, v| once(&mut a.status_fd, v.to_str().and_then(|v| v.parse().ok())))),
    ],
    word: |a, word| is_place(word) && a.jail.replace(word.to_owned()).is_none(),
    command: |a, words| {
        a.command = words.to_vec();
        true
    },
};

fn tty(a: &mut Args) -> bool {
    !a.no_tty && !a.events && !std::mem::replace(&mut a.tty, true)
}

fn no_tty(a: &mut Args) -> bool {
    !a.tty && !std::mem::replace(&mut a.no_tty, true)
}

/// What cannot be the name of a workspace or the id of a jail is a command without its `--`.
pub(super) fn jail() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|word| {
        if is_place(&word) {
            return Ok(word);
        }
        // `usage` says the rest.
        Err("a workspace is named in lower case; a jail is `@` or begins with `jl-`")
    })
}

fn is_place(word: &OsStr) -> bool {
    let text = word.to_string_lossy().to_ascii_lowercase();
    matches!(text.as_str(), "@" | "latest") || text.starts_with("jl-") || workspaces::is_selector(word)
}

/// Run it.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    start(ui, args, false)
}

/// Run it, or with `shell` the user's shell.
pub(super) fn start(ui: &Ui, args: Args, shell: bool) -> CmdResult {
    let flags = args.policy.into_flags()?;
    if args.events && ui.json {
        let message =
            "`--events` and `--json` do not go together: one is lines while it runs, the other one object";
        return Err(CommandError::new(exit::AJ_FAILED, "usage", message).hint(
            "leave out `--json`: events are JSON, and the last, `completed`, has the rest of the object",
        ));
    }
    if args.events && args.dry_run {
        let message = "`--events` and `--dry-run` do not go together: nothing runs that could be told of";
        return Err(CommandError::new(exit::AJ_FAILED, "usage", message)
            .hint("for programs: `aj exec --dry-run --json -- …`"));
    }
    if args.tty && ui.json {
        let what = if shell { "a shell" } else { "`--tty`" };
        let message = format!("{what} and `--json` do not go together: a terminal has no output to collect");
        return Err(CommandError::new(exit::AJ_FAILED, "usage", message).hint("leave out `--json`"));
    }
    let in_workspace = args.jail.as_deref().is_some_and(workspaces::is_selector);
    if args.exclusive && !in_workspace {
        let message = "`--exclusive` is for a command in a workspace: others have a jail of their own anyway";
        return Err(
            CommandError::new(exit::AJ_FAILED, "usage", message).hint("leave it out, or name a workspace")
        );
    }
    if args.isolated && !in_workspace {
        let message = "`--isolated` is for a command in a workspace: others have a jail of their own anyway";
        return Err(
            CommandError::new(exit::AJ_FAILED, "usage", message).hint("leave it out, or name a workspace")
        );
    }
    let argv = match args.sh {
        Some(script) => vec!["/bin/sh".into(), "-c".into(), script],
        None => args.command,
    };
    if argv.first().is_some_and(|program| program.is_empty()) {
        return Err(CommandError::new(exit::AJ_FAILED, "usage", "the command is empty")
            .hint("name a program after `--`, as in `aj exec -- true`"));
    }
    let request = Request {
        flags: flags.layer,
        env_files: flags.env_files,
        argv,
        tty: match (args.tty, args.no_tty) {
            (true, _) => Tty::Always,
            (_, true) => Tty::Never,
            (false, false) => Tty::Auto,
        },
        tree: match args.root_dir {
            Some(dir) => Choice::Dir(dir),
            None if args.here => Choice::Here,
            None => Choice::Project,
        },
        again: args.jail,
        cwd: args.cwd,
        gpus: flags.gpus,
        volumes: flags.volumes,
        i_mean_it: args.i_mean_it,
        capture: ui.json || args.events,
        ticks: args.events,
        status_fd: args.status_fd,
        exclusive: args.exclusive,
        alone: false,
        hold: None,
    };
    if args.dry_run {
        let explained = op::explain(&request).map_err(|e| failed_as(e, shell))?;
        super::config::show(
            ui,
            &explained.resolved,
            Some(super::config::Found {
                tree: explained.tree,
                tools: explained.tools,
                path_left_out: explained.path_left_out,
                caches: explained.caches,
                hidden: explained.hidden,
                limits: explained.limits,
                gpu: explained.gpu,
                volumes: explained.volumes,
            }),
        );
        return Ok(Exit(exit::OK));
    }
    if args.isolated {
        return super::exec_isolated::run(
            ui,
            request,
            (args.events, shell),
            args.apply.then_some(args.allow_exec_files),
        );
    }
    run_request(ui, &request, (args.events, shell), args.apply.then_some(args.allow_exec_files))
}

/// Run what is asked for. `apply`: bring the changes back, those that the host would execute as well or not.
pub(super) fn run_request(
    ui: &Ui,
    request: &Request,
    (events, shell): (bool, bool),
    apply: Option<bool>,
) -> CmdResult {
    let mut watcher = Watch { ui, events: events.then_some(0), error: None, shell };
    let report = match op::exec(request, &mut watcher) {
        Ok(report) => report,
        Err(op::Error::Said(code)) => return Ok(Exit(code)),
        Err(e) => {
            let e = failed_as(e, shell);
            if events {
                watcher.failed(&e);
            }
            return Err(e);
        }
    };
    let program = request.argv.first().map_or(OsStr::new("the shell"), OsString::as_os_str);
    finish(ui, program, report, &mut watcher, apply)
}

/// The process that was to hold the jail of a workspace says why there is none.
pub(super) fn holder_failed(ui: &Ui, report: Report) -> CmdResult {
    let mut watcher = Watch { ui, events: None, error: None, shell: false };
    let done = finish(ui, OsStr::new("the jail"), report, &mut watcher, None);
    done.map_err(|e| CommandError { exit: exit::FAILED, ..e })
}

struct Watch<'a> {
    ui: &'a Ui,
    /// Next sequence number of `--events`.
    events: Option<u64>,
    error: Option<CommandError>,
    shell: bool,
}

impl Watch<'_> {
    /// An event while the command runs: queued.
    fn event(&mut self, event: Event, lines: &mut Vec<u8>) {
        let Some(seq) = &mut self.events else { return };
        let line = Line { seq: *seq, time: clock::rfc3339(clock::now_ms()), event };
        *seq += 1;
        if serde_json::to_writer(&mut *lines, &line).is_ok() {
            lines.push(b'\n');
        }
    }

    /// The last event of what did not run.
    fn failed(&mut self, e: &CommandError) {
        let error = serde_json::to_value(e).unwrap_or_default();
        self.last(Event::Failed { format_version: FORMAT, error });
    }

    /// The last event: written.
    fn last(&mut self, event: Event) {
        let mut line = Vec::new();
        self.event(event, &mut line);
        self.ui.out(&String::from_utf8_lossy(&line));
    }
}

impl Watcher for Watch<'_> {
    fn started(&mut self, layers: Vec<String>, pid: i32, lines: &mut Vec<u8>) {
        self.event(Event::Started { format_version: FORMAT, layers, pid }, lines);
    }

    fn output(&mut self, stderr: bool, bytes: &[u8], lines: &mut Vec<u8>) {
        self.event(if stderr { Event::Stderr(bytes.into()) } else { Event::Stdout(bytes.into()) }, lines);
    }

    fn tick(&mut self, stats: Usage, lines: &mut Vec<u8>) {
        self.event(Event::Stats { stats }, lines);
    }

    fn attaching(&mut self) {
        if self.shell {
            self.ui.status("a shell in a jail: `exit` ends it, Ctrl-] three times kills it");
        }
    }

    fn progress(&mut self, said: &str) {
        self.ui.status(said);
    }

    fn stopping(&mut self) {
        if self.ui.stderr_is_terminal() {
            self.ui.status("stopping; press Ctrl-C again to kill");
        }
    }
}

fn finish(
    ui: &Ui,
    program: &OsStr,
    report: Report,
    watcher: &mut Watch<'_>,
    apply: Option<bool>,
) -> CmdResult {
    let code = report.exit_code();
    super::ui::hurry(report.patience);
    for warning in &report.warnings {
        ui.warn(warning);
    }
    if let Some(hidden) = &report.hidden {
        ui.status(hidden);
    }
    if let Outcome::Failed { step, errno, .. } = &report.ended.outcome {
        let e = not_started(program, step, errno, code, &report);
        if watcher.events.is_some() {
            watcher.failed(&e);
        }
        return Err(e);
    }
    if let Some(why) = &report.lost {
        let message = format!("what the command changed could not be kept and is lost: {why}");
        ui.error(&CommandError::new(exit::AJ_FAILED, "changes_lost", message));
    }
    if let Some((stream, why)) = report.output_failure() {
        let message = format!("could not write the command's output to {stream}: {why}");
        ui.error(&CommandError::new(exit::AJ_FAILED, "output_lost", message));
    }
    let undelivered = &report.ended.undelivered;
    if ui.json {
        ui.document(&answer(&report, code, true));
    } else if watcher.events.is_some() && !undelivered.abandoned && undelivered.stdout.is_none() {
        watcher.last(Event::Completed { result: Box::new(answer(&report, code, false)) });
    }
    if watcher.error.is_none() {
        say_why(ui, &report);
        changes(ui, &report, code, apply)?;
    }
    let interrupted = match report.ended.outcome {
        Outcome::Interrupted { signal } => Some(signal),
        _ => None,
    };
    // What a signal death would leave is put away before.
    drop(report);
    if let Some(signal) = interrupted {
        op::die_of(signal);
    }
    Ok(Exit(code))
}

/// Bytes of memory that no program starts with: pages of its own and tables of the kernel's.
const LEAST_MEMORY: u64 = 1 << 20;

fn say_why(ui: &Ui, report: &Report) {
    let (ended, policy) = (&report.ended, &report.policy);
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), size::human);
    match ended.outcome {
        Outcome::TimedOut => ui.status("the command was stopped: its time was up"),
        Outcome::OutOfMemory if ended.elsewhere => ui.status(&format!(
            "the command was killed: memory ran out on this machine or in a group above, not at its own limit \
             of {} (most {}, by {})",
            size(policy.mem),
            size(ended.peak_memory),
            policy.limits_by,
        )),
        Outcome::OutOfMemory => ui.status(&format!(
            "the command was killed: it used more memory than its limit of {} (most {}, by {}); {}",
            size(policy.mem),
            size(ended.peak_memory),
            policy.limits_by,
            match policy.mem {
                Some(limit) if limit < LEAST_MEMORY => "no program starts with so little: `--mem 64M`",
                _ => "more: `--mem SIZE`",
            },
        )),
        Outcome::Signaled { .. } if ended.over_disk => ui.status(&format!(
            "the command was killed: it had written more to disk than its limit of {}; more: `--disk SIZE`",
            size(policy.disk),
        )),
        Outcome::Exited { .. }
        | Outcome::Signaled { .. }
        | Outcome::Interrupted { .. }
        | Outcome::Failed { .. } => {}
    }
}

/// Say what changed, or apply it.
fn changes(ui: &Ui, report: &Report, code: u8, apply: Option<bool>) -> Result<(), CommandError> {
    if let (Some(tree), Some(allow), 0) = (report.shared, apply, code) {
        let done = op::apply(tree, allow, ui).map_err(failed)?;
        return super::apply::finish_quietly(ui, &done, allow)
            .map_err(|e| CommandError { exit: exit::AJ_FAILED, ..e });
    }
    if report.untold && apply.is_some() && code == 0 {
        let tree = report.workspace.clone().unwrap_or_else(|| report.id.to_string());
        let message = "nothing was applied: what the command changed could not be told".to_owned();
        return Err(CommandError::new(exit::AJ_FAILED, "changes_untold", message)
            .hint(format!("it is kept as far as it can be: see what `aj diff {tree}` says")));
    }
    let Some(diff) = &report.changes else { return Ok(()) };
    // In a workspace changes are what is expected.
    if report.workspace.is_some() && apply.is_none() {
        return Ok(());
    }
    // One name for a tree, however many runs went on in it.
    let (id, what) = (diff.tree, super::changes::summary(&diff.totals));
    match apply {
        Some(allow) if code == 0 => {
            let done = op::apply(id, allow, ui).map_err(failed)?;
            // The answer on stdout is the command's; what was applied is a status.
            super::apply::finish_quietly(ui, &done, allow)
                .map_err(|e| CommandError { exit: exit::AJ_FAILED, ..e })
        }
        Some(_) => {
            ui.status(&format!(
                "{what}; not applied, because the command failed: `aj diff {id}`, `aj apply {id}`"
            ));
            Ok(())
        }
        None if diff.totals.changes == 0 => {
            let left = diff.totals.skipped;
            ui.status(&format!("{what} that can be kept, {left} left out: see why with `aj diff {id}`"));
            Ok(())
        }
        None => {
            ui.status(&format!("{what}: see them with `aj diff {id}`, keep them with `aj apply {id}`"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::super::globals::Globals;
    use super::*;

    #[test]
    fn the_newest_is_read_alike_with_and_without_clap() {
        let clap = |words: &[OsString]| {
            let command = Globals::augment_args(Args::augment_args(clap::Command::new("exec")));
            let matches = command.no_binary_name(true).try_get_matches_from(words).ok()?;
            Args::from_arg_matches(&matches).ok()
        };
        let read = |words: &str| {
            let words: Vec<OsString> = words.split(' ').map(Into::into).collect();
            (QUICK.parse(words.iter()), clap(&words))
        };
        for words in [
            "-t -- true",
            "--tty @ -- true",
            "-T -- true",
            "--no-tty --here -- true",
            "@ -- true",
            "jl-7k3m -- true",
            "api -- true",
            "--here ws-7k -- true",
            "--apply @ --net none -- true",
            "--env @ -- true",
            "-e A=b @ -- true @",
        ] {
            let (quick, slow) = read(words);
            assert!(quick.is_some() && quick == slow, "{words}: {quick:?} {slow:?}");
        }
        for words in [
            "@ @ -- true",
            "-t -T -- true",
            "-t -t -- true",
            "-T -T -- true",
            "-t --events -- true",
            "api web -- true",
            "Make -- true",
            "@",
            "@ true",
        ] {
            assert_eq!(read(words).0, None, "{words}");
        }
        assert_eq!(read("JL-7k -- true").1.unwrap().jail, Some("JL-7k".into()));
        assert_eq!(read("Make -- true").1, None);
    }
}
