//! `aj apply`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::changes::{Here, Page, places, plural, summary};
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::base::id::Id;
use crate::base::quote::command_line;
use crate::base::text;
use crate::ops::changes::{self, ApplyOptions, DiffOptions, To};
use crate::ops::doctor;
use crate::schema::changes::Applied;
use crate::workspace::diff::Conflict;

const EXAMPLES: &str = "\
Examples:
  aj apply                   bring back what the newest jail over this directory changed
  aj apply -n                show what would be done
  aj apply @ src docs        a part of what the newest kept run here changed
  aj apply api src           a part of what is in the workspace `api`
  aj apply scratch --to out  what a workspace that began empty has in it
  aj apply --allow-exec-files .github/workflows";

/// Bring what a jail changed back into the directory
///
/// Each file is replaced in one step; nothing is ever half written, and applying again after an
/// interruption completes the work. When anything to be changed also changed on the host since the
/// jail started, or was deleted there, nothing is applied (see --partial and --overwrite). Files that the host would run or
/// obey are left out unless --allow-exec-files is given. Setuid bits, attributes and special files do
/// not come back.
///
/// A file that was deleted on the host while the jail ran, and that the jail changed after that, may come
/// back as a new one: that is seen only where the jail changed nothing else in that directory, and
/// removed or moved nothing anywhere.
///
/// The jail and the paths are named as for `aj diff`. Without a jail the newest one over this directory
/// whose changes are kept is meant, also while it is running: its changes are not whole before it has
/// ended, so it is refused, never passed over for an older one.
///
/// The changes of a workspace over a copy (`aj workspace create --import DIR`) come back into DIR, where it
/// still has what was copied; what is different there was changed on the host meanwhile.
///
/// Exit codes: 0 everything was applied; 1 nothing was, because of conflicts or a failure; 3 no such
/// jail, no changes kept, or no such path; 4 files that the host would execute were left out; 5 the
/// jail is still running, or another apply is at work; 6 a part was left out. With --json the result
/// is on stdout also for 1, 4 and 6, if the changes were looked at, and the error on stderr.
#[derive(clap::Args, Debug, Default)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A jail (id, start of one, or `@` for the newest kept of this project) or a workspace (name or id),
    /// then paths to keep to
    #[arg(value_name = "JAIL|WORKSPACE|PATH")]
    arguments: Vec<OsString>,
    /// Show what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Bring back files that the host would execute as well
    #[arg(long)]
    allow_exec_files: bool,
    /// Apply the rest when some changes are in conflict
    #[arg(long)]
    partial: bool,
    /// Let the jail's version win over changes made on the host meanwhile
    #[arg(long)]
    overwrite: bool,
    /// Bring the changes of a workspace that began empty, or with a copy (`--import`), into this directory.
    /// What is there already is in conflict where it is neither what the jail has nor what was copied
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    to: Option<PathBuf>,
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let chosen = changes::choose(&args.arguments, args.to.as_deref().map_or(To::Home, To::Dir), ui)?;
    let asked = Asked::new(&args, chosen.tree.id, &chosen.paths);
    let options = ApplyOptions {
        diff: DiffOptions { only: chosen.only },
        dry_run: args.dry_run,
        allow_exec_files: args.allow_exec_files,
        partial: args.partial,
        overwrite: args.overwrite,
    };
    let done = changes::apply(&chosen.tree, &options, ui)?;
    finish(ui, &done, &Here::new(chosen.here), &asked)
}

/// Show what was done and decide the exit code.
fn finish(ui: &Ui, done: &Applied, here: &Here, asked: &Asked) -> CmdResult {
    if ui.json {
        ui.document(done);
    } else {
        show(ui, done, here);
    }
    verdict(done, asked).map_or(Ok(Exit(exit::OK)), Err)
}

