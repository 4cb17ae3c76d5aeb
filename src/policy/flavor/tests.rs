use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const HOME: &str = "/home/me";

fn read(text: &str) -> Flavor {
    parse("x", "x.toml", text.as_bytes()).unwrap_or_else(|e| panic!("{e}")).0
}

fn builtin(name: &str) -> Flavor {
    built_in().find(|f| f.name == name).unwrap()
}

/// `reached` by these entries of PATH and variables: by what, and what `@` stands for.
fn by(flavor: &Flavor, entries: &[&str], variables: &[(&str, &str)]) -> Option<(String, Vec<String>)> {
    let variables: Vec<(String, PathBuf)> =
        variables.iter().map(|(n, v)| ((*n).to_owned(), PathBuf::from(v))).collect();
    let caller = Caller { home: Some(Path::new(HOME)), variables: &variables };
    let entries: Vec<PathBuf> = entries.iter().map(PathBuf::from).collect();
    let found = reached(flavor, &entries, &caller)?;
    Some((found.by, found.at.iter().map(|p| p.to_str().unwrap().to_owned()).collect()))
}

fn at(by: &str, at: &[&str]) -> Option<(String, Vec<String>)> {
    Some((by.to_owned(), at.iter().map(|s| (*s).to_owned()).collect()))
}

#[test]
fn an_entry_at_or_below_a_place_reaches_and_a_name_that_only_begins_like_it_does_not() {
    let nvm = builtin("nvm");
    let entry = "/home/me/.nvm/versions/node/v20/bin";
    assert_eq!(by(&nvm, &["/usr/bin", entry], &[]), at(entry, &["/home/me/.nvm"]));
    assert_eq!(by(&nvm, &["/home/me/.nvm"], &[]), at("/home/me/.nvm", &["/home/me/.nvm"]));
    for other in ["/home/me/.nvm2/bin", "/home/me", "/", "/home/you/.nvm/bin", "/home/me/x/.nvm"] {
        assert_eq!(by(&nvm, &[other], &[]), None, "{other}");
    }
    // A variable moves the place, and reaches it by itself.
    assert_eq!(by(&nvm, &[], &[("NVM_DIR", "/data/nvm")]), at("NVM_DIR", &["/data/nvm"]));
    assert_eq!(by(&nvm, &[entry], &[("GOROOT", "/data")]), at(entry, &["/home/me/.nvm"]));
    assert_eq!(by(&nvm, &[entry], &[("NVM_DIR", "/data/nvm")]), at("NVM_DIR", &["/data/nvm"]));
}

#[test]
fn a_star_stands_for_one_name_and_is_part_of_what_was_reached() {
    let opt = builtin("opt");
    assert_eq!(
        by(&opt, &["/opt/go/bin", "/opt/go/pkg", "/opt/x"], &[]),
        at("/opt/go/bin", &["/opt/go", "/opt/x"])
    );
    assert_eq!(by(&opt, &["/opt"], &[]), None);
    assert_eq!(by(&opt, &["/opt/.hidden/bin"], &[]), None);
    let go = builtin("go");
    assert_eq!(
        by(&go, &["/home/me/sdk/go1.22.0/bin", "/home/me/sdk/android/bin"], &[]),
        at("/home/me/sdk/go1.22.0/bin", &["/home/me/sdk/go1.22.0"])
    );
    assert_eq!(by(&builtin("java"), &[], &[("JAVA_HOME", "/jdk/21")]), at("JAVA_HOME", &["/jdk/21"]));
}

#[test]
fn only_plain_paths_are_places() {
    for (value, want) in [
        ("/home/me/.nvm/", Some("/home/me/.nvm")),
        ("//opt///x/./y", Some("/opt/x/y")),
        ("/", Some("/")),
        ("", None),
        ("relative", None),
        ("~/x", None),
        ("/a:/b", None),
        ("/a/../b", None),
        ("/a/..", None),
    ] {
        assert_eq!(plain(OsStr::new(value)).as_deref(), want.map(Path::new), "{value}");
    }
}

