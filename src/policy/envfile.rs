//! `--env-file`: lines of `NAME=value`.
//!
//! Blank lines and lines starting with `#` are skipped, `export ` before a name is allowed. A value
//! without quotes ends at ` #` and is trimmed; in `'…'` everything is literal; in `"…"` the escapes
//! `\n \t \r \" \\ \$` are read. Nothing is expanded: `$HOME` stays `$HOME`. A line with a name alone
//! copies that variable from the caller.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::layer::Layer;
use super::value::is_variable_name;
use crate::base::text::printable;

/// A line that means nothing. Values are never quoted back: they are secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EnvFileError {
    /// Line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub problem: EnvFileProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileProblem {
    /// No usable name before `=`.
    #[error("`{0}` is not a name of an environment variable")]
    Name(String),
    /// No closing quote.
    #[error("the value of `{0}` has no closing quote on its line")]
    Quote(String),
    /// Text after the closing quote.
    #[error("the value of `{0}` goes on after its closing quote")]
    Trailing(String),
    /// More than [`MOST`] variables.
    #[error("more than {MOST} variables")]
    TooMany,
    /// A NUL byte, which no variable can hold.
    #[error("the line holds a NUL byte")]
    Nul,
}

/// Variables one file may hold: more would not pass `execve` either.
pub const MOST: usize = 4096;

/// Put the variables of a file into `layer`, in order; later lines win.
pub fn parse(bytes: &[u8], layer: &mut Layer) -> Result<(), EnvFileError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut left = MOST;
    for (number, raw) in (1u32..).zip(bytes.split(|b| *b == b'\n')) {
        let at = |problem| EnvFileError { line: number, problem };
        let Some((name, value)) = line(raw).map_err(at)? else { continue };
        left = left.checked_sub(1).ok_or_else(|| at(EnvFileProblem::TooMany))?;
        match value {
            Some(value) => layer.set_env(name, value, 0),
            None => layer.pass_env(name, 0),
        }
    }
    Ok(())
}

type Entry = (OsString, Option<OsString>);

fn line(raw: &[u8]) -> Result<Option<Entry>, EnvFileProblem> {
    let text = raw.trim_ascii();
    if text.is_empty() || text.starts_with(b"#") {
        return Ok(None);
    }
    if text.contains(&0) {
        return Err(EnvFileProblem::Nul);
    }
    let text = match text.strip_prefix(b"export") {
        Some(rest) if rest.starts_with(b" ") || rest.starts_with(b"\t") => rest.trim_ascii(),
        _ => text,
    };
    let split = text.iter().position(|b| *b == b'=');
    let name = text[..split.unwrap_or(text.len())].trim_ascii_end();
    if !is_variable_name(name) || name.iter().any(|b| b.is_ascii_whitespace()) {
        // Without `=` the whole line would be quoted, and a stray line of a key file is a secret.
        let shown = if split.is_some() { printable(name) } else { "…".to_owned() };
        return Err(EnvFileProblem::Name(shown.chars().take(60).collect()));
    }
    let value = match split {
        Some(at) => Some(value(name, text[at + 1..].trim_ascii_start())?),
        None => None,
    };
    Ok(Some((OsStr::from_bytes(name).to_owned(), value)))
}

fn value(name: &[u8], text: &[u8]) -> Result<OsString, EnvFileProblem> {
    let quote = match text.first() {
        Some(q @ (b'"' | b'\'')) => *q,
        _ => {
            let comment = text.windows(2).position(|w| matches!(w, [b' ' | b'\t', b'#']));
            let end = if text.starts_with(b"#") { 0 } else { comment.unwrap_or(text.len()) };
            return Ok(OsStr::from_bytes(text[..end].trim_ascii_end()).to_owned());
        }
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text[1..].iter();
    loop {
        match rest.next() {
            None => return Err(EnvFileProblem::Quote(printable(name))),
            Some(b) if *b == quote => break,
            Some(b'\\') if quote == b'"' => match rest.next() {
                Some(b'n') => out.push(b'\n'),
                Some(b't') => out.push(b'\t'),
                Some(b'r') => out.push(b'\r'),
                Some(b @ (b'"' | b'\\' | b'$')) => out.push(*b),
                Some(b) => out.extend([b'\\', *b]),
                None => return Err(EnvFileProblem::Quote(printable(name))),
            },
            Some(b) => out.push(*b),
        }
    }
    let after = rest.as_slice().trim_ascii();
    if !after.is_empty() && !after.starts_with(b"#") {
        return Err(EnvFileProblem::Trailing(printable(name)));
    }
    Ok(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Layer, EnvFileError> {
        let mut layer = Layer::default();
        parse(text, &mut layer).map(|()| layer)
    }

    fn check(text: &str, want: &[(&str, &str)]) {
        let got: Vec<(String, String)> = read(text.as_bytes())
            .unwrap()
            .env
            .into_iter()
            .map(|e| (e.value.0.into_string().unwrap(), e.value.1.into_string().unwrap()))
            .collect();
        let got: Vec<(&str, &str)> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn lines_read_as_documented() {
        check("", &[]);
        check("# note\n\n  A=1\r\nexport B = two words  # note\n", &[("A", "1"), ("B", "two words")]);
        check("A=\nB=#x\nC=a#b\nD=x=y", &[("A", ""), ("B", ""), ("C", "a#b"), ("D", "x=y")]);
        check(r#"A="x # \"y\" \\ \n\$Z \q" # n"#, &[("A", "x # \"y\" \\ \n$Z \\q")]);
        check(r"A='\n $HOME '", &[("A", r"\n $HOME ")]);
        check("A=1\nA=2\n", &[("A", "2")]);
        check("\u{feff}A=1", &[("A", "1")]);
        check("exported=1\n", &[("exported", "1")]);
    }

    #[test]
    fn a_name_alone_is_copied_and_odd_bytes_are_kept() {
        let layer = read(b"TOKEN\nODD=\xff\nTOKEN2=1\nTOKEN2\n").unwrap();
        let pass: Vec<_> = layer.pass.iter().map(|p| p.value.to_str().unwrap()).collect();
        assert_eq!(pass, ["TOKEN", "TOKEN2"]);
        assert_eq!(layer.env.len(), 1);
        assert_eq!(layer.env[0].value.1.as_bytes(), b"\xff");
    }

    #[test]
    fn mistakes_name_the_line_and_never_the_value() {
        for (text, line) in [
            ("A=1\n=hunter2", 2),
            ("A B=hunter2", 1),
            ("\n\nA=\"hunter2", 3),
            ("A='hunter2' hunter2", 1),
            ("A=hunter2\\\nhunter2 is here", 2),
            ("A=\"hunter2\\", 1),
            ("A=hun\0ter2", 1),
        ] {
            let e = read(text.as_bytes()).unwrap_err();
            assert_eq!(e.line, line, "{text:?}: {e}");
            assert!(!e.to_string().contains("hunter2"), "{e}");
        }
    }

    #[test]
    fn the_number_of_variables_is_bounded() {
        let lines = |n: usize| (0..n).map(|i| format!("V{i}=\n")).collect::<String>();
        assert_eq!(read(lines(MOST).as_bytes()).unwrap().env.len(), MOST);
        let e = read(lines(MOST + 1).as_bytes()).unwrap_err();
        assert_eq!((e.line as usize, e.problem), (MOST + 1, EnvFileProblem::TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(layer) = read(&bytes) {
                for e in layer.env {
                    prop_assert!(is_variable_name(e.value.0.as_bytes()));
                    prop_assert!(!e.value.1.as_bytes().contains(&0));
                }
            }
        }
    }
}
