//! The built-in tables of tool chains and of caches say what `flavors/*.toml` say.

use agentjail::policy::flavor::{Cache, Flavor, built_in, caches, parse};

use crate::common::{assert_file, files};

/// The files, parsed.
fn catalogue() -> Vec<Flavor> {
    let read = |(path, text): (String, String)| {
        let name = path.strip_prefix("flavors/").and_then(|p| p.strip_suffix(".toml")).unwrap().to_owned();
        let (flavor, warnings) = parse(&name, &path, text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(warnings, Vec::<String>::new(), "{path}");
        let tool = !flavor.about.is_empty() && flavor.path.iter().next().is_some();
        let cache = flavor.cache.as_ref();
        let whole = cache.is_none_or(|c| {
            !c.about.is_empty() && c.programs.iter().next().is_some() && c.show.iter().next().is_some()
        });
        assert!(whole && (tool || cache.is_some()), "{path}");
        flavor
    };
    files("flavors", "toml").into_iter().map(read).collect()
}

fn is_tool(f: &Flavor) -> bool {
    f.path.iter().next().is_some()
}

fn list(items: Vec<&str>) -> String {
    items.join("|")
}

fn pairs(items: Vec<(&str, &str)>) -> String {
    items.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|")
}

fn joined<const N: usize>(fields: [String; N]) -> String {
    assert!(fields.iter().all(|field| !field.contains(['\t', '\n'])), "{fields:?}");
    format!("{}\n", fields.join("\t"))
}

/// One line of the table of caches.
fn cache_line(c: &Cache) -> String {
    joined([
        c.name.to_string(),
        c.about.to_string(),
        list(c.programs.iter().collect()),
        list(c.show.iter().collect()),
        list(c.hide.iter().collect()),
        list(c.tokens.iter().collect()),
        pairs(c.places.iter().collect()),
        pairs(c.set.iter().collect()),
        list(c.copy.iter().collect()),
        pairs(c.home.iter().collect()),
        if c.grows { "grows".to_owned() } else { String::new() },
    ])
}

/// One line of the table.
fn line(f: &Flavor) -> String {
    joined([
        f.name.to_string(),
        f.about.to_string(),
        list(f.path.iter().collect()),
        list(f.show.iter().collect()),
        list(f.hide.iter().collect()),
        list(f.home.iter().collect()),
        list(f.copy.iter().collect()),
        pairs(f.places.iter().collect()),
        pairs(f.set.iter().collect()),
    ])
}

#[test]
fn the_table_of_tool_chains_is_up_to_date() {
    let mut all = catalogue();
    all.retain(is_tool);
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

#[test]
fn the_table_of_caches_is_up_to_date() {
    let all: Vec<Cache> = catalogue().into_iter().filter_map(|f| f.cache).map(|c| *c).collect();
    assert_file("src/policy/flavor/caches.txt", &all.iter().map(cache_line).collect::<String>());
    if !crate::common::update() {
        assert_eq!(caches().count(), all.len());
        caches().zip(&all).for_each(|(read, file)| assert_eq!(cache_line(&read), cache_line(file)));
    }
}