fn show(ui: &Ui, done: &Applied, here: &Here) {
    let mut page = Page::new(ui);
    for c in &done.applied {
        page.line(&here.line(c));
    }
    let heading = "Left out, the host would run or obey them:";
    page.section(heading, done.withheld.iter().map(|c| here.line(c)));
    page.section("In conflict:", done.conflicts.iter().map(|c| here.line(c)));
    page.section("Failed:", done.failed.iter().map(|f| here.failed(f)));
    page.section("Not applied:", done.skipped.iter().map(|s| here.skipped(s)));
    drop(page);
    if done.truncated > 0 {
        ui.warn(&format!("{} more not shown", plural(done.truncated, "line")));
    }
    if done.cleaned > 0 {
        let what = plural(done.cleaned, "temporary file");
        ui.status(&format!("removed {what} that an interrupted apply had left"));
    }
    let places = places(&done.base, &done.parts);
    if done.performed {
        ui.status(&format!("applied {} to {places}", summary(&done.totals)));
    } else if done.dry_run && done.totals.changes == 0 && done.conflicts_total > 0 {
        let what = plural(done.conflicts_total, "change");
        ui.status(&format!("would apply nothing to {places}: {what} in conflict"));
    } else if done.dry_run {
        ui.status(&format!("would apply {} to {places}", summary(&done.totals)));
    }
}

/// The same on stderr alone, for `aj exec --apply`, whose stdout is the command's.
pub(super) fn finish_quietly(ui: &Ui, done: &Applied, allow_exec_files: bool) -> Result<(), CommandError> {
    if done.performed {
        let places = places(&done.base, &done.parts);
        ui.status(&format!("applied {} to {places}", summary(&done.totals)));
    }
    for c in done.withheld.iter().chain(&done.conflicts) {
        ui.warn(&format!("not applied: {}", Here::default().line(c)));
    }
    let args = Args { allow_exec_files, ..Args::default() };
    verdict(done, &Asked::new(&args, done.tree, &[])).map_or(Ok(()), Err)
}

/// What was asked for, to be asked again in a hint.
struct Asked {
    id: Id,
    flags: Vec<&'static str>,
    to: Option<String>,
    paths: Vec<String>,
}

impl Asked {
    fn new(args: &Args, id: Id, paths: &[OsString]) -> Asked {
        let flags = [
            (args.allow_exec_files, "--allow-exec-files"),
            (args.partial, "--partial"),
            (args.overwrite, "--overwrite"),
        ];
        let flags = flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).collect();
        Asked { id, flags, to: args.to.as_ref().map(text::os), paths: paths.iter().map(text::os).collect() }
    }

    /// The same command once more.
    fn again(&self) -> String {
        self.with("")
    }

    /// The same command with one more flag.
    fn with(&self, flag: &'static str) -> String {
        let dashes = if self.paths.iter().any(|p| p.starts_with('-')) { "--" } else { "" };
        let words = ["aj", "apply", self.id.as_str()];
        let to = self.to.as_ref().map_or([""; 2], |dir| ["--to", dir]);
        let words = words.iter().chain(&self.flags).chain([&flag]).chain(&to).chain([&dashes]);
        let words = words.filter(|w| !w.is_empty());
        let words: Vec<String> = words.map(|w| (*w).to_owned()).chain(self.paths.iter().cloned()).collect();
        format!("`{}`", command_line(&words))
    }
}

