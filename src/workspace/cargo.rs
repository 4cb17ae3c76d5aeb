//! `Cargo.toml`: which of its settings make the host run code that it has not run before, and the files that it
//! names as build scripts. Pure.
//!
//! Whoever opens the project in an editor has it built: rust-analyzer runs build scripts and expands macros. A
//! dependency by version is ordinary work, as in other manifests; one by path or from a repository may be any
//! directory at all, one of installed packages included, where no file is in the class.

use std::collections::BTreeSet;

use serde_json::Value;

/// A manifest as a value.
pub(super) fn parse(text: &[u8]) -> Option<Value> {
    let table = std::str::from_utf8(text).ok()?.parse::<toml::Table>().ok()?;
    serde_json::to_value(table).ok()
}

/// Why the change from `old` to `new` is in the class.
pub(super) fn reason(old: Option<&Value>, new: &Value) -> Option<&'static str> {
    let nothing = Value::Null;
    let old = old.unwrap_or(&nothing);
    if runs(old) != runs(new) {
        return Some("its build script, macros or replaced dependencies changed");
    }
    (!sources(new).is_subset(&sources(old))).then_some("it takes code from another place")
}

/// The files that a manifest names as build scripts, as they are written there.
pub(super) fn build_scripts(text: &[u8]) -> Vec<Vec<u8>> {
    let Some(manifest) = parse(text) else { return Vec::new() };
    let mut found = Vec::new();
    for package in packages(&manifest) {
        match package.get("build") {
            Some(Value::String(one)) => found.push(one.clone().into_bytes()),
            Some(Value::Array(several)) => {
                found.extend(several.iter().filter_map(|v| Some(v.as_str()?.to_owned().into_bytes())));
            }
            _ => {}
        }
    }
    found
}

/// The package, under its old name as well.
fn packages(manifest: &Value) -> impl Iterator<Item = &Value> {
    ["package", "project"].into_iter().filter_map(|name| manifest.get(name))
}

/// A key that may be written with `_` for `-`.
fn key<'a>(table: &'a Value, name: &str) -> Option<&'a Value> {
    table.get(name).or_else(|| table.get(name.replace('-', "_")))
}

/// What decides by itself which code is run.
fn runs(manifest: &Value) -> Vec<Option<&Value>> {
    let mut found: Vec<Option<&Value>> = ["package", "project"]
        .into_iter()
        .flat_map(|name| {
            let package = manifest.get(name);
            ["build", "links", "workspace"].map(|key| package.and_then(|p| p.get(key)))
        })
        .collect();
    let lib = manifest.get("lib").filter(|lib| is_macro(lib));
    found.extend(["proc-macro", "crate-type", "path"].map(|name| lib.and_then(|lib| key(lib, name))));
    found.extend(["patch", "replace"].map(|name| manifest.get(name)));
    found
}

/// Whether the compiler loads the library.
fn is_macro(lib: &Value) -> bool {
    let kinds = key(lib, "crate-type").and_then(Value::as_array);
    key(lib, "proc-macro") == Some(&Value::Bool(true))
        || kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "proc-macro"))
}

/// Where code comes from beside the registry that everybody uses.
fn sources(manifest: &Value) -> BTreeSet<(&str, String)> {
    let targets = manifest.get("target").and_then(Value::as_object).into_iter().flat_map(|t| t.values());
    let workspace = manifest.get("workspace");
    let tables = [manifest].into_iter().chain(workspace).chain(targets);
    let mut found = BTreeSet::new();
    for table in tables {
        for name in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for one in key(table, name).and_then(Value::as_object).into_iter().flat_map(|d| d.values()) {
                for kind in ["path", "base", "git", "registry", "registry-index"] {
                    found.extend(one.get(kind).map(|v| (kind, v.to_string())));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "[package]\nname = 'x'\nversion = '1.0.0'\n[lib]\npath = 'src/lib.rs'\n\
                       [dependencies]\na = { path = 'a' }\nb = '1'\n[workspace]\nmembers = ['a']\n";

    fn flagged(old: Option<&str>, new: &str) -> bool {
        reason(old.and_then(|o| parse(o.as_bytes())).as_ref(), &parse(new.as_bytes()).unwrap()).is_some()
    }

    #[test]
    fn what_makes_the_host_run_other_code_is_in_the_class() {
        for (from, to) in [
            ("[lib]", "build = 'src/util.rs'\n[lib]"),
            ("[lib]", "build = false\n[lib]"),
            ("[lib]", "build = ['a.rs', 'b.rs']\n[lib]"),
            ("[lib]", "links = 'z'\n[lib]"),
            ("[lib]", "workspace = '/tmp'\n[lib]"),
            ("[lib]", "[lib]\nproc-macro = true"),
            ("[lib]", "[lib]\nproc_macro = true"),
            ("[lib]", "[lib]\ncrate-type = ['proc-macro']"),
            ("'a' }", "'../a' }"),
            ("b = '1'", "b = '1'\nc = { path = 'node_modules/c' }"),
            ("b = '1'", "b = { version = '1', git = 'https://example.com/b' }"),
            ("b = '1'", "b = { version = '1', registry-index = 'https://example.com/b' }"),
            ("[dep", "[target.'cfg(unix)'.build-dependencies]\nc = { path = 'c' }\n[dep"),
            ("[dep", "[dev_dependencies]\nc = { path = 'c' }\n[dep"),
            ("['a']", "['a']\n[workspace.dependencies]\nc = { path = 'c' }"),
            ("['a']", "['a']\n[patch.crates-io]\nb = '2'"),
        ] {
            let new = OLD.replace(from, to);
            assert!(new != OLD && flagged(Some(OLD), &new), "{new}");
            assert!(flagged(None, &new), "{new}");
        }
        let old = OLD.replace("[lib]", "[lib]\nproc-macro = true");
        assert!(flagged(Some(&old), &old.replace("src/lib.rs", "src/other.rs")));
        assert!(flagged(Some(&OLD.replace("[lib]", "build = 'x.rs'\n[lib]")), OLD), "build.rs again");
    }

    #[test]
    fn ordinary_work_is_not() {
        for (from, to) in [
            ("1.0.0", "1.0.1"),
            ("b = '1'", "b = '2'\nserde = { version = '1', features = ['derive'] }"),
            ("a = { path = 'a' }\n", ""),
            ("src/lib.rs", "src/other.rs"),
            ("['a']", "[]"),
            ("[dep", "[build-dependencies]\ncc = '1'\n[features]\nx = []\n[dep"),
        ] {
            let new = OLD.replace(from, to);
            assert!(new != OLD && !flagged(Some(OLD), &new), "{new}");
        }
        assert!(!flagged(None, "[package]\nname = 'x'\n[dependencies]\nb = '1'\n"));
    }

    #[test]
    fn build_scripts_are_found_by_any_of_their_keys() {
        let named = |text: &str| {
            let found = build_scripts(text.as_bytes());
            found.into_iter().map(|n| String::from_utf8(n).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(named("[package]\nbuild = 'src/util.rs'\n"), ["src/util.rs"]);
        assert_eq!(named("[project]\nbuild = ['a.rs', 'b.rs']\n"), ["a.rs", "b.rs"]);
        assert_eq!(named("[package]\nbuild = false\n"), [""; 0]);
        assert_eq!(named("= broken"), [""; 0]);
    }
}
