//! Manual pages, completion scripts, help and examples agree with the binary.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use agentjail::cli::commands;

use crate::common::{self, assert_file, run, update};

const SHELLS: &[(&str, &str)] = &[("bash", "aj.bash"), ("zsh", "_aj"), ("fish", "aj.fish")];

#[test]
fn completion_scripts_are_up_to_date() {
    for (shell, file) in SHELLS {
        let ran = run(&["completions", shell]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains("AJ_COMPLETE"), "{ran:?}");
        assert_file(&format!("completions/{file}"), &ran.stdout);
    }
}

#[test]
fn manual_pages_are_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&["man", dir.path().to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        pages
            .insert(entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap());
    }
    for entry in commands::ALL.iter().filter(|e| e.group != commands::Group::Hidden) {
        let page =
            pages.get(&format!("aj-{}.1", entry.name)).unwrap_or_else(|| panic!("aj-{}(1)", entry.name));
        assert!(page.contains(".SH EXAMPLES"), "aj-{}(1) has no examples", entry.name);
    }
    for old in std::fs::read_dir(common::root().join("man")).into_iter().flatten() {
        let old = old.unwrap();
        if !pages.contains_key(&old.file_name().into_string().unwrap()) {
            assert!(update(), "`man/{}` belongs to no command", old.file_name().display());
            std::fs::remove_file(old.path()).unwrap();
        }
    }
    for (name, page) in &pages {
        assert_file(&format!("man/{name}"), page);
    }
}

/// `(command path, line)` for each example in the help of a command and of those below it.
fn examples(path: &str, command: &mut clap::Command, found: &mut Vec<(String, String)>) {
    let help = command.render_long_help().to_string();
    let shown = help.split_once("\nExamples:\n").map(|(_, examples)| examples.lines()).into_iter().flatten();
    let lines = shown.map(str::trim).filter(|l| l.starts_with("aj ") || l.contains(" aj "));
    found.extend(lines.map(|line| (path.to_owned(), line.to_owned())));
    for below in command.get_subcommands_mut() {
        let path = format!("{path} {}", below.get_name());
        examples(&path, below, found);
    }
}

/// The words of the `aj …` in a shell line: up to a pipe, a redirection, `&&` or a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '>' | '#' | ';' | '&' | ')') => {
                // What came before belongs to another program (`x | aj …`) or is ours and complete.
                if words.first().is_some_and(|w| w == "aj") {
                    break;
                }
                (word, words) = (None, Vec::new());
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_has_examples_and_aj_accepts_them() {
    for entry in commands::ALL {
        let mut found = Vec::new();
        let mut command = commands::alone(entry);
        command.build();
        examples(entry.name, &mut command, &mut found);
        let minimum = if entry.group == commands::Group::Hidden { 1 } else { 2 };
        assert!(found.len() >= minimum, "`aj {}` has {} examples", entry.name, found.len());
        for (path, line) in found {
            let words = words(&line);
            assert_eq!(words.first().map(String::as_str), Some("aj"), "{line}");
            let parsed = commands::tree().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "`{line}` in the help of `aj {path}`: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn a_wrong_example_would_be_noticed() {
    let w = |line: &str| words(line).join("|");
    assert_eq!(w("aj version --json | jq -r .version"), "aj|version|--json");
    assert_eq!(w("cat x | aj exec -- sh -c 'a | b' > out # note"), "aj|exec|--|sh|-c|a | b");
    assert_eq!(w("aj x -e 'A=\"b\"' \"\""), "aj|x|-e|A=\"b\"|");
    assert!(commands::tree().try_get_matches_from(words("aj version --jsno")).is_err());
}

#[test]
fn commands_that_change_nothing_run_their_examples() {
    for name in ["version", "help"] {
        let entry = commands::find(OsStr::new(name)).unwrap();
        let mut found = Vec::new();
        examples(name, &mut commands::alone(entry), &mut found);
        for (_, line) in found {
            let words = words(&line);
            let ran = run(&words.iter().skip(1).map(String::as_str).collect::<Vec<_>>());
            assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
        }
    }
}

#[test]
fn every_page_of_the_readme_exists() {
    for (path, text) in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"]
        .map(|f| (f, std::fs::read_to_string(common::root().join(f)).unwrap_or_else(|e| panic!("{f}: {e}"))))
    {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                assert!(
                    common::root().join(file).exists(),
                    "{path} points to `{file}`, which does not exist"
                );
            }
        }
    }
}

/// The names in the last column of the attack table of SECURITY.md that are no function in `sources`.
fn unknown_tests(page: &str, sources: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|l| l.strip_prefix("| ")?.strip_suffix('|')?.rsplit_once('|'));
    let cells = rows.filter(|(row, _)| row.matches('|').count() == 1).map(|(_, cell)| cell);
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.filter(|name| !sources.contains(&format!("fn {name}("))).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = std::fs::read_to_string(common::root().join("SECURITY.md")).unwrap();
    let files = [common::files("src", "rs"), common::files("tests", "rs")].concat();
    let sources: String = files.into_iter().map(|(_, text)| text).collect();
    assert_eq!(unknown_tests(&page, &sources), [""; 0]);
    let table = "| attack | layer | test |\n|---|---|---|\n| x `y` | z | `a_test`, `gone` |\n";
    assert_eq!(unknown_tests(table, "fn a_test() {}"), ["gone"]);
}
