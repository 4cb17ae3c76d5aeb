//! `aj search` and `aj fs find`: lines that match, without a jail and without any program of the host's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use ignore::overrides::{Override, OverrideBuilder};

use super::ignored::Ignored;
use super::read::below;
use super::{Error, Result, Target, directory, failed, format, name, why};
use crate::monitor::Monitor;
use crate::schema::files::{Found, Line};
use crate::schema::jail::bytes64;
use crate::sys::at::FileKind;
use crate::workspace::view::resolve::Last;
use crate::workspace::view::{self, At, Dir, Stack, Step, Walk};

/// Bytes of one line, and of the lines around a match, that are held in memory.
const HEAP: usize = 16 << 20;
/// Bytes that a pattern may become when it is compiled.
const COMPILED: usize = 64 << 20;
/// Matches of one line that are told.
const SPANS: usize = 1000;

/// What to search for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// A regular expression, or with `fixed` a text.
    pub pattern: String,
    /// It is a text.
    pub fixed: bool,
    /// In either case.
    pub ignore_case: bool,
    /// Only files that these patterns choose; `!` leaves out.
    pub globs: Vec<String>,
    /// Lines to show on either side.
    pub context: usize,
    /// Matching lines at most.
    pub max: Option<u64>,
    /// Names that begin with a dot, too.
    pub hidden: bool,
    /// What ignore files say means nothing.
    pub no_ignore: bool,
}

struct Search<'a> {
    matcher: RegexMatcher,
    searcher: Searcher,
    globs: Override,
    query: &'a Query,
    tell: &'a mut dyn FnMut(Found) -> bool,
    matches: u64,
    files: u64,
    searched: u64,
    /// Nobody listens any more, or there are enough.
    stopped: bool,
}

/// Search what is at `paths`, directories with all that is in them. `tell` says whether to go on. Returns
/// the number of lines that match, and whether everything could be read.
pub fn search(
    target: &Target,
    paths: &[OsString],
    query: &Query,
    tell: &mut dyn FnMut(Found) -> bool,
    monitor: &dyn Monitor,
) -> Result<(u64, bool)> {
    let bad = |what: &str, e: &dyn std::fmt::Display| {
        Error::Asked(format!("{what} cannot be used: {}", e.to_string().replace('\n', " ")))
    };
    let matcher = RegexMatcherBuilder::new()
        .case_insensitive(query.ignore_case)
        .fixed_strings(query.fixed)
        .line_terminator(Some(b'\n'))
        .size_limit(COMPILED)
        .dfa_size_limit(COMPILED)
        .build(&query.pattern)
        .map_err(|e| bad("the pattern", &e))?;
    let mut globs = OverrideBuilder::new("");
    for glob in &query.globs {
        globs.add(glob).map_err(|e| bad(&format!("`-g {glob}`"), &e))?;
    }
    let mut search = Search {
        matcher,
        searcher: SearcherBuilder::new()
            .line_number(true)
            .before_context(query.context)
            .after_context(query.context)
            .binary_detection(BinaryDetection::quit(0))
            .heap_limit(Some(HEAP))
            .build(),
        globs: globs.build().map_err(|e| bad("what `-g` says", &e))?,
        query,
        tell,
        matches: 0,
        files: 0,
        searched: 0,
        stopped: false,
    };
    search.say(Found::Version {
        format_version: format(),
        target: target.name.clone(),
        running: target.running,
    });
    let whole = [OsString::from(".")];
    let mut all_read = true;
    for path in if paths.is_empty() { &whole[..] } else { paths } {
        if !search.stopped {
            all_read &= search.path(target, path, monitor)?;
        }
    }
    let truncated = query.max.is_some_and(|max| search.matches >= max);
    let (matches, files, searched) = (search.matches, search.files, search.searched);
    search.stopped = false;
    search.say(Found::Summary { matches, files, searched, truncated });
    Ok((matches, all_read))
}

