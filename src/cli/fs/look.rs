//! The commands that change nothing.

use std::ffi::OsString;

use super::super::changes::Page;
use super::super::error::{CmdResult, CommandError};
use super::super::exit::{self, Exit};
use super::super::files::{bits, partial, shown, warn_if_running};
use super::super::search::{self, Shown};
use super::super::ui::Ui;
use super::Which;
use crate::base::text;
use crate::ops::files::Target;
use crate::ops::files::read::{self, List, Range, Test, Told};
use crate::ops::files::search::Query;
use crate::schema::files::File;
use crate::schema::jail::bytes64;

/// List a directory
///
/// Names are sorted by their bytes. Names that begin with a dot are left out without -a. With -l each line
/// has the bits, the owner as the jail sees it, the size, the time, and a `*` for what lies in the jail's
/// own layer: made, changed or touched by it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs list @
  aj fs list @ -la src
  aj fs list @ -R -z | xargs -0 -n1 echo
  aj fs list @ --json | jq -r '.entries[] | select(.own) | .path'")]
pub(super) struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// A path in it
    #[arg(value_name = "PATH", default_value = ".")]
    path: OsString,
    /// Names that begin with a dot, too
    #[arg(short, long)]
    all: bool,
    /// Bits, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// What is in directories, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// End each path with a NUL byte and do not escape it
    #[arg(short = 'z', long, conflicts_with = "long")]
    null: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Go on after what `next_cursor` of --json says
    #[arg(long, value_name = "CURSOR", requires = "limit", conflicts_with = "recursive")]
    cursor: Option<String>,
}

pub(super) fn list(ui: &Ui, args: ListArgs) -> CmdResult {
    let after = match &args.cursor {
        None => None,
        Some(text) => Some(bytes64::decode(text).ok_or_else(|| {
            CommandError::new(exit::USAGE, "bad_cursor", "`--cursor` is not what `next_cursor` said")
        })?),
    };
    let target = Target::read(&args.which.ws, ui)?;
    warn_if_running(ui, &target);
    let options = List { all: args.all, recursive: args.recursive, limit: args.limit, after };
    if ui.json {
        let listing = read::listing(&target, &args.path, &options)?;
        ui.document(&listing);
        return verdict(partial(ui, &listing.failed, 0, true, "read"));
    }
    let (mut page, mut failed) = (Page::new(ui), Vec::new());
    let rest = read::list(&target, &args.path, &options, &mut |told| {
        match told {
            Told::Failed(f) => failed.push(f),
            Told::Entry(file) if args.null => page.raw(&raw(&file)),
            Told::Entry(file) if args.long => page.line(&line(&file)),
            Told::Entry(file) => page.line(&shown(&file)),
        }
        failed.len() < 1000
    })?;
    drop(page);
    if rest.is_some() && failed.len() < 1000 {
        ui.status("there is more; `--json` says where to go on");
    }
    verdict(partial(ui, &failed, 0, true, "read"))
}

fn verdict(error: Option<CommandError>) -> CmdResult {
    error.map_or(Ok(Exit(exit::OK)), Err)
}

/// The bytes of the path, with a NUL.
fn raw(file: &File) -> Vec<u8> {
    let name = &file.name;
    let bytes = name.path_base64.as_deref().and_then(bytes64::decode);
    let mut bytes = bytes.unwrap_or_else(|| name.path.clone().into_bytes());
    bytes.push(0);
    bytes
}

fn line(file: &File) -> String {
    let own = if file.own { '*' } else { ' ' };
    let time = file.modified_at.as_deref().map_or("-", |t| t.get(..19).unwrap_or(t));
    format!("{}{own} {:>5} {:>5} {:>12} {time}Z {}", bits(file), file.uid, file.gid, file.size, shown(file))
}

/// Say what is under a path
///
/// A link itself, unless -L is given. `own` says whether it lies in the jail's own layer.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs stat @ Cargo.lock
  aj fs stat @ -L current --json")]
pub(super) struct StatArgs {
    #[command(flatten)]
    which: Which,
    /// A path in it
    #[arg(value_name = "PATH")]
    path: OsString,
    /// What a link leads to
    #[arg(short = 'L', long)]
    follow: bool,
}

