//! From a TOML file to a tool chain. Every mistake names its line.

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::{Flavor, List, Pairs, read_cache};
use crate::policy::file::FileError;
use crate::policy::read::{Paths, Read, Reader, short};
use crate::policy::value::{ValueError, is_variable_name};

/// Longest item. Nothing real comes near; messages and tables stay readable.
const LONGEST: usize = 200;

/// Where an item stands: what it may hold depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Path,
    Show,
    Hide,
    Home,
    Where,
    Set,
    Cache,
}

const KEYS: [&str; 9] = ["about", "path", "show", "hide", "home", "copy", "where", "set", "cache"];

/// Read the file of the tool chain `name`. `path` is what messages show. Warnings are about keys
/// that nothing reads.
pub fn parse(name: &str, path: &str, bytes: &[u8]) -> Result<(Flavor, Vec<String>), FileError> {
    let mut reader = Reader::new(path, bytes, Paths::Unused)?;
    let root = reader.parse()?;
    let root = root.get_ref();
    let mut flavor = Flavor {
        name: Cow::Owned(name.to_owned()),
        about: Cow::Borrowed(""),
        path: List::Fixed(""),
        show: List::Fixed(""),
        hide: List::Fixed(""),
        home: List::Fixed(""),
        copy: List::Fixed(""),
        places: Pairs::Fixed(""),
        set: Pairs::Fixed(""),
        cache: None,
    };
    // The variables first: the other keys may only use these, wherever they stand.
    if let Some((_, value)) = root.iter().find(|(key, _)| key.get_ref() == "where") {
        flavor.places = pairs(&reader, "where", value, Key::Where, &Pairs::Fixed(""))?;
    }
    for (key, value) in root {
        let span = key.span();
        let key = key.get_ref().as_ref();
        let list = |kind| {
            let check = |_: &Reader<'_>, text: &str| place(text, kind, &flavor.places).map(str::to_owned);
            let items = reader.list(key, value, check)?;
            Ok::<_, FileError>(List::Read(items.into_iter().map(|at| at.value).collect()))
        };
        match key {
            "about" => flavor.about = Cow::Owned(reader.string(key, value)?.to_owned()),
            "path" => flavor.path = list(Key::Path)?,
            "show" => flavor.show = list(Key::Show)?,
            "hide" => flavor.hide = list(Key::Hide)?,
            "home" => flavor.home = list(Key::Home)?,
            "copy" => {
                let items = reader.list(key, value, |_, text| variable(text).map(str::to_owned))?;
                flavor.copy = List::Read(items.into_iter().map(|at| at.value).collect());
            }
            "where" => {}
            "cache" => flavor.cache = Some(Box::new(read_cache::read(&mut reader, name, value)?)),
            "set" => flavor.set = pairs(&reader, key, value, Key::Set, &flavor.places)?,
            other => reader.unknown(other, span, "", KEYS),
        }
    }
    Ok((flavor, reader.finish()))
}

fn pairs<'a>(
    reader: &Reader<'a>,
    key: &str,
    value: &Spanned<DeValue<'a>>,
    kind: Key,
    places: &Pairs,
) -> Read<Pairs> {
    let mut out = Vec::new();
    for (name, value) in reader.table(key, value)? {
        let n = &format!("{key} {}", short(name.get_ref()));
        let text = reader.string(n, value)?;
        let checked = variable(name.get_ref()).and_then(|name| {
            let empty = kind == Key::Where && text.is_empty();
            if empty { Ok((name, text)) } else { place(text, kind, places).map(|text| (name, text)) }
        });
        let (name, text) = checked.map_err(|why| reader.bad(n, &value.span(), why))?;
        out.push((name.to_owned(), text.to_owned()));
    }
    Ok(Pairs::Read(out))
}

/// A place as it may stand under `kind`.
pub(super) fn place<'t>(text: &'t str, kind: Key, places: &Pairs) -> Result<&'t str, ValueError> {
    let bad = |why| Err(ValueError::Place { given: short(text), why });
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        return bad("is too long or holds a control character");
    }
    if text == "/" && kind == Key::Set {
        return Ok(text);
    }
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    let starts = match first {
        "" => text.len() > 1,
        "~" => true,
        "@" => matches!(kind, Key::Show | Key::Hide | Key::Set),
        _ => first.strip_prefix('$').is_some_and(|name| places.get(name).is_some()),
    };
    if !starts {
        return bad("starts with neither `/` nor `~/` nor a variable that stands under [where]");
    }
    if kind == Key::Home && (first != "~" || rest.is_empty()) {
        return bad("is not below `~/`");
    }
    let stars = text.split('/').any(|part| part.contains('*'));
    if stars && !matches!(kind, Key::Path | Key::Hide | Key::Home) {
        return bad("may not hold a `*` here");
    }
    for part in rest.split('/').chain([first]) {
        if matches!(part, "." | "..") || part.matches('*').count() > 1 {
            return bad("holds `.`, `..`, or more than one `*` in a component");
        }
    }
    if rest.split('/').any(str::is_empty) && !rest.is_empty() {
        return bad("holds an empty component");
    }
    // The whole of a home, or of the machine, is no tool.
    let whole = Path::new(text).components().count() < 2;
    if whole && !matches!(kind, Key::Where | Key::Set) && first == "~" {
        return bad("is the whole home directory");
    }
    Ok(text)
}

pub(super) fn variable(name: &str) -> Result<&str, ValueError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    // What decides how every program starts is not a tool's to set.
    let taken = ["PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "IFS"];
    if is_variable_name(name.as_bytes()) && name.bytes().all(word) && !taken.contains(&name) {
        Ok(name)
    } else {
        Err(ValueError::VariableName(short(name)))
    }
}