#[test]
fn mistakes_of_a_file_name_the_line_and_what_would_do_harm_is_refused() {
    for (text, want) in [
        ("path = [\n\"x\"]", "x.toml:2: `path`: `x` starts with neither"),
        ("path = [\"$X/bin\"]", "x.toml:1: `path`: `$X/bin` starts with neither"),
        ("path = [\"@\"]", "starts with neither"),
        ("show = [\"/\"]", "starts with neither"),
        ("show = [\"~\"]", "is the whole home directory"),
        ("show = [\"~/\"]", "is the whole home directory"),
        ("show = [\"~/a/../..\"]", "holds `.`, `..`"),
        ("show = [\"@/../x\"]", "holds `.`, `..`"),
        ("show = [\"~/a//b\"]", "holds an empty component"),
        ("show = [\"~/*\"]", "may not hold a `*` here"),
        ("path = [\"~/a*b*\"]", "more than one `*`"),
        ("home = [\"/etc/passwd\"]", "is not below `~/`"),
        ("show = [\"~/a\\u001b\"]", "control character"),
        ("show = \"~/a\"", "`show` must be an array of strings"),
        ("[set]\nLD_PRELOAD = \"~/x.so\"", "x.toml:2: `set LD_PRELOAD`: `LD_PRELOAD` is not a name"),
        ("copy = [\"PATH\"]", "is not a name"),
        ("copy = [\"A B\"]", "is not a name"),
        ("[where]\nX = \"relative\"", "x.toml:2: `where X`: `relative` starts with neither"),
        ("[where]\nX = \"$Y/z\"\nY = \"~/y\"", "x.toml:2: `where X`: `$Y/z` starts with neither"),
    ] {
        let e = parse("x", "x.toml", text.as_bytes()).unwrap_err().to_string();
        assert!(e.contains(want), "{text}\n{e}");
    }
    let (flavor, warnings) = parse("x", "x.toml", b"shwo = []\npath = [\"$X\"]\n[where]\nX = \"\"").unwrap();
    assert_eq!(warnings, ["x.toml:1: unknown section `shwo` is ignored; did you mean `show`?"]);
    assert_eq!(flavor.path.iter().collect::<Vec<_>>(), ["$X"]);
}

#[test]
fn no_built_in_place_is_holds_or_lies_in_a_known_secret() {
    let home = Path::new(HOME);
    let caller = Caller { home: Some(home), variables: &[] };
    for flavor in built_in() {
        let reached: Vec<PathBuf> =
            flavor.path.iter().filter_map(|p| expand(&flavor, p, &caller, None)).collect();
        for item in flavor.show.iter() {
            let places: Vec<PathBuf> = match item.strip_prefix('@') {
                Some(_) => reached.iter().filter_map(|at| expand(&flavor, item, &caller, Some(at))).collect(),
                None => expand(&flavor, item, &caller, None).into_iter().collect(),
            };
            for place in places {
                assert_eq!(refusal(&place, Some(home)), None, "{}: {place:?}", flavor.name);
            }
        }
    }
}

#[test]
fn what_no_tool_chain_may_show() {
    let refused = |path: &str| refusal(Path::new(path), Some(Path::new(HOME)));
    for path in ["/", "/home", HOME] {
        assert_eq!(refused(path), Some(Refusal::Home), "{path}");
    }
    for (path, secret) in [
        ("/home/me/.ssh", ".ssh"),
        ("/home/me/.ssh/keys/bin", ".ssh"),
        ("/home/me/.cargo", ".cargo/credentials"),
        ("/home/me/.m2", ".m2/settings.xml"),
        ("/home/me/.config", ".config/pip"),
        ("/home/me/.config/pip", ".config/pip"),
        ("/home/me/.local", ".local/share/gem/credentials"),
        ("/home/me/.local/share/uv", ".local/share/uv/credentials"),
        ("/home/you/.aws/bin", ".aws"),
        ("/root/.ssh/bin", ".ssh"),
    ] {
        assert_eq!(refused(path), Some(Refusal::Secret(secret)), "{path}");
    }
    for path in ["/etc/x/y", "/proc/self/root", "/run/user/1000", "/data", "/home/you", "/root/bin"] {
        assert_eq!(refused(path), Some(Refusal::Machine), "{path}");
    }
    for path in
        ["/home/me/.cargo/bin", "/opt/go", "/data/rust", "/home/you/.nvm/versions", "/home/me/.config/nvm"]
    {
        assert_eq!(refused(path), None, "{path}");
    }
}

