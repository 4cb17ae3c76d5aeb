//! The built-in table of tool chains says what `flavors/*.toml` say, and shows no known secret.

use agentjail::policy::flavor::{Flavor, parse};

use crate::common::{assert_file, files};

/// The files, parsed.
fn catalogue() -> Vec<Flavor> {
    let read = |(path, text): (String, String)| {
        let name = path.strip_prefix("flavors/").and_then(|p| p.strip_suffix(".toml")).unwrap().to_owned();
        let (flavor, warnings) = parse(&name, &path, text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(warnings, Vec::<String>::new(), "{path}");
        assert!(!flavor.about.is_empty() && flavor.path.iter().next().is_some(), "{path}");
        flavor
    };
    files("flavors", "toml").into_iter().map(read).collect()
}

fn source(all: &[Flavor]) -> String {
    let list = |key: &str, items: Vec<&str>| format!("        {key}: List::Fixed(&{items:?}),\n");
    let pairs = |key: &str, items: Vec<(&str, &str)>| format!("        {key}: Pairs::Fixed(&{items:?}),\n");
    let mut out = format!(
        "//! The built-in tool chains, made from `flavors/*.toml` by `UPDATE=1 cargo test --test main docs`.\n\n\
         use std::borrow::Cow::Borrowed;\n\nuse super::{{Flavor, List, Pairs}};\n\n\
         pub(super) static ALL: [Flavor; {}] = [\n",
        all.len()
    );
    for f in all {
        out.push_str(&format!(
            "    Flavor {{\n        name: Borrowed({:?}),\n        about: Borrowed({:?}),\n{}{}{}{}{}{}{}    }},\n",
            f.name,
            f.about,
            list("path", f.path.iter().collect()),
            list("show", f.show.iter().collect()),
            list("hide", f.hide.iter().collect()),
            list("home", f.home.iter().collect()),
            list("copy", f.copy.iter().collect()),
            pairs("places", f.places.iter().collect()),
            pairs("set", f.set.iter().collect()),
        ));
    }
    out.push_str("];\n");
    out
}

#[test]
fn the_table_of_tool_chains_is_up_to_date() {
    assert_file("src/policy/flavor/table.rs", &source(&catalogue()));
}
