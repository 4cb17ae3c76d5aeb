//! The caller's own configuration of cargo, where the jail has cargo: a private registry, another source for
//! crates.io or flags for the compiler that are not known inside make a build fail, or everything be compiled
//! again.
//!
//! The file itself is not shown, because tokens are kept in it. What is harmless and decides how is built is copied
//! to `/.cargo/config.toml`, which cargo reads after all files of the project, wherever that is. Not copied: tokens
//! and what provides them, addresses with somebody or a question in them, proxies, aliases and programs (wrappers,
//! linkers, runners: they lie in places that are not shown, and have words that may be keys), where things are built
//! (a place that cannot be written inside), and `[env]`, which is where people keep keys.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::base::{env, text};
use crate::ops::caches::Found as FoundCache;
use crate::ops::config;
use crate::ops::tools::Found;
use crate::workspace::gitcreds::{self, Clean};

/// Where it is seen inside: the weakest of the files that cargo looks for above a project.
pub(super) const SEEN: &str = "/.cargo/config.toml";

/// Tables, and keys of them; a table of tables has names of the user's own between.
const COPIED: &[(&str, bool, &[&str])] = &[
    ("build", false, &["jobs", "target", "rustflags", "rustdocflags", "incremental"]),
    ("http", false, &["timeout", "check-revoke", "multiplexing", "ssl-version", "low-speed-limit"]),
    ("net", false, &["retry", "git-fetch-with-cli", "offline"]),
    ("registry", false, &["default"]),
    ("registries", true, &["index", "protocol"]),
    ("resolver", false, &["incompatible-rust-versions"]),
    (
        "source",
        true,
        &["replace-with", "registry", "local-registry", "directory", "git", "branch", "tag", "rev"],
    ),
    ("target", true, &["rustflags", "rustdocflags"]),
    ("profile", false, &[]),
    ("unstable", false, &[]),
];
/// Keys whose value is a path, from the directory that has `.cargo` when it is relative.
const PATHS: &[&str] = &["local-registry", "directory"];
/// Keys whose value is an address: who is there before an `@` and what comes after a `?` may be a token.
const ADDRESSES: &[&str] = &["index", "registry", "git"];
/// Bytes at most of what is shown.
const LARGEST: usize = 64 << 10;

/// What is seen of it inside, when cargo is among what is shown, or is the command itself (one of the machine's);
/// what is left out and may be missed goes to `warnings`.
pub(super) fn config(
    argv: &[OsString],
    (tools, caches): (&[Found], &[FoundCache]),
    warnings: &mut Vec<String>,
) -> Option<Vec<u8>> {
    let has = |tool: &str| tools.iter().any(|f| f.name == tool) || caches.iter().any(|f| f.name == tool);
    let is = argv.first().is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new("cargo")));
    if !is && !has("rustup") && !has("cargo") {
        return None;
    }
    let home = env::HOME.absolute_path().map(|home| home.join(".cargo"));
    let dir = env::caller("CARGO_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()).or(home)?;
    of(&dir.join("config.toml"), warnings)
}

fn of(file: &Path, warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    let shown = config::shown(file);
    let mut refuse = |why: &str| warnings.push(format!("`{shown}` is not seen by cargo inside: {why}"));
    let table: Table = match config::read_regular(file, &shown, 0) {
        Ok(None) => return None,
        Ok(Some(bytes)) if bytes.len() > LARGEST => {
            refuse("it is larger than 64 KiB");
            return None;
        }
        Ok(Some(bytes)) => match std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()) {
            Some(table) => table,
            None => {
                refuse("it is no TOML");
                return None;
            }
        },
        Err(_) => {
            refuse("it is no plain file that can be read");
            return None;
        }
    };
    let base = file.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let mut copy = Copy { base, cleaned: Vec::new() };
    let mut kept = Table::new();
    for (section, named, keys) in COPIED {
        let Some(Value::Table(table)) = table.get(*section) else { continue };
        let table = if *named {
            let several = table.iter().filter_map(|(name, value)| {
                let table = copy.table(&format!("{section}.{name}"), value.as_table()?, keys);
                (!table.is_empty()).then(|| (name.clone(), Value::Table(table)))
            });
            several.collect()
        } else {
            copy.table(section, table, keys)
        };
        if !table.is_empty() {
            kept.insert((*section).to_owned(), Value::Table(table));
        }
    }
    if let Some(Value::Table(variables)) =
        table.get("env").filter(|env| env.as_table().is_some_and(|t| !t.is_empty()))
    {
        let names: Vec<String> = variables.keys().take(3).map(|name| text::brief(name)).collect();
        let more = if variables.len() > 3 { " and others" } else { "" };
        warnings.push(format!(
            "`[env]` of `{shown}` is not seen inside ({}{more}): set what the build needs, `-e NAME=VALUE`",
            names.join(", ")
        ));
    }
    if !copy.cleaned.is_empty() {
        warnings.push(format!(
            "credentials in `{shown}` are not seen inside: {}; without them nothing is fetched from there",
            copy.cleaned.join(", ")
        ));
    }
    let text = if kept.is_empty() { return None } else { kept.to_string() };
    Some(text.into_bytes())
}

struct Copy<'a> {
    /// What relative paths start from.
    base: &'a Path,
    /// Settings that had credentials in them.
    cleaned: Vec<String>,
}