#[test]
fn a_users_file_takes_the_place_of_a_built_in_one() {
    let own = Flavor { name: "nvm".into(), ..read("path = [\"~/n\"]") };
    let own = [own.clone(), Flavor { name: "acme".into(), ..own }];
    let all: Vec<Flavor> = catalogue(&own).collect();
    assert_eq!(all.len(), built_in().count() + 1);
    let nvm: Vec<&Flavor> = all.iter().filter(|f| f.name == "nvm").collect();
    assert_eq!(nvm.len(), 1);
    assert_eq!(nvm[0].path.iter().collect::<Vec<_>>(), ["~/n"]);
    assert_eq!(meant("amce", &own).as_deref(), Some("acme"));
}

fn cache(name: &str) -> Cache {
    caches().find(|c| c.name == name).unwrap()
}

/// What an item of a cache means with these variables.
fn means(cache: &Cache, item: &str, variables: &[(&str, &str)]) -> Option<String> {
    let variables: Vec<(String, PathBuf)> =
        variables.iter().map(|(n, v)| ((*n).to_owned(), PathBuf::from(v))).collect();
    let caller = Caller { home: Some(Path::new(HOME)), variables: &variables };
    cache.expand(item, &caller).map(|path| path.to_str().unwrap().to_owned())
}

#[test]
fn a_cache_is_where_the_first_variable_that_is_set_says() {
    let go = cache("go");
    let modules = |variables: &[(&str, &str)]| means(&go, "$GOMODCACHE", variables).unwrap();
    assert_eq!(modules(&[]), "/home/me/go/pkg/mod");
    assert_eq!(modules(&[("GOPATH", "/g")]), "/g/pkg/mod");
    assert_eq!(modules(&[("GOPATH", "/g"), ("GOMODCACHE", "/m")]), "/m");
    assert_eq!(means(&go, "$GOCACHE", &[("XDG_CACHE_HOME", "/x")]).unwrap(), "/x/go-build");
    let npm = cache("npm");
    assert_eq!(
        means(&npm, "$npm_config_cache/_cacache", &[("NPM_CONFIG_CACHE", "/n")]).unwrap(),
        "/n/_cacache"
    );
    let maven = cache("maven");
    assert_eq!(means(&maven, "$MAVEN_OPTS", &[]).unwrap(), "/home/me/.m2/repository");
    assert_eq!(means(&maven, "$MAVEN_OPTS", &[("MAVEN_OPTS -Dmaven.repo.local", "/r")]).unwrap(), "/r");
    assert_eq!(option_in("-Xmx1g -Da=/x  -Da=/y -Dab=/z", "-Da"), Some("/y"));
    assert_eq!(option_in("-Dab=/z -Da", "-Da"), None);
    assert_eq!(means(&go, "$HOME/x", &[]), None, "not of its variables");
}

#[test]
fn no_built_in_cache_is_holds_or_lies_in_a_known_secret() {
    let home = Path::new(HOME);
    let mut places = 0;
    for cache in caches() {
        for item in cache.show.iter() {
            let place = means(&cache, item, &[]).unwrap_or_else(|| panic!("{}: {item}", cache.name));
            assert_eq!(refusal(Path::new(&place), Some(home)), None, "{}: {place}", cache.name);
            places += 1;
        }
        let caller = Caller { home: Some(home), variables: &[] };
        for item in
            cache.hide.iter().chain(cache.tokens.iter()).chain(cache.home.iter().map(|(_, item)| item))
        {
            assert!(cache.expand(item, &caller).is_some(), "{}: {item}", cache.name);
        }
    }
    assert!(places > 15, "{places}");
}

