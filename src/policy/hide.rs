//! What is hidden in the tree: names that are secrets by custom, and patterns of the user's. Pure.
//!
//! A pattern is a path below the project's root. `*`, `?` and `[a-z]` match within a name, `**` any
//! number of directories, and `\` takes the meaning from the next character. A pattern that is one name
//! is looked for in the root and in the directories from there to the one the command starts in, as the
//! names by custom are; with a `/` in front of it in the root alone.
//!
//! Of several patterns that match, the one of the strongest source decides: the command line, `aj.toml`
//! (which can only hide), the user's configuration, what is built in. Within one source, hiding wins.

use super::settings::Settings;
use super::value::ValueError;

/// Longest pattern, in bytes.
const LONGEST: usize = 1024;
/// Patterns of one source: every name is compared with each.
pub const MOST: usize = 200;

/// A pattern and how strong its source is; 0 is what is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As it was written.
    pub text: String,
    /// The higher, the stronger.
    pub rank: u8,
}

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
    /// One name, wherever names by custom are looked for.
    floating: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`
    Any,
    Name(Vec<u8>),
}

/// Check a pattern; it is kept as written.
pub fn pattern(text: &str) -> Result<String, ValueError> {
    Glob::parse(text).map(|_| text.to_owned())
}

impl Glob {
    /// Take a pattern apart.
    pub fn parse(text: &str) -> Result<Glob, ValueError> {
        let bad = |why| ValueError::pattern(text, why);
        if text.len() > LONGEST {
            return Err(bad("is longer than 1024 bytes"));
        }
        if text.bytes().any(|b| b == 0) {
            return Err(bad("has a NUL byte in it"));
        }
        let mut parts = Vec::new();
        for part in text.split('/').filter(|p| !matches!(*p, "" | ".")) {
            match part {
                ".." => return Err(bad("leads out of the tree by `..`")),
                // Twice the same says no more than once, and costs a state of the walk.
                "**" if parts.last() == Some(&Part::Any) => {}
                "**" => parts.push(Part::Any),
                _ if part.contains(['{', '}']) => {
                    return Err(bad("has braces in it, which mean nothing here; write two patterns"));
                }
                _ => {
                    check(part.as_bytes()).map_err(bad)?;
                    parts.push(Part::Name(part.as_bytes().to_vec()));
                }
            }
        }
        if parts.is_empty() {
            return Err(bad("names nothing"));
        }
        let floating = parts.len() == 1 && !text.contains('/') && parts != [Part::Any];
        Ok(Glob { parts, floating })
    }

    /// Whether it is one name that is looked for in several directories.
    pub fn is_floating(&self) -> bool {
        self.floating
    }

    /// The path that it is, if it is no pattern at all.
    pub fn plain(&self) -> Option<Vec<u8>> {
        let name = |part: &Part| match part {
            Part::Name(name) if !name.iter().any(|b| b"*?[\\".contains(b)) => Some(name.clone()),
            Part::Name(_) | Part::Any => None,
        };
        Some(self.parts.iter().map(name).collect::<Option<Vec<_>>>()?.join(&b'/'))
    }

    /// Whether directories have to be walked for it, however deep they go.
    pub fn is_deep(&self) -> bool {
        self.parts.contains(&Part::Any)
    }

    /// The states of a walk that begins at the root: which parts still have to match.
    pub fn begin(&self) -> Vec<usize> {
        self.closed(vec![0])
    }

    /// The states after the name of an entry; empty: nothing below it can match.
    pub fn step(&self, states: &[usize], name: &[u8]) -> Vec<usize> {
        let mut next = Vec::new();
        for &at in states {
            match self.parts.get(at) {
                Some(Part::Any) => next.push(at),
                Some(Part::Name(glob)) if matches(glob, name) => next.push(at + 1),
                Some(Part::Name(_)) | None => {}
            }
        }
        self.closed(next)
    }

    /// Whether these states say that the whole pattern has matched.
    pub fn is_match(&self, states: &[usize]) -> bool {
        states.contains(&self.parts.len())
    }

    /// Whether these states ask for more names.
    pub fn goes_on(&self, states: &[usize]) -> bool {
        states.iter().any(|at| *at < self.parts.len())
    }

    /// Whether it matches `path`, whose directory is one that names are looked for in if `looked`.
    pub fn matches(&self, path: &[u8], looked: bool) -> bool {
        if self.floating {
            let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            return looked && self.parts.iter().all(|p| matches!(p, Part::Name(g) if matches(g, name)));
        }
        let mut states = self.begin();
        for name in path.split(|b| *b == b'/') {
            states = self.step(&states, name);
        }
        self.is_match(&states)
    }

    /// With every state behind a `**` that may also match nothing.
    fn closed(&self, mut states: Vec<usize>) -> Vec<usize> {
        let mut i = 0;
        while let Some(&at) = states.get(i) {
            if self.parts.get(at) == Some(&Part::Any) && !states.contains(&(at + 1)) {
                states.push(at + 1);
            }
            i += 1;
        }
        states.sort_unstable();
        states.dedup();
        states
    }
}

/// Whether every `[` is closed and nothing ends in a `\`.
fn check(glob: &[u8]) -> Result<(), &'static str> {
    let mut rest = glob;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'\\' if after.is_empty() => return Err("ends in a `\\`"),
            b'\\' => after.get(1..).unwrap_or_default(),
            b'[' => class(after, 0).ok_or("has a `[` without its `]`")?.1,
            _ => after,
        };
    }
    Ok(())
}

/// Whether `byte` is in the class that begins after its `[`, and what follows it.
fn class(text: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let mut rest = if negated { text.get(1..)? } else { text };
    let (mut found, mut first) = (false, true);
    loop {
        let (&low, after) = rest.split_first()?;
        if low == b']' && !first {
            return Some((found != negated, after));
        }
        first = false;
        rest = match after {
            [b'-', high, after @ ..] if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                after
            }
            _ => {
                found |= low == byte;
                after
            }
        };
    }
}

/// Whether `glob` matches the whole of `name`. Backs up to the last `*` only, so that no pattern takes
/// longer than its length times that of the name.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut glob, mut rest) = (glob, name);
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        let one = |byte: u8| match glob.split_first()? {
            (b'?', after) => Some(after),
            (b'[', after) => class(after, byte).and_then(|(is_in, after)| is_in.then_some(after)),
            (b'\\', after) => after.split_first().and_then(|(b, after)| (*b == byte).then_some(after)),
            (b, after) => (*b == byte).then_some(after),
        };
        if let Some((b'*', after)) = glob.split_first() {
            star = Some((after, rest));
            glob = after;
        } else if let Some((&byte, tail)) = rest.split_first()
            && let Some(after) = one(byte)
        {
            (glob, rest) = (after, tail);
        } else if rest.is_empty() && glob.is_empty() {
            return true;
        } else if let Some((after, from)) = star
            && let Some(from) = from.get(1..)
        {
            (glob, rest) = (after, from);
            star = Some((after, from));
        } else {
            return false;
        }
    }
}

/// What is looked at before a name by custom is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing: it is a secret. A directory is one unless it is a virtual environment.
    Name,
    /// A file, whatever is in it.
    File,
    /// An `.npmrc`: a token in it.
    Npmrc,
    /// A file: a private key in it.
    Key,
}

/// Whether a file of this name says by it that what is in it is made up.
pub fn is_harmless(name: &[u8]) -> bool {
    [&b".example"[..], b".sample", b".template", b".test"].iter().any(|end| {
        let from = name.len().saturating_sub(end.len());
        name.get(from..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    })
}

/// Whether an entry of the root that has this name may be a secret by custom. Other systems do not tell `.PEM`
/// from `.pem`.
pub fn by_custom(name: &[u8]) -> Option<Look> {
    if name.iter().any(u8::is_ascii_uppercase) {
        return by_custom(&name.to_ascii_lowercase());
    }
    match name {
        b".env" => Some(Look::Name),
        b".netrc" | b".pypirc" | b".git-credentials" | b"credentials.json" => Some(Look::File),
        b".npmrc" => Some(Look::Npmrc),
        _ if name.starts_with(b".env.") => (!is_harmless(name)).then_some(Look::Name),
        _ if name.starts_with(b"id_") || name.ends_with(b".pem") => Some(Look::Key),
        _ => None,
    }
}

/// The patterns of all sources, ready to be compared.
#[derive(Debug, Default)]
pub struct Rules {
    /// What hides.
    pub hide: Vec<(Pattern, Glob)>,
    show: Vec<(Pattern, Glob)>,
    /// Whether names by custom are looked for at all.
    pub custom: bool,
}

impl Rules {
    /// Those of `settings`, for a tree at the absolute path `root`.
    pub fn of(settings: &Settings, root: &str) -> Rules {
        let read = |rules: &[Pattern]| {
            // Somebody's shell may have completed the whole path.
            let inner = |text: &str| {
                let rest = text.strip_prefix(root).filter(|_| root.len() > 1)?;
                rest.starts_with('/').then(|| rest.to_owned())
            };
            let glob = |rule: &Pattern| {
                let text = inner(&rule.text).unwrap_or_else(|| rule.text.clone());
                Some((rule.clone(), Glob::parse(&text).ok()?))
            };
            rules.iter().filter_map(glob).collect::<Vec<_>>()
        };
        let (mut hide, show) = (read(&settings.hide), read(&settings.show));
        let every = |text: &str, rank: u8| show.iter().any(|(s, _)| s.rank > rank && s.text == text);
        // What a stronger source shows again as a whole is not looked for.
        hide.retain(|(rule, glob)| {
            let shown = every("**", rule.rank) || every(&rule.text, rule.rank);
            !(shown || glob.floating && every("*", rule.rank))
        });
        let custom = !every("**", 0) && !every("*", 0);
        Rules { hide, show, custom }
    }

    /// Those for a directory of tools at the absolute path `root`: names by custom alone, and what shows one of
    /// them by its whole path.
    pub fn of_tools(settings: &Settings, root: &str) -> Rules {
        let mut rules = Rules::of(settings, root);
        rules.hide.clear();
        rules.show.retain(|(rule, _)| rule.text.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')));
        rules
    }

    /// What shows.
    pub fn show(&self) -> &[(Pattern, Glob)] {
        &self.show
    }

    /// Whether something that a pattern of this rank hides is shown by a stronger one.
    pub fn is_shown(&self, path: &[u8], looked: bool, rank: u8) -> bool {
        self.show.iter().any(|(rule, glob)| rule.rank > rank && glob.matches(path, looked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hits(glob: &str, path: &str) -> bool {
        Glob::parse(glob).unwrap().matches(path.as_bytes(), !path.contains('/'))
    }

    #[test]
    fn patterns_match_as_people_expect() {
        for (glob, yes, no) in [
            (".env", &[".env"][..], &["a/.env", ".env.x", ".envx"][..]),
            ("/.env", &[".env"], &["a/.env"]),
            ("**/.env", &[".env", "a/.env", "a/b/.env"], &["a/.env/x", "a.env"]),
            ("**/secrets/*.json", &["secrets/a.json", "x/secrets/.json"], &["secrets/x/a.json", "secrets"]),
            ("secrets/**", &["secrets", "secrets/a", "secrets/a/b"], &["secret"]),
            ("**", &["a", "a/b"], &[]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a", "b", "xa/b"]),
            ("*.[kp]e[ym]", &["a.key", "b.pem"], &["a.bey", "dir/a.key"]),
            ("[!a-c]?", &["dx", "?y"], &["ax", "d"]),
            (r"\*\[", &["*["], &["x["]),
            ("./a/./b//", &["a/b"], &["a"]),
            ("[]x]", &["]", "x"], &["[", ""]),
        ] {
            yes.iter().for_each(|p| assert!(hits(glob, p), "{glob} {p}"));
            no.iter().for_each(|p| assert!(!hits(glob, p), "{glob} {p}"));
        }
        for bad in ["", "/", "..", "a/../b", "{a,b}", "[a", "a\\", "a\0", &"x".repeat(2000), ".", "[!"] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let name = "a".repeat(255);
        assert!(!hits(&format!("{}b", "*a".repeat(400)), &name));
        assert!(!hits(&format!("{}b", "**/".repeat(300)), &format!("{}c", "x/".repeat(200))));
    }

    #[test]
    fn customs_are_told_by_name() {
        for name in [
            ".env",
            ".env.local",
            ".env.test.local",
            ".netrc",
            ".npmrc",
            "id_rsa",
            "a.pem",
            ".pem",
            ".ENV",
            ".Env.Local",
            "KEY.PEM",
            "ID_RSA",
        ] {
            assert!(by_custom(name.as_bytes()).is_some(), "{name}");
        }
        for name in [
            ".env.example",
            ".env.production.sample",
            ".env.test",
            ".ENV.EXAMPLE",
            ".environment",
            "env",
            "idx",
            "",
        ] {
            assert_eq!(by_custom(name.as_bytes()), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_an_error(text in "[a-c*?\\[\\]!\\\\/.-]{0,12}", path in "[a-c/.]{0,12}") {
            if let Ok(glob) = Glob::parse(&text) {
                glob.matches(path.as_bytes(), true);
            }
        }

        #[test]
        fn a_name_without_signs_matches_itself_alone(a in "[a-c.]{1,4}", b in "[a-c.]{1,4}") {
            prop_assume!(a != "." && a != "..");
            prop_assert_eq!(hits(&a, &b), a == b);
        }
    }
}