impl Copy<'_> {
    /// The settings of one table; no `keys`: all that are no secrets by their names.
    fn table(&mut self, section: &str, table: &Table, keys: &[&str]) -> Table {
        let is_copied = |name: &str| if keys.is_empty() { !is_secret(name) } else { keys.contains(&name) };
        let settings = table.iter().filter(|(name, _)| is_copied(name));
        let copied = settings.filter_map(|(name, value)| {
            Some((name.clone(), self.value(&format!("{section}.{name}"), name, value)?))
        });
        copied.collect()
    }

    fn value(&mut self, place: &str, name: &str, value: &Value) -> Option<Value> {
        Some(match value {
            Value::String(text) => {
                let suspect = ADDRESSES.contains(&name) && text.contains(['@', '?']) && !is_ssh(text);
                let clean = if suspect { Clean::Hide } else { gitcreds::clean(text.as_bytes()) };
                if !matches!(clean, Clean::Same) {
                    self.cleaned.push(format!("`{}`", text::brief(place)));
                }
                Value::String(match clean {
                    Clean::Same => self.absolute(name, text),
                    Clean::Text(clean) => String::from_utf8(clean).ok()?,
                    Clean::Hide => return None,
                })
            }
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.value(place, name, item)).collect::<Option<_>>()?)
            }
            Value::Table(table) => Value::Table(self.table(place, table, &[])),
            plain => plain.clone(),
        })
    }

    fn absolute(&self, name: &str, value: &str) -> String {
        match self.base.join(value).to_str() {
            Some(path) if PATHS.contains(&name) && !value.is_empty() && !value.contains(' ') => {
                path.to_owned()
            }
            _ => value.to_owned(),
        }
    }
}

/// Whether who is named in an address is a name and no token: `ssh://git@host/x`.
fn is_ssh(address: &str) -> bool {
    address.starts_with("ssh://git@") && !address.contains('?') && address.matches('@').count() == 1
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "credential", "secret", "password"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> (Option<Table>, String) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir(top.join(".cargo")).unwrap();
        let file = top.join(".cargo/config.toml");
        std::fs::write(&file, text).unwrap();
        let mut warnings = Vec::new();
        let text = of(&file, &mut warnings).map(|text| String::from_utf8(text).unwrap());
        if let Some(text) = &text {
            assert!(!text.contains("SECRET"), "{text}");
        }
        let top = top.to_str().unwrap();
        (text.map(|t| t.replace(top, "/T").parse().unwrap()), warnings.join("\n").replace(top, "/T"))
    }

    #[test]
    fn what_decides_how_is_built_comes_along_and_no_secrets() {
        let (table, warnings) = seen(
            "[source.crates-io]\nreplace-with = 'corp'\n[source.corp]\nregistry = 'sparse+https://h/index/'\n\
             [source.vendored]\ndirectory = 'vendor'\n[registries.corp]\nindex = 'https://h/i'\ntoken = 'SECRET'\n\
             credential-provider = ['SECRET']\n[registry]\ndefault = 'corp'\ntoken = 'SECRET'\n\
             [build]\nrustflags = ['-Cdebuginfo=0']\nrustc-wrapper = 'SECRET'\ntarget-dir = 'SECRET'\n\
             [target.'cfg(unix)']\nlinker = 'SECRET'\nrunner = ['env', 'KEY=SECRET']\n[alias]\nb = 'publish --token SECRET'\n\
             [registries.git]\nindex = 'ssh://git@h/i'\n[profile.dev.package.'*']\nopt-level = 2\n\
             [http]\nproxy = 'u:SECRET@p:3128'\ncainfo = '/x'\n[cargo-new]\nvcs = 'none'\n[credential-alias]\na = 'SECRET'\n",
        );
        let wanted = "[source.crates-io]\nreplace-with = 'corp'\n[source.corp]\nregistry = 'sparse+https://h/index/'\n\
             [source.vendored]\ndirectory = '/T/vendor'\n[registries.corp]\nindex = 'https://h/i'\n[registry]\ndefault = 'corp'\n\
             [build]\nrustflags = ['-Cdebuginfo=0']\n\
             [profile.dev.package.'*']\nopt-level = 2\n\
             [registries.git]\nindex = 'ssh://git@h/i'\n";
        assert_eq!(table.unwrap(), wanted.parse().unwrap());
        assert_eq!(warnings, "");
    }

    #[test]
    fn what_is_left_out_and_may_be_missed_is_told() {
        let (table, warnings) = seen(
            "[source.corp]\nregistry = 'https://me:SECRET@h/index'\n[source.bare]\nregistry = 'https://SECRET@h/index'\n\
             [registries.x]\nindex = 'sparse+https://SECRET@h/'\n[registries.y]\nindex = 'file:///srv/x?token=SECRET'\n\
             [build]\njobs = 2\n[env]\nDATABASE_URL = 'SECRET'\n",
        );
        assert_eq!(table.unwrap(), "[build]\njobs = 2\n".parse().unwrap());
        for said in [
            "`[env]`",
            "DATABASE_URL",
            "`source.corp.registry`",
            "`source.bare.registry`",
            "`registries.x.index`",
            "`registries.y.index`",
        ] {
            assert!(warnings.contains(said), "{warnings}");
        }
        assert!(!warnings.contains("SECRET"), "{warnings}");
        let (table, warnings) = seen("[source\n");
        assert!(table.is_none() && warnings.contains("it is no TOML"), "{warnings}");
        let (table, warnings) = seen(&"#\n".repeat(LARGEST));
        assert!(table.is_none() && warnings.contains("larger"), "{warnings}");
        assert_eq!(seen("[registry]\ntoken = 'SECRET'\n"), (None, String::new()));
        assert_eq!(of(Path::new("/nonexistent/.cargo/config.toml"), &mut Vec::new()), None);
    }
}
