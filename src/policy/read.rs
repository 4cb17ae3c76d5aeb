//! From the spanned TOML tree to layers: types, values, unknown names.

use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{FileError, LARGEST, Max, Problem};
use super::hide;
use super::key::Key;
use super::layer::{At, Layer};
use super::require;
use super::settings::Tools;
use super::suggest;
use super::value::{self, ValueError};
use crate::base::text::printable;

/// Warnings about one file; a hostile one could make any number.
const MOST_WARNINGS: usize = 8;

/// How paths of this file are read.
#[derive(Clone, Copy)]
pub(super) enum Paths<'a> {
    /// From `/` or `~/`.
    Absolute {
        /// What `~/` stands for.
        home: Option<&'a Path>,
    },
    /// As written: the project may not add directories, the values are only named in a warning.
    Unused,
}

/// What `[limits.max]` may bound.
const BOUNDED: [Key; 9] = [
    Key::Timeout,
    Key::Mem,
    Key::Cpus,
    Key::Pids,
    Key::Nofile,
    Key::Tmp,
    Key::Disk,
    Key::IoRead,
    Key::IoWrite,
];

/// Tables within a table that nobody reads, that are looked at for settings.
const DEEPEST: u32 = 2;

/// One file being read.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    paths: Paths<'a>,
    /// Offsets of the line feeds: a file may have as many lines as bytes, and many are asked for.
    lines: Vec<usize>,
    warnings: Vec<String>,
    unsaid: usize,
}

/// A name of the file for a message: printable and short.
pub(super) fn short(name: &str) -> String {
    let mut text: String = printable(name.as_bytes()).chars().take(41).collect();
    if text.chars().count() == 41 {
        text.pop();
        text.push('…');
    }
    text
}

