//! Which tool chains a caller's PATH and variables lead to. Pure: bytes of paths against patterns.
//!
//! It runs before every jail, so that nothing is parsed and little allocated: a pattern becomes a
//! path once for each tool chain, and is compared byte by byte.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Flavor;

/// What patterns are read against.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The home directory, without links.
    pub home: Option<&'a Path>,
    /// Variables that the caller has set, with plain places for values.
    pub variables: &'a [(String, PathBuf)],
}

impl Caller<'_> {
    /// The caller's value of a variable.
    pub fn variable(&self, name: &str) -> Option<&Path> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_path())
    }
}

/// How a tool chain is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What led to it: an entry of PATH, or the name of a variable.
    pub by: String,
    /// The items of its `path` that were reached: what `@` stands for.
    pub at: Vec<PathBuf>,
}

/// `value` as a place: absolute, without `.`, `..` and empty components. `None` for anything else,
/// and for lists.
pub fn plain(value: &OsStr) -> Option<PathBuf> {
    let bytes = value.as_bytes();
    let whole = bytes.starts_with(b"/") && !bytes.contains(&b':') && !bytes.contains(&0);
    let climbs = bytes.split(|b| *b == b'/').any(|part| part == b"..");
    // Collected from its parts: what stands for nothing goes.
    (whole && !climbs).then(|| Path::new(value).components().collect())
}

/// Whether `path` is `dir` or below it; both plain.
pub fn is_below(path: &[u8], dir: &[u8]) -> bool {
    match path.strip_prefix(dir) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/") || dir == b"/",
        None => false,
    }
}

pub(super) fn below_home(text: &str, caller: &Caller<'_>) -> Option<PathBuf> {
    let mut out = Vec::new();
    spell_below_home(&mut out, text, caller)?;
    Some(path(out))
}

pub(super) fn join(dir: &Path, rest: &str) -> PathBuf {
    let mut out = dir.as_os_str().as_bytes().to_vec();
    spell_rest(&mut out, rest);
    path(out)
}

/// The place that `pattern` means, with its `*`s. `None`: it needs a variable or a home that is not
/// there.
pub fn expand(flavor: &Flavor, pattern: &str, caller: &Caller<'_>, at: Option<&Path>) -> Option<PathBuf> {
    let mut out = Vec::new();
    spell(&mut out, flavor, pattern, caller, at)?;
    Some(path(out))
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// The same, spelled into `out`: one buffer for many.
fn spell(
    out: &mut Vec<u8>,
    flavor: &Flavor,
    pattern: &str,
    caller: &Caller<'_>,
    at: Option<&Path>,
) -> Option<()> {
    out.clear();
    let (first, rest) = pattern.split_once('/').unwrap_or((pattern, ""));
    match (first.strip_prefix('$'), first) {
        (Some(name), _) => match caller.variable(name) {
            Some(value) => out.extend_from_slice(value.as_os_str().as_bytes()),
            None => {
                let usual = flavor.places.get(name).filter(|usual| !usual.is_empty())?;
                spell_below_home(out, usual, caller)?;
            }
        },
        (None, "@") => out.extend_from_slice(at?.as_os_str().as_bytes()),
        (None, _) => return spell_below_home(out, pattern, caller),
    }
    spell_rest(out, rest);
    Some(())
}

fn spell_below_home(out: &mut Vec<u8>, text: &str, caller: &Caller<'_>) -> Option<()> {
    match text.strip_prefix('~') {
        Some(rest) => {
            out.extend_from_slice(caller.home?.as_os_str().as_bytes());
            spell_rest(out, rest.trim_start_matches('/'));
        }
        None => out.extend_from_slice(text.as_bytes()),
    }
    Some(())
}

fn spell_rest(out: &mut Vec<u8>, rest: &str) {
    if !rest.is_empty() {
        if out.last() != Some(&b'/') {
            out.push(b'/');
        }
        out.extend_from_slice(rest.as_bytes());
    }
}

/// How much of `entry`, a plain path, is matched by `pattern` when it lies at or below it.
pub fn lead<'e>(pattern: &[u8], entry: &'e [u8]) -> Option<&'e [u8]> {
    if !pattern.contains(&b'*') {
        return is_below(entry, pattern).then(|| entry.get(..pattern.len())).flatten();
    }
    let mut length = 0;
    let mut parts = entry.split(|b| *b == b'/');
    for (n, wanted) in pattern.split(|b| *b == b'/').enumerate() {
        let part = parts.next()?;
        if !matches(wanted, part) {
            return None;
        }
        length += part.len() + usize::from(n > 0);
    }
    entry.get(..length)
}

