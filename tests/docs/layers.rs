//! The layers of `src/lib.rs`: a module uses modules of lower layers only.

use std::collections::BTreeMap;

use super::source::{self, Source};

/// `(module, layer)` as the table in the documentation of `src/lib.rs` says.
fn table(lib: &str) -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    for line in lib.lines().filter_map(|l| l.strip_prefix("//! | ")) {
        let mut cells = line.split('|').map(str::trim);
        let (Some(Ok(layer)), Some(modules)) = (cells.next().map(str::parse), cells.next()) else { continue };
        for module in modules.split(',').filter_map(|m| m.trim().strip_prefix("[`")?.strip_suffix("`]")) {
            layers.insert(module.to_owned(), layer);
        }
    }
    layers
}

/// What stands in the way of the rule, one line each.
fn violations(layers: &BTreeMap<String, u32>, files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let Some(module) = module_of(&file.path) else { continue };
        let Some(own) = layers.get(module) else {
            found.push(format!("{}: module `{module}` is not in the table of src/lib.rs", file.path));
            continue;
        };
        for (line, used) in uses(&file.code) {
            let at = format!("{}:{line}", file.path);
            match layers.get(&used) {
                _ if used == module => {}
                None => found.push(format!("{at}: `crate::{used}` is not in the table of src/lib.rs")),
                Some(other) if other >= own => {
                    found.push(format!("{at}: `{module}` (layer {own}) uses `{used}` (layer {other})"));
                }
                Some(_) if module == "cli" && matches!(used.as_str(), "sys" | "store" | "jail") => {
                    found.push(format!("{at}: `cli` goes through `ops`, not to `{used}`"));
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// `base` of `src/base/id.rs`, `monitor` of `src/monitor.rs`; none for the roots of the two crates.
fn module_of(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/")?;
    let first = inner.split('/').next()?;
    (!matches!(inner, "lib.rs" | "main.rs")).then(|| first.strip_suffix(".rs").unwrap_or(first))
}

/// `(line, module)` for every `crate::module`, `use crate::{a, b::c}` included.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        // `$crate::` in a macro is the same crate, `mycrate::` is another one.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(group_heads(group).into_iter().map(|name| (line, name)));
        } else {
            found.push((line, word(rest)));
        }
    }
    found
}

/// The first name of each item of `{a, b::{c, d}, e}`, given what follows the first brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut fresh) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && (c.is_alphanumeric() || c == '_') => {
                heads.push(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_use_lower_layers_only() {
    let lib = std::fs::read_to_string(crate::common::root().join("src/lib.rs")).unwrap();
    let layers = table(&lib);
    for declared in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')) {
        assert!(layers.contains_key(declared), "`{declared}` has no layer in the table of src/lib.rs");
    }
    assert!(layers.len() >= 8, "the table of src/lib.rs was not understood: {layers:?}");
    let found = violations(&layers, &source::all());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn each_kind_of_violation_is_found() {
    let layers =
        table("//! | 0 | [`base`] | x |\n//! | 3 | [`policy`], [`store`] | y |\n//! | 6 | [`cli`] | z |\n");
    assert_eq!(layers.len(), 4);
    let check = |path: &str, text: &str| violations(&layers, &[Source::new(path, text)]);
    assert_eq!(check("src/policy/x.rs", "use crate::base::id;\nuse crate::policy::y;"), [""; 0]);
    assert_eq!(
        check("src/base/id.rs", "\nuse crate::policy::X;"),
        ["src/base/id.rs:2: `base` (layer 0) uses `policy` (layer 3)"]
    );
    assert_eq!(check("src/policy.rs", "fn f() { crate::store::g() }").len(), 1);
    assert_eq!(check("src/base/x.rs", "use crate::{base::id, cli::{ui, base}};").len(), 1);
    assert_eq!(check("src/base/x.rs", "// crate::cli\nfn f() { \"crate::cli\" }"), [""; 0]);
    assert!(check("src/cli/x.rs", "use crate::store::X;")[0].contains("goes through `ops`"));
    assert!(check("src/new/x.rs", "")[0].contains("not in the table"));
    assert!(check("src/cli/x.rs", "use crate::nowhere::X;")[0].contains("not in the table"));
}
