//! The built-in table of tool chains says what `flavors/*.toml` say, and shows no known secret.

use agentjail::policy::flavor::{Flavor, built_in, parse};

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

/// One line of the table.
fn line(f: &Flavor) -> String {
    let list = |items: Vec<&str>| items.join("|");
    let pairs = |items: Vec<(&str, &str)>| {
        items.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|")
    };
    let fields = [
        f.name.to_string(),
        f.about.to_string(),
        list(f.path.iter().collect()),
        list(f.show.iter().collect()),
        list(f.hide.iter().collect()),
        list(f.home.iter().collect()),
        list(f.copy.iter().collect()),
        pairs(f.places.iter().collect()),
        pairs(f.set.iter().collect()),
    ];
    assert!(fields.iter().all(|field| !field.contains(['\t', '\n'])), "{fields:?}");
    format!("{}\n", fields.join("\t"))
}

#[test]
fn the_table_of_tool_chains_is_up_to_date() {
    let all = catalogue();
    let names: std::collections::BTreeSet<&str> =
        all.iter().flat_map(|f| f.places.iter().map(|(name, _)| name)).collect();
    let first: Vec<&str> = names.into_iter().collect();
    let table = all.iter().map(line).fold(format!("{}\n", first.join("\t")), |table, line| table + &line);
    assert_file("src/policy/flavor/table.txt", &table);
    // And reads back as what stands in the files.
    let same = |(read, file): (Flavor, &Flavor)| assert_eq!(line(&read), line(file));
    if !crate::common::update() {
        assert_eq!(built_in().count(), all.len());
        built_in().zip(&all).for_each(same);
    }
}
