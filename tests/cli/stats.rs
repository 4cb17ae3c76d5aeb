//! `aj stats`: what ran, added up.

use serde_json::Value;

use crate::yard::{Yard, said};

fn json(yard: &Yard, words: &str) -> Value {
    let said = said(&mut yard.sh(&format!("\"$AJ\" stats --json {words}")));
    assert_eq!((said.fate, said.err.as_str()), (0, ""), "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn runs_are_counted_by_how_they_ended_and_what_they_used() {
    // The first yard of all has had a run in it.
    let (Some(_), Some(yard)) = (Yard::new(), Yard::new()) else { return };
    assert_eq!(json(&yard, "")["total"]["runs"], 0);
    let none = said(&mut yard.sh("\"$AJ\" stats"));
    assert_eq!((none.fate, none.out.as_str(), none.err.as_str()), (0, "", "aj: no jails to add up\n"));
    let missing = said(&mut yard.sh("\"$AJ\" stats @"));
    assert!(missing.fate == 3 && missing.err.contains("no jail `@`"), "{missing:?}");
    for (options, script, fate) in [
        (&["--preset", "build"][..], "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo x > x", 0),
        (&[], "exit 3", 3),
        (&["--timeout", "200ms", "--grace", "0s"], "sleep 60", 124),
        (&[], "kill -KILL $$", 137),
    ] {
        let said = said(&mut yard.exec(options.iter().copied(), ["sh", "-c", script]));
        assert_eq!(said.fate, fate, "{said:?}");
    }
    assert_eq!(said(&mut yard.aj(["/usr/bin/true"])).fate, 0);
    assert_eq!(said(&mut yard.aj(["/no/such\u{1b}[2J"])).fate, 127);
    let stats = json(&yard, "");
    let total = &stats["total"];
    for (key, n) in [
        ("runs", 6),
        ("running", 0),
        ("succeeded", 2),
        ("failed", 2),
        ("timed_out", 1),
        ("killed", 1),
        ("oom", 0),
    ] {
        assert_eq!(total[key], n, "{key}: {stats:#}");
    }
    assert!(total["user_ms"].as_u64().unwrap() > 0 && total["wall_ms"].as_u64().unwrap() >= 200, "{stats:#}");
    assert!(total["peak_memory"].as_u64().unwrap() > 100_000, "{stats:#}");
    assert!(stats["by"].is_null() && stats["groups"] == Value::Array(Vec::new()), "{stats:#}");
    assert!(stats["kept"]["jails"] == 1 && stats["kept"]["bytes"].as_u64().unwrap() > 0, "{stats:#}");

    let by = |what: &str| {
        let stats = json(&yard, &format!("--by {what}"));
        let groups = stats["groups"].as_array().unwrap().clone();
        groups
            .iter()
            .map(|g| (g["key"].as_str().map(str::to_owned), g["runs"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    let named = |key: &str, n| (Some(key.to_owned()), n);
    assert_eq!(by("kind"), [named("exec", 6)]);
    let programs = by("program");
    for group in [named("sh", 4), named("true", 1), named("such\\x1b[2J", 1)] {
        assert!(programs.contains(&group), "{programs:?}");
    }
    let presets = by("preset");
    assert!(presets.contains(&named("build", 1)) && presets.contains(&(None, 5)), "{presets:?}");
    assert_eq!(by("jail").len(), 6);
    assert!(by("day").iter().all(|(day, _)| day.as_ref().is_some_and(|d| d.len() == 10)));
    // Times and jails choose.
    assert_eq!(json(&yard, "--until 1h")["total"]["runs"], 0);
    assert_eq!(json(&yard, "--since 1h")["total"]["runs"], 6);
    assert_eq!(json(&yard, "@")["total"]["failed"], 1);
    let table = said(&mut yard.sh("\"$AJ\" stats --by program"));
    let last: Vec<&str> = table.out.lines().last().unwrap().split('\t').collect();
    assert_eq!((last[0], last[2], last[3], last[10]), ("6", "2", "2", "total"), "{table:?}");
    assert!(table.err.contains("changes of 1 kept") && !table.out.contains('\u{1b}'), "{table:?}");
}