/// Whether one component is what `pattern`, with at most one `*`, means. A `*` is never a dot file.
pub fn matches(pattern: &[u8], part: &[u8]) -> bool {
    let Some(star) = pattern.iter().position(|b| *b == b'*') else { return pattern == part };
    let (before, after) = pattern.split_at(star);
    let after = after.get(1..).unwrap_or_default();
    let long = part.len() >= before.len() + after.len() && !part.is_empty();
    long && part.starts_with(before) && part.ends_with(after) && (star > 0 || !part.starts_with(b"."))
}

/// Whether and how `flavor` is reached by `entries`: plain paths, directories of PATH.
pub fn reached(flavor: &Flavor, entries: &[PathBuf], caller: &Caller<'_>) -> Option<Reached> {
    let mut by = None;
    let mut at: Vec<PathBuf> = Vec::new();
    let mut add = |path: PathBuf| {
        if at.iter().all(|known| known.as_os_str() != path.as_os_str()) {
            at.push(path);
        }
    };
    let mut place = Vec::with_capacity(96);
    for pattern in flavor.path.iter() {
        let Some(()) = spell(&mut place, flavor, pattern, caller, None) else { continue };
        for entry in entries {
            let Some(found) = lead(&place, entry.as_os_str().as_bytes()) else { continue };
            by.get_or_insert_with(|| crate::base::text::os(entry));
            add(path(found.to_vec()));
        }
    }
    for (name, _) in flavor.places.iter() {
        let Some(value) = caller.variable(name) else { continue };
        by.get_or_insert_with(|| name.to_owned());
        let starts = |pattern: &&str| {
            let rest = pattern.strip_prefix('$').and_then(|p| p.strip_prefix(name));
            rest.is_some_and(|rest| (rest.is_empty() || rest.starts_with('/')) && !rest.contains('*'))
        };
        for pattern in flavor.path.iter().filter(starts) {
            let rest = pattern.split_once('/').map_or("", |(_, rest)| rest);
            add(join(value, rest));
        }
    }
    Some(Reached { by: by?, at })
}

#[cfg(test)]
mod tests {
    use super::super::built_in;
    use super::*;

    /// What a pattern means, by the rules for paths of the standard library.
    fn meant(flavor: &Flavor, pattern: &str, caller: &Caller<'_>) -> Option<PathBuf> {
        let below_home = |text: &str| match text.strip_prefix('~').map(|rest| rest.trim_start_matches('/')) {
            Some("") => caller.home.map(Path::to_owned),
            Some(rest) => Some(caller.home?.join(rest)),
            None => Some(PathBuf::from(text)),
        };
        let (first, rest) = pattern.split_once('/').unwrap_or((pattern, ""));
        let place = match first.strip_prefix('$') {
            Some(name) => match caller.variable(name) {
                Some(value) => value.to_owned(),
                None => below_home(flavor.places.get(name).filter(|usual| !usual.is_empty())?)?,
            },
            None if first == "@" => return None,
            None => return below_home(pattern),
        };
        Some(if rest.is_empty() { place } else { place.join(rest) })
    }

    #[test]
    fn what_is_spelled_is_what_is_meant() {
        let variables = [("NVM_DIR", "/data/nvm"), ("GOPATH", "/"), ("CARGO_HOME", "/c")]
            .map(|(n, v)| (n.to_owned(), PathBuf::from(v)));
        let (mut count, mut out) = (0, Vec::new());
        for home in [None, Some(Path::new("/home/me")), Some(Path::new("/"))] {
            for variables in [&[][..], &variables] {
                let caller = Caller { home, variables };
                for flavor in built_in() {
                    for pattern in flavor
                        .path
                        .iter()
                        .chain(flavor.show.iter())
                        .chain(["@", "@/x", "/abs/x", "~", "$NONE/x"])
                    {
                        let spelled =
                            spell(&mut out, &flavor, pattern, &caller, None).map(|()| out.as_slice());
                        let meant = meant(&flavor, pattern, &caller);
                        let meant = meant.as_ref().map(|path| path.as_os_str().as_bytes());
                        assert_eq!(spelled, meant, "{pattern} of {}, {caller:?}", flavor.name);
                        count += 1;
                    }
                }
            }
        }
        assert!(count > 500, "{count}");
    }
}
