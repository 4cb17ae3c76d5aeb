//! `[cache]` of a tool chain's file.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::DeValue;

use super::cache::{Cache, variable_of};
use super::read::{Key, place, variable};
use super::{List, Pairs};
use crate::policy::read::{Read, Reader, short};
use crate::policy::value::ValueError;

const KEYS: [&str; 10] = ["about", "for", "show", "hide", "tokens", "where", "set", "copy", "home", "grows"];

/// Read the table of the tool `name`.
pub(super) fn read<'a>(reader: &mut Reader<'a>, name: &str, value: &Spanned<DeValue<'a>>) -> Read<Cache> {
    let mut cache = Cache {
        name: Cow::Owned(name.to_owned()),
        about: Cow::Borrowed(""),
        programs: List::Fixed(""),
        show: List::Fixed(""),
        hide: List::Fixed(""),
        tokens: List::Fixed(""),
        places: Pairs::Fixed(""),
        set: Pairs::Fixed(""),
        copy: List::Fixed(""),
        home: Pairs::Fixed(""),
        grows: false,
    };
    let table = reader.table("cache", value)?;
    // The variables first: the other keys may only use these, wherever they stand.
    if let Some((_, value)) = table.iter().find(|(key, _)| key.get_ref() == "where") {
        cache.places = variables(reader, value)?;
    }
    let names = first_words(cache.places.iter().map(|(name, _)| name));
    for (key, value) in table {
        let (span, key) = (key.span(), key.get_ref().as_ref());
        let n = &format!("cache {}", short(key));
        let list = |kind| {
            let check = |_: &Reader<'_>, text: &str| place(text, kind, &names).map(str::to_owned);
            let items = reader.list(n, value, check)?;
            Ok(List::Read(items.into_iter().map(|at| at.value).collect()))
        };
        match key {
            "about" => cache.about = Cow::Owned(reader.string(n, value)?.to_owned()),
            "for" => {
                let items = reader.list(n, value, |_, text| program(text))?;
                cache.programs = List::Read(items.into_iter().map(|at| at.value).collect());
            }
            "show" => cache.show = list(Key::Cache)?,
            "hide" => cache.hide = list(Key::Hide)?,
            "tokens" => cache.tokens = list(Key::Hide)?,
            "where" => {}
            "grows" => cache.grows = reader.boolean(n, value, 0)?.value,
            "copy" => {
                let items = reader.list(n, value, |_, text| variable(text).map(str::to_owned))?;
                cache.copy = List::Read(items.into_iter().map(|at| at.value).collect());
            }
            "set" => {
                cache.set = pairs(reader, n, value, &|name| variable(name).map(drop), &|text| {
                    let word = |word: &str| word.len() < 200 && !word.chars().any(char::is_control);
                    match text.strip_prefix('=') {
                        Some(rest) if word(rest) => Ok(()),
                        _ => place(text, Key::Cache, &names).map(drop),
                    }
                })?;
            }
            "home" => {
                cache.home =
                    pairs(reader, n, value, &link, &|text| place(text, Key::Cache, &names).map(drop))?;
            }
            other => reader.unknown(other, span, "[cache]", KEYS),
        }
    }
    Ok(cache)
}

/// `[cache.where]`: a usual value may lead to another variable of the table.
fn variables<'a>(reader: &Reader<'a>, value: &Spanned<DeValue<'a>>) -> Read<Pairs> {
    let table = reader.table("cache where", value)?;
    let names = first_words(table.iter().map(|(name, _)| name.get_ref().as_ref()));
    let usual = |text: &str| match text {
        "" => Ok(()),
        _ => place(text, Key::Cache, &names).map(drop),
    };
    pairs(reader, "cache where", value, &name_and_option, &usual)
}

fn name_and_option(text: &str) -> Result<(), ValueError> {
    let (name, option) = variable_of(text);
    let plain = |option: &str| option.len() < 60 && option.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    if option.is_none_or(plain) {
        variable(name).map(drop)
    } else {
        Err(ValueError::VariableName(short(text)))
    }
}

/// The variables alone, as other places name them.
fn first_words<'n>(names: impl Iterator<Item = &'n str>) -> Pairs {
    Pairs::Read(names.map(|name| (variable_of(name).0.to_owned(), String::new())).collect())
}

/// A name in the jail's home.
fn link(name: &str) -> Result<(), ValueError> {
    if name.contains('*') {
        return Err(ValueError::Place { given: short(name), why: "may not hold a `*` here" });
    }
    place(name, Key::Home, &Pairs::Fixed("")).map(drop)
}

type Check<'c> = &'c dyn Fn(&str) -> Result<(), ValueError>;

fn pairs<'a>(
    reader: &Reader<'a>,
    key: &str,
    value: &Spanned<DeValue<'a>>,
    left: Check<'_>,
    right: Check<'_>,
) -> Read<Pairs> {
    let mut out = Vec::new();
    for (name, value) in reader.table(key, value)? {
        let n = &format!("{key} {}", short(name.get_ref()));
        let text = reader.string(n, value)?;
        left(name.get_ref()).and_then(|()| right(text)).map_err(|why| reader.bad(n, &value.span(), why))?;
        out.push((name.get_ref().to_string(), text.to_owned()));
    }
    Ok(Pairs::Read(out))
}

/// A name that PATH is searched for.
fn program(text: &str) -> Result<String, ValueError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    if !text.is_empty() && text.len() <= 60 && text.bytes().all(plain) && !matches!(text, "." | "..") {
        Ok(text.to_owned())
    } else {
        Err(ValueError::Place { given: short(text), why: "is not the name of a program" })
    }
}