/// What is wrong with the outcome, if anything. A dry run is always right.
fn verdict(done: &Applied, asked: &Asked) -> Option<CommandError> {
    let unknown = done.skipped.iter().filter(|s| s.unknown).count();
    if done.dry_run {
        return None;
    }
    let conflicts = plural(done.conflicts_total, "change");
    if !done.performed {
        let message = format!("nothing was applied: {conflicts} in conflict");
        let mut error = CommandError::new(exit::FAILED, "conflict", message);
        if done.rest > 0 {
            error = error.hint(format!("apply the rest with {}", asked.with("--partial")));
        }
        return Some(about_conflicts(error, done, asked));
    }
    if !done.failed.is_empty() || done.conflicts_total > 0 || unknown > 0 {
        let nothing = done.totals.changes == 0 && !done.failed.is_empty();
        let exit = if nothing { exit::FAILED } else { exit::PARTIAL };
        let mut message = match done.conflicts_total {
            _ if nothing => "nothing could be applied".to_owned(),
            0 => "not everything was applied".to_owned(),
            _ => format!("not everything was applied: {conflicts} in conflict"),
        };
        if done.stopped {
            message = "the work stopped early".to_owned();
        }
        let mut error = CommandError::new(exit, "partly_applied", message);
        if done.conflicts_total > 0 {
            error = about_conflicts(error, done, asked);
        }
        if done.failed.iter().any(|f| f.errno == "EFBIG") {
            error = error.hint(doctor::FILE_SIZES);
        }
        let again = asked.again();
        return Some(match done.failed.iter().find_map(|f| f.directory.as_ref()) {
            Some(at) => error.hint(format!("make `{at}` writable for yourself, then {again} continues")),
            None if done.failed.is_empty() && unknown == 0 => error,
            None => error.hint(match done.failed.iter().find(|f| f.errno == "EPERM") {
                Some(f) => format!(
                    "`{}` may be append-only or immutable (`lsattr` tells), or another user's: free it, then {again} \
                     continues",
                    f.path
                ),
                None => format!("{again} again continues where this one ended"),
            }),
        });
    }
    if done.withheld_total > 0 {
        let what = plural(done.withheld_total, "file");
        let message = format!("{what} that the host would execute left out");
        let hint = format!("look at them, then {}", asked.with("--allow-exec-files"));
        return Some(CommandError::new(exit::REFUSED, "exec_files_withheld", message).hint(hint));
    }
    None
}