impl Search<'_> {
    fn say(&mut self, found: Found) {
        if !(self.tell)(found) {
            self.stopped = true;
        }
    }

    fn path(&mut self, target: &Target, path: &OsStr, monitor: &dyn Monitor) -> Result<bool> {
        let spot = target.find(path, Last::Follow)?;
        let shown = target.view.shown(&spot);
        if let At::In { parent, entry: Some(entry) } = &spot.at
            && entry.meta.kind == FileKind::File
        {
            // What is named is searched, whatever ignore files say.
            return Ok(self.file(parent, view::split(&spot.path).1, &shown));
        }
        let stack = target.stack(&spot);
        let (dir, shown) = directory(target, &spot, path)?;
        let walk = Walk::over(&target.view, &spot, &dir);
        walk.and_then(|walk| self.tree(stack, (walk, &dir), &shown, monitor))
            .map_err(|e| view::Error::sys("search", path.as_bytes())(e).into())
    }

    fn tree(
        &mut self,
        stack: &Stack,
        (mut walk, dir): (Walk<'_>, &Dir),
        shown: &[u8],
        monitor: &dyn Monitor,
    ) -> crate::sys::Result<bool> {
        let mut all_read = true;
        let mut ignored = Ignored::default();
        let warn = |at: &[u8], text: &str| {
            monitor.warn(&format!("{}: {text}", crate::base::text::printable(at)));
        };
        if !self.query.no_ignore {
            ignored.enter(dir, stack, 0, &mut |text| warn(shown, text));
        }
        while let Some(step) = walk.step()? {
            let path = below(shown, walk.path());
            let entry = match step {
                Step::Left => {
                    ignored.leave();
                    continue;
                }
                Step::Unreadable(e) => {
                    all_read = false;
                    self.say(Found::Failed(failed(&path, why(&e))));
                    continue;
                }
                Step::Entry(entry) => entry,
            };
            let is_dir = entry.meta.kind == FileKind::Dir;
            let dotted = !self.query.hidden && walk.name().first() == Some(&b'.');
            if dotted || ignored.ignores(walk.path(), is_dir) || !self.wants(walk.path(), is_dir) {
                continue;
            }
            match entry.meta.kind {
                FileKind::Dir => match walk.enter() {
                    Ok(()) if self.query.no_ignore => {}
                    Ok(()) => {
                        let end = walk.path().len();
                        ignored.enter(&walk.here()?, stack, end, &mut |text| warn(&path, text));
                    }
                    Err(e) => {
                        all_read = false;
                        self.say(Found::Failed(failed(&path, why(&e))));
                    }
                },
                FileKind::File => {
                    let here = walk.here()?;
                    all_read &= self.file(&here, walk.name(), &path);
                }
                _ => {}
            }
            if self.stopped {
                break;
            }
        }
        Ok(all_read)
    }

    /// Whether `-g` wants it.
    fn wants(&self, path: &[u8], is_dir: bool) -> bool {
        !self.globs.matched(Path::new(OsStr::from_bytes(path)), is_dir).is_ignore()
    }

    /// Search one file; whether it could be read.
    fn file(&mut self, dir: &Dir, name: &[u8], path: &[u8]) -> bool {
        let file = match dir.open(name) {
            Ok(fd) => File::from(fd),
            Err(e) => {
                self.say(Found::Failed(failed(path, why(&e))));
                return false;
            }
        };
        self.searched += 1;
        let left = self.query.max.map(|max| max.saturating_sub(self.matches));
        let matcher = self.matcher.clone();
        let mut lines = Lines { tell: self.tell, path, matcher: &matcher, left, matches: 0, stopped: false };
        let done = self.searcher.search_reader(&matcher, file, &mut lines);
        let (matches, stopped) = (lines.matches, lines.stopped);
        self.matches += matches;
        self.files += u64::from(matches > 0);
        self.stopped |= stopped || self.query.max.is_some_and(|max| self.matches >= max);
        match done {
            Ok(()) => true,
            Err(e) => {
                self.say(Found::Failed(failed(path, e)));
                false
            }
        }
    }
}

/// Tells the lines of one file.
struct Lines<'a> {
    tell: &'a mut dyn FnMut(Found) -> bool,
    path: &'a [u8],
    matcher: &'a RegexMatcher,
    left: Option<u64>,
    matches: u64,
    stopped: bool,
}

impl Lines<'_> {
    fn line(&self, number: Option<u64>, bytes: &[u8], is_match: bool) -> Line {
        use grep_matcher::Matcher;
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let mut spans = Vec::new();
        if is_match {
            // A pattern that compiled finds what it found before.
            self.matcher
                .find_iter(bytes, |m| {
                    spans.push((m.start(), m.end()));
                    spans.len() < SPANS
                })
                .ok();
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        let text_base64 = (text.as_bytes() != bytes).then(|| bytes64::encode(bytes));
        Line { name: name(self.path), line: number.unwrap_or(0), text, text_base64, spans }
    }

    fn say(&mut self, found: Found) -> bool {
        self.stopped = !(self.tell)(found);
        !self.stopped
    }
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        if self.left.is_some_and(|left| self.matches >= left) {
            return Ok(false);
        }
        self.matches += 1;
        let line = self.line(found.line_number(), found.bytes(), true);
        Ok(self.say(Found::Match(line)))
    }

    fn context(&mut self, _: &Searcher, found: &SinkContext<'_>) -> io::Result<bool> {
        let line = self.line(found.line_number(), found.bytes(), false);
        Ok(self.say(Found::Context(line)))
    }
}