pub(super) fn stat(ui: &Ui, args: &StatArgs) -> CmdResult {
    let target = Target::read(&args.which.ws, ui)?;
    warn_if_running(ui, &target);
    let stat = read::stat(&target, &args.path, args.follow)?;
    if ui.json {
        ui.document(&stat);
        return Ok(Exit(exit::OK));
    }
    let f = &stat.file;
    let mut rows = vec![
        ("path", f.name.path.clone()),
        ("kind", f.kind.to_owned()),
        ("size", f.size.to_string()),
        ("allocated", f.allocated.to_string()),
        ("mode", format!("{} ({})", f.mode, bits(f))),
        ("uid", f.uid.to_string()),
        ("gid", f.gid.to_string()),
        ("links", f.links.to_string()),
        ("modified", f.modified_at.clone().unwrap_or_else(|| "-".to_owned())),
        ("own", if f.own { "yes" } else { "no" }.to_owned()),
    ];
    rows.extend(f.target.clone().map(|target| ("target", target)));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(k, v)| vec![k.to_owned(), v]).collect();
    ui.table(&["what", "value"], &rows);
    Ok(Exit(exit::OK))
}

/// Print a file
///
/// The bytes as they are; on a terminal what could control it is escaped, unless --raw is given. --range
/// takes `START:LENGTH`, `START:` and `-N:` (the last N bytes).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs cat @ src/main.rs
  aj fs cat @ data.bin --range 512:16 | xxd
  aj fs cat @ build.log --range -4096:
  aj fs cat @ notes.md --json | jq -r .content")]
pub(super) struct CatArgs {
    #[command(flatten)]
    which: Which,
    /// A file in it
    #[arg(value_name = "PATH")]
    path: OsString,
    /// Only these bytes
    #[arg(long, value_name = "START:LENGTH", value_parser = parse_range, allow_hyphen_values = true)]
    range: Option<Range>,
    /// The bytes as they are, to a terminal as well
    #[arg(long)]
    raw: bool,
}

fn parse_range(text: &str) -> Result<Range, String> {
    let bad = || "write it like `512:16`, `512:` or `-4096:`".to_owned();
    let (start, length) = text.split_once(':').ok_or_else(bad)?;
    let start = start.parse().map_err(|_| bad())?;
    let length = if length.is_empty() { None } else { Some(length.parse().map_err(|_| bad())?) };
    Ok(Range { start, length })
}

pub(super) fn cat(ui: &Ui, args: &CatArgs) -> CmdResult {
    let target = Target::read(&args.which.ws, ui)?;
    warn_if_running(ui, &target);
    let opened = read::open(&target, &args.path, args.range.unwrap_or_default())?;
    if ui.json {
        ui.document(&opened.content(&target)?);
    } else if ui.stdout_is_terminal() && !args.raw {
        ui.escaped(opened.file);
    } else {
        ui.pour(opened.file);
    }
    Ok(Exit(exit::OK))
}

/// Ask whether a path is there, by the exit code
///
/// 0 yes, 1 no, 3 no such workspace. Links are followed, but for -L; one that leads out of the workspace
/// leads to nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs test @ Cargo.toml && echo yes
  aj fs test @ -d node_modules")]
pub(super) struct TestArgs {
    #[command(flatten)]
    which: Which,
    /// A path in it
    #[arg(value_name = "PATH")]
    path: OsString,
    /// And is a regular file
    #[arg(short, long, group = "kind")]
    file: bool,
    /// And is a directory
    #[arg(short, long, group = "kind")]
    directory: bool,
    /// And is a symbolic link
    #[arg(short = 'L', long, group = "kind")]
    link: bool,
}

pub(super) fn test(ui: &Ui, args: &TestArgs) -> CmdResult {
    let target = Target::read(&args.which.ws, ui)?;
    let what = match (args.file, args.directory, args.link) {
        (true, ..) => Test::File,
        (_, true, _) => Test::Directory,
        (_, _, true) => Test::Link,
        (false, false, false) => Test::Exists,
    };
    let yes = read::test(&target, &args.path, what)?;
    if ui.json {
        ui.document(&serde_json::json!({"path": text::os(&args.path), "result": yes}));
    }
    Ok(Exit(if yes { exit::OK } else { exit::FAILED }))
}

/// Find a text in files, as `aj search --fixed`
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs find @ src 'TODO'
  aj fs find @ . 'api.example.com' --json")]
pub(super) struct FindArgs {
    #[command(flatten)]
    which: Which,
    /// A file or directory in it
    #[arg(value_name = "PATH")]
    path: OsString,
    /// The text
    #[arg(value_name = "TEXT")]
    text: String,
}

pub(super) fn find(ui: &Ui, args: FindArgs) -> CmdResult {
    let query = Query { pattern: args.text, fixed: true, ..Query::default() };
    search::answer(ui, (&args.which.ws, &[args.path]), &query, &Shown::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_written() {
        assert_eq!(parse_range("512:16"), Ok(Range { start: 512, length: Some(16) }));
        assert_eq!(parse_range("5:"), Ok(Range { start: 5, length: None }));
        assert_eq!(parse_range("-9:"), Ok(Range { start: -9, length: None }));
        for bad in ["", "5", ":", "a:b", "5:-1", "5:1:2"] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
    }
}