/// How to go on: what nobody may decide by a flag has to go first.
fn about_conflicts(error: CommandError, done: &Applied, asked: &Asked) -> CommandError {
    let first = |kind: Conflict| done.conflicts.iter().find(|c| c.conflict.as_deref() == Some(kind.text()));
    let again = asked.again();
    if let Some(c) = first(Conflict::Mount) {
        error.hint(format!("unmount what is mounted at or below `{}`, then {again}", c.path))
    } else if let Some(c) = first(Conflict::Unreadable) {
        error.hint(format!("make `{}` readable for yourself, then {again}", c.path))
    } else if let Some(c) = first(Conflict::Hidden) {
        let at = if c.path.starts_with('/') { c.path.clone() } else { format!("{}/{}", done.base, c.path) };
        let remove = command_line(&["rm", "-r", &at].map(str::to_owned));
        error.hint(format!("if what was hidden in `{}` may go: `{remove}`, then {again}", c.path))
    } else if asked.flags.contains(&"--overwrite") {
        error.hint(format!("the host changes it right now; {again} looks at it anew"))
    } else {
        error.hint(format!("let the jail's version win with {}", asked.with("--overwrite")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::changes::tests::sample;
    use crate::schema::changes::{Change, FORMAT, Failure, Skipped, Totals};

    fn done() -> Applied {
        Applied {
            format: FORMAT,
            tree: "jl-0123456789abcdef".parse().unwrap(),
            base: "/p".into(),
            parts: vec![],
            dry_run: false,
            performed: true,
            applied: vec![sample("a", "added")],
            withheld: vec![],
            conflicts: vec![],
            failed: vec![],
            skipped: vec![],
            totals: Totals { changes: 1, added: 1, ..Totals::default() },
            withheld_total: 0,
            conflicts_total: 0,
            rest: 0,
            stopped: false,
            cleaned: 0,
            truncated: 0,
        }
    }

    fn asked(args: Args, paths: &[&str]) -> Asked {
        let paths: Vec<OsString> = paths.iter().map(OsString::from).collect();
        Asked::new(&args, "jl-0123456789abcdef".parse().unwrap(), &paths)
    }

    #[test]
    fn a_hint_asks_for_what_was_asked_and_gets_further() {
        let conflict = |kind: Conflict| Applied {
            conflicts: vec![Change { conflict: Some(kind.text().into()), ..sample("c", "modified") }],
            conflicts_total: 1,
            ..done()
        };
        let hints = |d: &Applied, asked: &Asked| verdict(d, asked).unwrap().hints;
        let partial = || Args { partial: true, ..Args::default() };
        assert_eq!(
            hints(&conflict(Conflict::Changed), &asked(partial(), &["a b"])),
            ["let the jail's version win with `aj apply jl-0123456789abcdef --partial --overwrite 'a b'`"]
        );
        let stopped = Applied { performed: false, applied: vec![], rest: 1, ..conflict(Conflict::Changed) };
        assert_eq!(
            hints(&stopped, &asked(Args::default(), &["-x"])),
            [
                "apply the rest with `aj apply jl-0123456789abcdef --partial -- -x`",
                "let the jail's version win with `aj apply jl-0123456789abcdef --overwrite -- -x`"
            ]
        );
        assert_eq!(
            hints(&Applied { rest: 0, ..stopped }, &asked(Args::default(), &[])),
            ["let the jail's version win with `aj apply jl-0123456789abcdef --overwrite`"],
            "there is no rest"
        );
        let elsewhere = Args { to: Some("a b".into()), ..partial() };
        assert_eq!(
            hints(&conflict(Conflict::Changed), &asked(elsewhere, &["c"])),
            [
                "let the jail's version win with `aj apply jl-0123456789abcdef --partial --overwrite --to 'a b' c`"
            ]
        );
        // `--overwrite` would lead to the same conflict.
        assert_eq!(
            hints(&conflict(Conflict::Mount), &asked(partial(), &[])),
            ["unmount what is mounted at or below `c`, then `aj apply jl-0123456789abcdef --partial`"]
        );
        assert_eq!(
            hints(&conflict(Conflict::Hidden), &asked(Args { overwrite: true, ..partial() }, &[])),
            ["if what was hidden in `c` may go: `rm -r /p/c`, then \
                 `aj apply jl-0123456789abcdef --partial --overwrite`"]
        );
        let shut = Failure {
            path: "d/x".into(),
            error: "could not change directory `/p/d`: EACCES".into(),
            errno: "EACCES".into(),
            directory: Some("/p/d".into()),
        };
        assert_eq!(
            hints(&Applied { failed: vec![shut], ..done() }, &asked(Args::default(), &[])),
            ["make `/p/d` writable for yourself, then `aj apply jl-0123456789abcdef` continues"]
        );
        let fixed = Failure {
            path: "log".into(),
            error: "rename `log`: EPERM".into(),
            errno: "EPERM".into(),
            directory: None,
        };
        assert_eq!(
            hints(&Applied { failed: vec![fixed], ..done() }, &asked(Args::default(), &[])),
            ["`log` may be append-only or immutable (`lsattr` tells), or another user's: free it, then \
                 `aj apply jl-0123456789abcdef` continues"]
        );
    }

    #[test]
    fn the_exit_code_tells_how_much_was_applied() {
        let code = |d: Applied| verdict(&d, &asked(Args::default(), &[])).map_or(0, |e| e.exit);
        let failure = || {
            let (error, errno) = ("write: ENOSPC".into(), "ENOSPC".into());
            vec![Failure { path: "x".into(), error, errno, directory: None }]
        };
        assert_eq!(code(done()), 0);
        assert_eq!(code(Applied { withheld_total: 1, ..done() }), 4);
        assert_eq!(code(Applied { conflicts_total: 1, performed: false, ..done() }), 1);
        assert_eq!(code(Applied { conflicts_total: 1, withheld_total: 1, ..done() }), 6);
        assert_eq!(code(Applied { failed: failure(), ..done() }), 6);
        assert_eq!(code(Applied { failed: failure(), totals: Totals::default(), ..done() }), 1);
        let unknown = Skipped { path: "d".into(), reason: "could not be read".into(), unknown: true };
        assert_eq!(code(Applied { skipped: vec![unknown], ..done() }), 6);
        let dry = Applied { dry_run: true, performed: false, conflicts_total: 3, ..done() };
        assert_eq!(code(dry), 0, "a dry run did what was asked");
    }
}
