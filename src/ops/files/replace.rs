//! `aj fs replace`: a text or a pattern, in files that are named.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use regex::bytes::{NoExpand, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::read::regular;
use super::{Error, Result, Target, failed, format, name};
use crate::base::text;
use crate::schema::files::{Replaced, ReplacedIn};
use crate::workspace::view;
use crate::workspace::view::edit::Staging;
use crate::workspace::view::resolve::Last;

/// Bytes of one file at most: it is held in memory, and so is what becomes of it.
const MOST: u64 = 64 << 20;

/// What to replace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replacement {
    /// A text, or with `pattern` a regular expression.
    pub old: String,
    /// What comes in its place; with `pattern`, `$1` and `$name` are groups.
    pub new: String,
    /// `old` is a pattern.
    pub pattern: bool,
    /// Count only.
    pub dry_run: bool,
}

/// Who changes the files: `None` when nothing is written.
type Writer<'a> = Option<&'a Staging>;

/// Replace in every file of `paths`. Each is replaced in one step; one that cannot be is told, and the
/// others are done all the same.
pub fn replace(
    (target, staging): (&Target, Writer<'_>),
    paths: &[OsString],
    what: &Replacement,
) -> Result<Replaced> {
    let source = if what.pattern { what.old.clone() } else { regex::escape(&what.old) };
    if source.is_empty() {
        return Err(Error::Asked("there is nothing to look for: the text is empty".to_owned()));
    }
    let regex = RegexBuilder::new(&source).multi_line(true).size_limit(64 << 20).build();
    let regex = regex.map_err(|e| {
        Error::Asked(format!("the pattern cannot be used: {}", e.to_string().replace('\n', " ")))
    })?;
    let mut done = Replaced {
        format_version: format(),
        target: target.name.clone(),
        dry_run: what.dry_run,
        files: Vec::new(),
        failed: Vec::new(),
        total: 0,
    };
    for path in paths {
        match one((target, staging), path, &regex, what) {
            Ok((shown, count)) => {
                done.total += count;
                done.files.push(ReplacedIn { name: name(&shown), count });
            }
            Err(Error::View(e)) => done.failed.push(failed(path.as_bytes(), e)),
            Err(e @ (Error::Host { .. } | Error::Asked(_))) => done.failed.push(failed(path.as_bytes(), e)),
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn one(
    (target, staging): (&Target, Writer<'_>),
    path: &OsStr,
    regex: &Regex,
    what: &Replacement,
) -> Result<(Vec<u8>, u64)> {
    let spot = target.find(path, Last::Follow)?;
    let (parent, entry) = regular(&spot, path)?;
    let fd = parent.open(view::split(&spot.path).1).map_err(view::Error::sys("read", path.as_bytes()))?;
    let host = |what| move |source| Error::Host { what, name: text::os(path), source };
    let mut bytes = Vec::new();
    let mut file = File::from(fd);
    (&mut file).take(MOST + 1).read_to_end(&mut bytes).map_err(host("read"))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::Asked(format!("`{}` is longer than 64 MiB", text::os(path))));
    }
    let count = regex.find_iter(&bytes).count() as u64;
    let shown = target.view.shown(&spot);
    let (Some(staging), true) = (staging.filter(|_| !what.dry_run), count > 0) else {
        return Ok((shown, count));
    };
    let new = if what.pattern {
        regex.replace_all(&bytes, what.new.as_bytes())
    } else {
        regex.replace_all(&bytes, NoExpand(what.new.as_bytes()))
    };
    let editor = target.editor(spot.place, staging)?;
    let (dir, last) = view::split(&spot.path);
    let dir = editor.prepare(dir, None)?;
    let staged = editor.stage(&dir)?;
    let mut out = staged.fd.try_clone().map(File::from).map_err(host("write"))?;
    out.write_all(&new).map_err(host("write"))?;
    let like = OwnedFd::from(file);
    editor.file((&dir, last), &staged, (entry.meta.mode, None), Some(&like), path.as_bytes())?;
    Ok((shown, count))
}
