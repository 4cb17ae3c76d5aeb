//! Which version of each tool the caller's mise takes where a project says nothing: inside it stands in
//! `/etc/mise/config.toml`, the weakest of mise's files, so that its shims find one.
//!
//! Of `~/.config/mise/config.toml` nothing else comes along: its `[env]` and `[settings]` are where people keep
//! keys, and the options of a tool may hold an address with a password.

use std::path::Path;

use toml::{Table, Value};

use super::gitconfig::read;
use crate::base::env;

/// Where it stands in `/etc`.
pub(super) const NAME: &str = "mise/config.toml";
/// Tools at most, and bytes of the name or the version of one.
const MOST: usize = 500;
const LONGEST: usize = 200;

/// Its text, from the caller's file as it is now. `None`: there is none, or none that can be read. A line of what
/// is wrong with it goes to `warnings`.
pub(super) fn text(warnings: &mut Vec<String>) -> Option<String> {
    text_of(&env::config_home()?.join("mise/config.toml"), warnings)
}

fn text_of(file: &Path, warnings: &mut Vec<String>) -> Option<String> {
    let mut refuse = |why: &str| {
        warnings.push(format!("`{}` is not read for versions of tools: {why}", crate::base::text::os(file)));
    };
    let table: Table = match read(file) {
        Ok(text) => text?.parse().map_err(|_| refuse("it is no TOML")).ok()?,
        Err(why) => {
            refuse(why);
            return None;
        }
    };
    let Some(Value::Table(tools)) = table.get("tools") else { return None };
    let kept = tools.iter().filter(|(name, _)| is_plain(name)).filter_map(|(name, value)| {
        let versions = versions(value);
        (!versions.is_empty()).then(|| (name.clone(), Value::Array(versions)))
    });
    let kept: Table = kept.take(MOST).collect();
    (!kept.is_empty()).then(|| Table::from_iter([("tools".to_owned(), Value::Table(kept))]).to_string())
}

/// The versions that are asked for of one tool: one, several, or one with options.
fn versions(value: &Value) -> Vec<Value> {
    match value {
        Value::String(version) if is_plain(version) => vec![value.clone()],
        Value::Array(several) => several.iter().flat_map(versions).take(MOST).collect(),
        Value::Table(options) => options.get("version").map(versions).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// No address, no template, nothing that nobody would read.
fn is_plain(text: &str) -> bool {
    let strange = |c: char| c.is_control() || c == '{';
    text.len() <= LONGEST && !text.contains("://") && !text.contains(strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Option<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let mut warnings = Vec::new();
        (text_of(&file, &mut warnings), warnings)
    }

    #[test]
    fn versions_come_along_and_nothing_else() {
        let (text, warnings) =
            of("[env]\nKEY = 'SECRET'\n[settings]\ntoken = 'SECRET'\n[tools]\nnode = '22'\n\
             python = ['3.12', '3.11']\n'npm:x' = { version = 'latest', url = 'https://u:SECRET@x' }\n\
             a = { url = 'SECRET' }\nb = 'https://u:SECRET@x'\nc = '{{ exec(command=\"SECRET\") }}'\nd = 3\n\
             'e://SECRET' = '1'\n[alias]\nx = 'SECRET'\n");
        let text = text.unwrap();
        assert!(!text.contains("SECRET"), "{text}");
        let wanted = "[tools]\nnode = ['22']\npython = ['3.12', '3.11']\n'npm:x' = ['latest']\n";
        assert_eq!(text.parse::<Table>().unwrap(), wanted.parse::<Table>().unwrap());
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn what_says_nothing_adds_nothing_and_what_cannot_be_read_is_told() {
        for text in ["", "[tools]\n", "tools = 3\n", "[env]\nA = '1'\n", "[tools]\na = true\n"] {
            assert_eq!(of(text), (None, Vec::new()), "{text}");
        }
        let (text, warnings) = of("[tools\n");
        assert!(text.is_none() && warnings[0].contains("it is no TOML"), "{warnings:?}");
        let (text, warnings) = of(&"#\n".repeat(200_000));
        assert!(text.is_none() && warnings[0].contains("larger"), "{warnings:?}");
        let mut warnings = Vec::new();
        assert_eq!(text_of(Path::new("/nonexistent/config.toml"), &mut warnings), None);
        assert!(warnings.is_empty());
    }
}