#[test]
fn urls_with_passwords_are_told_from_those_without() {
    for text in ["url = https://me:secret@x.org/y", "{\"dl\":\"http://token@x\"}", "a://b c://d@e"] {
        assert!(has_credentials(text.as_bytes()), "{text}");
    }
    for text in ["https://x.org/a@b", "me@x.org:y", "https://x.org/?a=b@c", "://", "git@x:y https://z", ""] {
        assert!(!has_credentials(text.as_bytes()), "{text}");
    }
}

#[test]
fn mistakes_of_a_cache_name_the_line_and_what_would_do_harm_is_refused() {
    for (text, want) in [
        ("show = [\"~\"]", "x.toml:2: `cache show`: `~` is the whole home directory"),
        ("show = [\"/\"]", "starts with neither"),
        ("show = [\"@\"]", "starts with neither"),
        ("show = [\"$X\"]", "starts with neither"),
        ("show = [\"~/*\"]", "may not hold a `*` here"),
        ("show = [\"~/a/../..\"]", "holds `.`, `..`"),
        ("for = [\"a/b\"]", "is not the name of a program"),
        ("for = [\"..\"]", "is not the name of a program"),
        ("set = { LD_PRELOAD = \"=x\" }", "is not a name"),
        ("set = { X = \"=a\\u001b\" }", "control character"),
        ("copy = [\"PATH\"]", "is not a name"),
        ("home = { \"/etc\" = \"~/x\" }", "is not below `~/`"),
        ("home = { \"~/*\" = \"~/x\" }", "may not hold a `*` here"),
        ("where = { \"X a=b\" = \"~/x\" }", "is not a name"),
        ("where = { X = \"relative\" }", "starts with neither"),
        ("about = 3", "must be a string"),
    ] {
        let e = parse("x", "x.toml", format!("[cache]\n{text}").as_bytes()).unwrap_err().to_string();
        assert!(e.contains(want), "{text}\n{e}");
    }
    let (flavor, warnings) =
        parse("x", "x.toml", b"[cache]\nshwo = []\nshow = [\"$X/y\"]\nwhere = { X = \"$X\" }").unwrap();
    assert_eq!(warnings, ["x.toml:2: unknown key `shwo` in [cache] is ignored; did you mean `show`?"]);
    assert_eq!(means(&flavor.cache.unwrap(), "$X/y", &[]), None, "a variable that leads to itself");
}

proptest! {
    #[test]
    fn matching_agrees_with_the_components_of_paths(
        pattern in "(/[ab*]{1,2}){1,3}", entry in "(/[ab.]{1,3}){1,4}",
    ) {
        let found = lead(pattern.as_bytes(), entry.as_bytes()).map(|l| Path::new(OsStr::from_bytes(l)).to_owned());
        let (wanted, parts): (Vec<&str>, Vec<&str>) = (pattern[1..].split('/').collect(), entry[1..].split('/').collect());
        let fits = wanted.len() <= parts.len()
            && wanted.iter().zip(&parts).all(|(w, p)| matches(w.as_bytes(), p.as_bytes()));
        prop_assert_eq!(found.is_some(), fits);
        if let Some(found) = found {
            prop_assert_eq!(found.components().count(), wanted.len() + 1);
            prop_assert!(Path::new(&entry).starts_with(&found));
        }
    }

    #[test]
    fn no_file_makes_the_parser_panic(text in "\\PC{0,60}", key in "path|show|hide|home|copy|set|where|about") {
        drop(parse("x", "x.toml", format!("{key} = [\"{text}\"]\n[where]\nX = \"{text}\"").as_bytes()));
        drop(parse("x", "x.toml", text.as_bytes()));
        drop(parse("x", "x.toml", format!("[cache]\n{key} = [\"{text}\"]\nwhere = {{ X = \"{text}\" }}").as_bytes()));
    }
}
