//! A Rust file as the checks see it: code without comments and literals, tests cut off.

/// One file.
pub struct Source {
    /// Path from the checkout, `src/base/id.rs`.
    pub path: String,
    /// The text as it is.
    pub text: String,
    /// The text with comments and the insides of literals blanked; same lines.
    pub code: String,
}

impl Source {
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        Source { path: path.into(), code: blank(&text), text }
    }

    /// The code before `#[cfg(test)]`: what is built into `aj`. Unit tests stand at the end of a file.
    pub fn shipped(&self) -> &str {
        self.code.split("#[cfg(test)]").next().unwrap_or_default()
    }

    /// Numbers (from 1) of the lines of `code` that contain `word` with no identifier around it.
    pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
        let has = |line: &str| {
            line.match_indices(word).any(|(at, _)| {
                let ident = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                !ident(line[..at].chars().next_back()) && !ident(line[at + word.len()..].chars().next())
            })
        };
        code.lines().enumerate().filter(|(_, l)| has(l)).map(|(n, _)| n + 1).collect()
    }
}

/// Every file of `src`.
pub fn all() -> Vec<Source> {
    crate::common::files("src", "rs").into_iter().map(|(path, text)| Source::new(path, text)).collect()
}

/// Replace comments and the contents of string and character literals by spaces.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let keep_lines =
        |out: &mut String, cut: &str| out.extend(cut.chars().map(|c| if c == '\n' { c } else { ' ' }));
    while let Some(c) = rest.chars().next() {
        let before = out.chars().next_back();
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if c == '"' {
            string(rest)
        } else if c == 'r' && !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            // A raw string, or `br"…"` seen at its `r`, or a plain identifier (0).
            raw_string(rest)
        } else if c == 'b' && (rest.starts_with("br\"") || rest.starts_with("br#")) {
            1 + raw_string(&rest[1..])
        } else if c == '\'' {
            character(rest)
        } else {
            0
        };
        if len == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            keep_lines(&mut out, &rest[..len]);
            rest = &rest[len..];
        }
    }
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}

fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0, // a lifetime
    }
}

#[test]
fn literals_and_comments_are_no_code() {
    let code = |text: &str| Source::new("x.rs", text).code;
    let commented = "a /* unsafe /* x */ */ b // unsafe\nc";
    assert_eq!(code(commented).split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((code(commented).len(), code(commented).lines().count()), (commented.len(), 2));
    assert!(!code(r##"f("unsafe \" {", 'u', '\'', r#"un"safe"#, br"x", b"y") 'a: for"##).contains("unsafe"));
    assert!(
        code(r##"f("un", 'u', '\'', r#"u"s"#) 'a: loop { unsafe {} }"##).ends_with("'a: loop { unsafe {} }")
    );
    assert!(code("for r in x { radar }").contains("for r in x { radar }"));
    assert_eq!(Source::new("x.rs", "a\n#[cfg(test)]\nmod tests {}").shipped(), "a\n");
    assert_eq!(Source::lines_with("unsafely\nx unsafe {\nnot_unsafe", "unsafe"), [2]);
}