pub(super) type Read<T> = Result<T, FileError>;

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, bytes: &'a [u8], paths: Paths<'a>) -> Read<Reader<'a>> {
        let lines = bytes.iter().take(LARGEST).enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
        let lines: Vec<usize> = lines.collect();
        let mut reader = Reader { file, text: "", paths, lines, warnings: Vec::new(), unsaid: 0 };
        if bytes.len() > LARGEST {
            return Err(FileError { file: file.to_owned(), line: 1, problem: Problem::TooLarge });
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => reader.text = text,
            Err(e) => {
                let at = e.valid_up_to();
                return Err(reader.error(at..at, Problem::NotUtf8(at)));
            }
        }
        Ok(reader)
    }

    pub(super) fn parse(&self) -> Read<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|e| {
            let span = e.span().unwrap_or(self.text.len()..self.text.len());
            self.error(span, Problem::Syntax(printable(e.message().as_bytes())))
        })
    }

    pub(super) fn error(&self, span: Range<usize>, problem: Problem) -> FileError {
        FileError { file: self.file.to_owned(), line: self.line(&span), problem }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if self.unsaid > 0 {
            self.warnings.push(format!("{}: {} more like these", self.file, self.unsaid));
        }
        self.warnings
    }

    /// Warn about a name nobody reads, with the one that was probably meant.
    pub(super) fn unknown<const N: usize>(
        &mut self,
        name: &str,
        span: Range<usize>,
        section: &str,
        known: [&str; N],
    ) {
        self.unknown_of(name, span, section, &known);
    }

    fn unknown_of(&mut self, name: &str, span: Range<usize>, section: &str, known: &[&str]) {
        if self.warnings.len() == MOST_WARNINGS {
            self.unsaid += 1;
            return;
        }
        let meant = suggest::synonym(name)
            .filter(|s| known.contains(s))
            .or_else(|| suggest::nearest(name, known.iter().copied()));
        let (what, place) = if section.is_empty() { ("section", "") } else { ("key", " in ") };
        let mut text = format!(
            "{}:{}: unknown {what} `{}`{place}{section} is ignored",
            self.file,
            self.line(&span),
            short(name)
        );
        if let Some(meant) = meant {
            text.push_str(&format!("; did you mean `{meant}`?"));
        }
        self.warn(text);
    }

    /// Whether what stands in a place where nothing reads it is a setting, which is told; also one within it,
    /// when it is a table. One that may narrow is an error: whoever wrote `hide` must not be shown to be obeyed.
    pub(super) fn misplaced(
        &mut self,
        name: &Spanned<Cow<'a, str>>,
        value: &Spanned<DeValue<'a>>,
        section: &str,
    ) -> Read<bool> {
        self.misplaced_in(name, value, section, DEEPEST)
    }

    fn misplaced_in(
        &mut self,
        name: &Spanned<Cow<'a, str>>,
        value: &Spanned<DeValue<'a>>,
        section: &str,
        deep: u32,
    ) -> Read<bool> {
        let inner = section.trim_start_matches('[').trim_end_matches(']');
        let (text, dot) = (name.get_ref(), if inner.is_empty() { "" } else { "." });
        if let Some(key) =
            Key::from_name(text).filter(|key| *key != Key::Preset || !inner.starts_with("presets."))
        {
            let right = match self.paths {
                Paths::Unused => "[jail]",
                Paths::Absolute { .. } if inner == "limits" && BOUNDED.contains(&key) => "[limits.max]",
                Paths::Absolute { .. } => "[defaults]",
            };
            let place = if inner.is_empty() { "above every table".into() } else { format!("in {section}") };
            let problem = Problem::Misplaced { key: text.to_string(), place, right };
            if key.may_narrow() {
                return Err(self.error(name.span(), problem));
            }
            let text = self.error(name.span(), problem).to_string();
            self.warn(text);
            return Ok(true);
        }
        if let (Some(table), true) = (value.get_ref().as_table(), deep > 0) {
            let section = format!("[{inner}{dot}{}]", short(text));
            for (name, value) in table {
                self.misplaced_in(name, value, &section, deep - 1)?;
            }
        }
        Ok(false)
    }

    fn warn(&mut self, text: String) {
        if self.warnings.len() == MOST_WARNINGS {
            self.unsaid += 1;
        } else {
            self.warnings.push(text);
        }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> u32 {
        let before = self.lines.partition_point(|newline| *newline < span.start);
        u32::try_from(before).unwrap_or(u32::MAX - 1) + 1
    }

    pub(super) fn table<'t>(&self, name: &str, value: &'t Spanned<DeValue<'a>>) -> Read<&'t DeTable<'a>> {
        value.get_ref().as_table().ok_or_else(|| self.wrong(name, value, "a table"))
    }

    /// The settings of one section. `known` are the keys it may have.
    pub(super) fn layer(&mut self, section: &str, table: &DeTable<'a>, known: &[Key]) -> Read<Layer> {
        let mut layer = Layer::default();
        for (name, value) in table {
            let key = Key::from_name(name.get_ref()).filter(|k| known.contains(k));
            let Some(key) = key else {
                if self.misplaced(name, value, section)? {
                    continue;
                }
                let names: Vec<&str> = known.iter().map(|k| k.name()).collect();
                self.unknown_of(name.get_ref(), name.span(), section, &names);
                continue;
            };
            // The key's line, not the value's: that is where the eye looks, also for arrays.
            let line = self.line(&name.span());
            let at = |k: &str| format!("{section} {k}");
            let n = &at(key.name());
            match key {
                Key::Preset => layer.preset = Some(At { value: self.string(n, value)?.to_owned(), line }),
                Key::Workspace => layer.access = Some(self.word(n, value, line, value::access)?),
                Key::Mode => layer.mode = Some(self.word(n, value, line, value::mode)?),
                Key::Net => layer.net = Some(self.word(n, value, line, value::net)?),
                Key::Seccomp => layer.seccomp = Some(self.word(n, value, line, value::seccomp)?),
                Key::NestedUserns => layer.nested_userns = Some(self.boolean(n, value, line)?),
                Key::AsRoot => layer.as_root = Some(self.boolean(n, value, line)?),
                Key::Tools => {
                    layer.tools = Some(self.names(n, value, line, value::tools, value::tool_name)?);
                }
                Key::Caches => {
                    layer.caches = Some(self.names(n, value, line, value::caches, value::cache_name)?);
                }
                Key::Timeout => {
                    layer.timeout = Some(self.number(n, value, line, DURATION, value::time_limit)?)
                }
                Key::Grace => layer.grace = Some(self.number(n, value, line, DURATION, value::time_value)?),
                Key::Mem => layer.mem = Some(self.number(n, value, line, SIZE, value::size_limit)?),
                Key::Cpus => layer.cpu_millis = Some(self.number(n, value, line, CPUS, value::cpu_limit)?),
                Key::Pids => layer.pids = Some(self.number(n, value, line, COUNT, value::pid_limit)?),
                Key::Nofile => layer.nofile = Some(self.number(n, value, line, COUNT, value::file_limit)?),
                Key::Tmp => layer.tmp = Some(self.number(n, value, line, SIZE, value::size_value)?),
                Key::Disk => layer.disk = Some(self.number(n, value, line, SIZE, value::size_limit)?),
                Key::Storage => layer.storage = Some(self.word(n, value, line, value::storage)?),
                Key::IoRead => layer.io_read = Some(self.number(n, value, line, SIZE, value::size_limit)?),
                Key::IoWrite => {
                    layer.io_write = Some(self.number(n, value, line, SIZE, value::size_limit)?)
                }
                Key::BestEffort => layer.best_effort = Some(self.boolean(n, value, line)?),
                Key::Durable => layer.durable = Some(self.boolean(n, value, line)?),
                Key::Ro => layer.ro = self.list(n, value, |r, text| r.path(text))?,
                Key::Rw => layer.rw = self.list(n, value, |r, text| r.path(text))?,
                Key::Show => layer.show = self.patterns(n, value)?,
                Key::Hide => layer.hide = self.patterns(n, value)?,
                Key::Require => layer.require = self.list(n, value, |_, text| require::parse(text))?,
                Key::Pass => layer.pass = self.list(n, value, |_, text| variable(text))?,
                Key::Env => self.env(n, value, &mut layer)?,
            }
        }
        Ok(layer)
    }

    /// `[limits.max]`.
    pub(super) fn max(&mut self, table: &DeTable<'a>) -> Read<Max> {
        const SECTION: &str = "[limits.max]";
        let mut max = Max::default();
        for (name, value) in table {
            let Some(key) = Key::from_name(name.get_ref()).filter(|k| BOUNDED.contains(k)) else {
                if self.misplaced(name, value, SECTION)? {
                    continue;
                }
                self.unknown(name.get_ref(), name.span(), SECTION, BOUNDED.map(Key::name));
                continue;
            };
            let line = self.line(&name.span());
            let n = &format!("{SECTION} {}", key.name());
            // `none` is no bound: the same as leaving the key out.
            let bound = |at: At<Option<u64>>| at.value.map(|value| At { value, line });
            match key {
                Key::Timeout => {
                    let at = self.number(n, value, line, DURATION, value::time_limit)?;
                    max.timeout = at.value.map(|value| At { value, line });
                }
                Key::Mem => max.mem = bound(self.number(n, value, line, SIZE, value::size_limit)?),
                Key::Cpus => max.cpu_millis = bound(self.number(n, value, line, CPUS, value::cpu_limit)?),
                Key::Pids => max.pids = bound(self.number(n, value, line, COUNT, value::pid_limit)?),
                Key::Nofile => max.nofile = bound(self.number(n, value, line, COUNT, value::file_limit)?),
                Key::Disk => max.disk = bound(self.number(n, value, line, SIZE, value::size_limit)?),
                Key::IoRead => max.io_read = bound(self.number(n, value, line, SIZE, value::size_limit)?),
                Key::IoWrite => max.io_write = bound(self.number(n, value, line, SIZE, value::size_limit)?),
                // BOUNDED has no other key.
                _ => max.tmp = bound(self.number(n, value, line, SIZE, value::size_limit)?),
            }
        }
        Ok(max)
    }

    /// A table of variables. Numbers and booleans are taken as they are written: `PORT = 8080`.
    pub(super) fn env(&mut self, name: &str, value: &Spanned<DeValue<'a>>, layer: &mut Layer) -> Read<()> {
        for (variable_name, value) in self.table(name, value)? {
            let n = &format!("{name} {}", short(variable_name.get_ref()));
            let text = match value.get_ref() {
                DeValue::String(s) => s.to_string(),
                DeValue::Integer(i) => i.to_string(),
                DeValue::Boolean(b) => b.to_string(),
                _ => return Err(self.wrong(n, value, "a string")),
            };
            let variable_key =
                variable(variable_name.get_ref()).map_err(|why| self.bad(n, &variable_name.span(), why))?;
            if text.contains('\0') {
                return Err(self.wrong(n, value, "a string without NUL"));
            }
            layer.set_env(variable_key, text.into(), self.line(&variable_name.span()));
        }
        Ok(())
    }

    pub(super) fn string<'t>(&self, name: &str, value: &'t Spanned<DeValue<'a>>) -> Read<&'t str> {
        value.get_ref().as_str().ok_or_else(|| self.wrong(name, value, "a string"))
    }

    fn word<T>(
        &self,
        name: &str,
        value: &Spanned<DeValue<'a>>,
        line: u32,
        parse: fn(&str) -> Result<T, ValueError>,
    ) -> Read<At<T>> {
        let parsed = parse(self.string(name, value)?).map_err(|why| self.bad(name, &value.span(), why))?;
        Ok(At { value: parsed, line })
    }

    pub(super) fn boolean(&self, name: &str, value: &Spanned<DeValue<'a>>, line: u32) -> Read<At<bool>> {
        let value = value.get_ref().as_bool().ok_or_else(|| self.wrong(name, value, "`true` or `false`"))?;
        Ok(At { value, line })
    }

    /// `"auto"`, `"none"`, names in a string or in an array.
    fn names(
        &self,
        name: &str,
        value: &Spanned<DeValue<'a>>,
        line: u32,
        all: fn(&str) -> Result<Tools, ValueError>,
        one: fn(&str) -> Result<String, ValueError>,
    ) -> Read<At<Tools>> {
        if value.get_ref().as_array().is_none() {
            return self.word(name, value, line, all);
        }
        let names = self.list(name, value, |_, text| one(text))?;
        let names = value::unique(names.into_iter().map(|at| at.value));
        Ok(At { value: Tools::Only(names), line })
    }

    /// A string in our notation or a bare number.
    pub(super) fn number<T>(
        &self,
        name: &str,
        value: &Spanned<DeValue<'a>>,
        line: u32,
        expected: &'static str,
        parse: fn(&str) -> Result<T, ValueError>,
    ) -> Read<At<T>> {
        let parsed = match value.get_ref() {
            DeValue::String(text) => parse(text),
            DeValue::Integer(i) => match u64::from_str_radix(i.as_str(), i.radix()) {
                Ok(n) => parse(&n.to_string()),
                Err(_) => parse(&i.to_string()),
            },
            DeValue::Float(f) => parse(f.as_str()),
            _ => return Err(self.wrong(name, value, expected)),
        };
        let value = parsed.map_err(|why| self.bad(name, &value.span(), why))?;
        Ok(At { value, line })
    }

    pub(super) fn list<T>(
        &self,
        name: &str,
        value: &Spanned<DeValue<'a>>,
        parse: impl Fn(&Self, &str) -> Result<T, ValueError>,
    ) -> Read<Vec<At<T>>> {
        const EXPECTED: &str = "an array of strings";
        let array = value.get_ref().as_array().ok_or_else(|| self.wrong(name, value, EXPECTED))?;
        let entry = |item: &Spanned<DeValue<'a>>| {
            let text = item.get_ref().as_str().ok_or_else(|| self.wrong(name, item, EXPECTED))?;
            let value = parse(self, text).map_err(|why| self.bad(name, &item.span(), why))?;
            Ok(At { value, line: self.line(&item.span()) })
        };
        array.iter().map(entry).collect()
    }

    fn patterns(&self, name: &str, value: &Spanned<DeValue<'a>>) -> Read<Vec<At<String>>> {
        let patterns = self.list(name, value, |_, text| hide::pattern(text))?;
        match patterns.len() {
            0..=hide::MOST => Ok(patterns),
            _ => Err(self.bad(name, &value.span(), ValueError::TooManyPatterns)),
        }
    }

    fn path(&self, text: &str) -> Result<PathBuf, ValueError> {
        let home = match self.paths {
            Paths::Unused => return Ok(PathBuf::from(text)),
            Paths::Absolute { home } => home,
        };
        let path = match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        };
        if path.is_absolute() && !text.contains('\0') {
            Ok(path)
        } else {
            Err(ValueError::RelativePath(short(text)))
        }
    }

    pub(super) fn bad(&self, key: &str, span: &Range<usize>, why: ValueError) -> FileError {
        self.error(span.clone(), Problem::Value { key: key.to_owned(), why })
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'a>>, expected: &'static str) -> FileError {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.error(value.span(), Problem::Type { key: key.to_owned(), expected, found })
    }
}

pub(super) const SIZE: &str = "a size like \"2G\"";
pub(super) const DURATION: &str = "a duration like \"90s\"";
const CPUS: &str = "a number of processors like 2 or 0.5";
pub(super) const COUNT: &str = "a whole number";

fn variable(name: &str) -> Result<OsString, ValueError> {
    if value::is_variable_name(name.as_bytes()) {
        Ok(OsString::from(name))
    } else {
        Err(ValueError::VariableName(short(name)))
    }
}
