use proptest::prelude::*;

use super::*;
use crate::policy::settings::{Access, Net, Seccomp, Tools};

fn user(text: &str) -> Result<UserFile, FileError> {
    parse_user("config.toml", text.as_bytes(), Some(Path::new("/home/me")))
}

fn project(text: &str) -> Result<ProjectFile, FileError> {
    parse_project("aj.toml", text.as_bytes())
}

#[test]
fn every_key_is_read_with_its_line() {
    let file = user(
        r#"[defaults]
preset = "agent"
workspace = "ro"
net = "host"
seccomp = "strict"
nested_userns = true
as_root = true
tools = ["nvm", "go", "nvm"]
caches = "cargo, npm"
timeout = "1h30m"
grace = 5
mem = "2G"
cpus = 0.5
pids = 0x40
nofile = "none"
tmp = 1_048_576
best_effort = true
durable = true
ro = ["/opt/a",
      "~/b"]
rw = ["/var/cache/x"]
pass = ["SSH_AUTH_SOCK"]
[env]
PORT = 8080
CI = true
A = "x=y"
[limits.max]
timeout = "2h"
mem = "16G"
cpus = "400%"
pids = "none"
nofile = 1024
tmp = "1G"
[presets.big]
mem = "32G"
env = { B = "1" }
"#,
    )
    .unwrap();
    assert_eq!(file.warnings, Vec::<String>::new());
    let d = &file.defaults;
    let at = |value, line| Some(At { value, line });
    assert_eq!(d.preset, Some(At { value: "agent".to_owned(), line: 2 }));
    assert_eq!(d.access, Some(At { value: Access::Ro, line: 3 }));
    assert_eq!(d.net, Some(At { value: Net::Host, line: 4 }));
    assert_eq!(d.seccomp, Some(At { value: Seccomp::Strict, line: 5 }));
    assert_eq!(d.nested_userns, Some(At { value: true, line: 6 }));
    assert_eq!(d.as_root, Some(At { value: true, line: 7 }));
    assert_eq!(d.tools, Some(At { value: Tools::Only(vec!["nvm".into(), "go".into()]), line: 8 }));
    assert_eq!(d.caches, Some(At { value: Tools::Only(vec!["cargo".into(), "npm".into()]), line: 9 }));
    assert_eq!(d.timeout, Some(At { value: Some(Duration::from_secs(5400)), line: 10 }));
    assert_eq!(d.grace, Some(At { value: Duration::from_secs(5), line: 11 }));
    assert_eq!(d.mem, at(Some(2 << 30), 12));
    assert_eq!(d.cpu_millis, at(Some(500), 13));
    assert_eq!(d.pids, at(Some(64), 14));
    assert_eq!(d.nofile, at(None, 15));
    assert_eq!(d.tmp, Some(At { value: 1 << 20, line: 16 }));
    assert_eq!(d.best_effort, Some(At { value: true, line: 17 }));
    assert_eq!(d.durable, Some(At { value: true, line: 18 }));
    assert_eq!(
        d.ro,
        [At { value: "/opt/a".into(), line: 19 }, At { value: Path::new("/home/me/b").to_owned(), line: 20 }]
    );
    assert_eq!(d.rw, [At { value: Path::new("/var/cache/x").to_owned(), line: 21 }]);
    assert_eq!(d.pass, [At { value: "SSH_AUTH_SOCK".into(), line: 22 }]);
    let mut env: Vec<(&str, &str, u32)> =
        d.env.iter().map(|e| (e.value.0.to_str().unwrap(), e.value.1.to_str().unwrap(), e.line)).collect();
    env.sort_unstable();
    assert_eq!(env, [("A", "x=y", 26), ("CI", "true", 25), ("PORT", "8080", 24)]);
    assert_eq!(file.max.timeout, Some(At { value: Duration::from_secs(7200), line: 28 }));
    assert_eq!(file.max.mem, Some(At { value: 16 << 30, line: 29 }));
    assert_eq!(file.max.cpu_millis, Some(At { value: 4000, line: 30 }));
    assert_eq!(file.max.pids, None);
    assert_eq!(file.max.nofile, Some(At { value: 1024, line: 32 }));
    assert_eq!(file.max.tmp, Some(At { value: 1 << 30, line: 33 }));
    let big = &file.presets["big"];
    assert_eq!(big.mem, at(Some(32 << 30), 35));
    assert_eq!(big.env.len(), 1);
}

#[test]
fn mistakes_name_file_line_and_key() {
    for (text, want) in [
        (
            "[defaults]\n\nmem = true",
            "config.toml:3: `[defaults] mem` must be a size like \"2G\", not a boolean",
        ),
        (
            "[defaults]\nmem = \"2Q\"",
            "config.toml:2: `[defaults] mem`: `2Q` is not a size; write it like `512M`, `2G` or `1500MB`",
        ),
        (
            "[defaults]\ntimeout = 0",
            "config.toml:2: `[defaults] timeout`: a time limit must be more than zero; write `none` for no limit",
        ),
        (
            "[defaults]\npids = -1",
            "config.toml:2: `[defaults] pids`: `-1` is negative; the value must be positive",
        ),
        (
            "[defaults]\ncpus = inf",
            "config.toml:2: `[defaults] cpus`: `inf` is not a number of processors; write it like `2`, `0.5` or `150%`",
        ),
        (
            "[defaults]\nnet = \"allow:x.org\"",
            "config.toml:2: `[defaults] net`: `allow:x.org` comes with a later version of aj; today `--net` is `none`, `loopback` or `host`",
        ),
        ("defaults = 1", "config.toml:1: `[defaults]` must be a table, not an integer"),
        (
            "[defaults]\nro = \"/x\"",
            "config.toml:2: `[defaults] ro` must be an array of strings, not a string",
        ),
        (
            "[defaults]\nro = [\n\"/x\",\n1]",
            "config.toml:4: `[defaults] ro` must be an array of strings, not an integer",
        ),
        (
            "[defaults]\nro = [\"x\"]",
            "config.toml:2: `[defaults] ro`: `x` is not an absolute path; write it from `/` or `~/`",
        ),
        (
            "[defaults]\nbest_effort = \"yes\"",
            "config.toml:2: `[defaults] best_effort` must be `true` or `false`, not a string",
        ),
        ("[env]\nA = 1.5", "config.toml:2: `[env] A` must be a string, not a float"),
        (
            "[env]\n\"A=B\" = \"\"",
            "config.toml:2: `[env] A=B`: `A=B` is not a name of an environment variable",
        ),
        ("[env]\nA = \"\\u0000\"", "config.toml:2: `[env] A` must be a string without NUL, not a string"),
        (
            "[limits.max]\nmem = []",
            "config.toml:2: `[limits.max] mem` must be a size like \"2G\", not an array",
        ),
        (
            "[presets.\"a b\"]\n",
            "config.toml:1: `a b` cannot name a preset; use letters, digits, `-` and `_`",
        ),
        (
            "[presets.x]\nmem = 1979-05-27",
            "config.toml:2: `[presets.x] mem` must be a size like \"2G\", not a date",
        ),
    ] {
        assert_eq!(user(text).unwrap_err().to_string(), want, "{text}");
    }
    for (text, line) in [("[defaults]\n\n\nmem = ", 4), ("a = 1\na = 2", 2), ("[jail", 1), ("\n\nx", 3)] {
        let e = user(text).unwrap_err();
        assert!(matches!(e.problem, Problem::Syntax(_)), "{e}");
        assert_eq!(e.line, line, "{text:?}: {e}");
    }
}

#[test]
fn unknown_names_warn_with_the_nearest_known_one() {
    let file = user(
        "[defaluts]\n[defaults]\ntiemout = 1\nmemory = 1\n[limits]\nmin = {}\n[presets.x]\npreset = \"y\"\n",
    )
    .unwrap();
    let mut warnings = file.warnings;
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "config.toml:1: unknown section `defaluts` is ignored; did you mean `defaults`?",
            "config.toml:3: unknown key `tiemout` in [defaults] is ignored; did you mean `timeout`?",
            "config.toml:4: unknown key `memory` in [defaults] is ignored; did you mean `mem`?",
            "config.toml:6: unknown key `min` in [limits] is ignored",
            "config.toml:8: unknown key `preset` in [presets.x] is ignored",
        ]
    );
    let file = project("[jail]\nbest-effort = true\n[limits.max]\nmemo = 1\n").unwrap();
    assert_eq!(
        file.warnings,
        [
            "aj.toml:2: unknown key `best-effort` in [jail] is ignored; did you mean `best_effort`?",
            "aj.toml:3: unknown section `limits` is ignored"
        ]
    );
}

#[test]
fn a_setting_that_may_narrow_is_an_error_where_nothing_reads_it() {
    let of_project = |text: &str| project(text).unwrap_err().to_string();
    for (text, want) in [
        ("hide = [\"x\"]\n[jail]\nmem = 1", "aj.toml:1: `hide` above every table"),
        ("[jail]\n[defaults]\nhide = []", "aj.toml:3: `hide` in [defaults]"),
        ("[limits.max]\nmem = 1", "aj.toml:2: `mem` in [limits.max]"),
        ("[jail.more]\nrequire = [\"full\"]", "aj.toml:2: `require` in [jail.more]"),
        ("preset = \"agent\"", "aj.toml:1: `preset` above every table"),
    ] {
        let want = format!("{want} would have no effect; it belongs below a line `[jail]`");
        assert_eq!(of_project(text), want, "{text}");
    }
    for (text, want, right) in [
        ("mode = \"full\"", "1: `mode` above every table", "[defaults]"),
        ("[jail]\nhide = []", "2: `hide` in [jail]", "[defaults]"),
        ("[keep]\ntrees = 1\nhide = []", "3: `hide` in [keep]", "[defaults]"),
        ("[limits]\nmem = 1", "2: `mem` in [limits]", "[limits.max]"),
        ("[limits.max]\nnet = \"none\"", "2: `net` in [limits.max]", "[defaults]"),
    ] {
        let want = format!("config.toml:{want} would have no effect; it belongs below a line `{right}`");
        assert_eq!(user(text).unwrap_err().to_string(), want, "{text}");
    }
    // What can only widen is not there, which harms nobody; a variable may have any name.
    let file = user("show = [\"x\"]\n[env]\nmem = 1\n[other]\nthing = 1\n").unwrap();
    assert_eq!(
        file.warnings,
        [
            "config.toml:4: unknown section `other` is ignored",
            "config.toml:1: `show` above every table would have no effect; it belongs below a line `[defaults]`"
        ]
    );
}

#[test]
fn a_hostile_file_makes_few_short_printable_complaints() {
    let many: String = (0..50_000).map(|i| format!("\"\\u001b]0;{i}\" = 1\n")).collect();
    let warnings = project(&format!("[jail]\n{many}")).unwrap().warnings;
    assert_eq!(warnings.len(), 9);
    assert_eq!(warnings[8], "aj.toml: 49992 more like these");
    let long = project(&format!("[jail]\n{} = 1", "k".repeat(1 << 19))).unwrap().warnings;
    for text in warnings.iter().chain(&long) {
        assert!(text.len() < 200 && !text.contains('\x1b'), "{text}");
    }
    for text in [
        format!("[jail]\nnet = \"{}\"", "\\u001b".repeat(10_000)),
        format!("[jail]\nmem = \"{}\"", "9".repeat(100_000)),
        format!("[jail]\ntimeout = \"{}\"", "9s".repeat(100_000)),
        format!("[jail]\npids = {}", "9".repeat(100_000)),
        format!("[jail]\nenv = {{ \"{}=\" = 1 }}", "x".repeat(100_000)),
        "[jail]\n\x1b]0;title\x07 = 1".to_owned(),
    ] {
        let e = project(&text).unwrap_err().to_string();
        assert!(e.len() < 300 && !e.contains('\x1b'), "{e}");
    }
}

#[test]
fn depth_size_and_encoding_are_bounded() {
    for deep in [
        format!("[jail]\nx = {}", "[".repeat(500_000)),
        format!("[jail]\n{}a = 1", "a.".repeat(500_000)),
        format!("[{}a]", "a.".repeat(500_000)),
        format!("[jail]\nx = {}1{}", "[".repeat(400_000), "]".repeat(400_000)),
    ] {
        let e = project(&deep).unwrap_err();
        assert!(matches!(e.problem, Problem::Syntax(_)) && e.to_string().len() < 300, "{e}");
    }
    // Depth by dotted keys times depth by inline tables: the deepest tree that is still read is
    // dropped on the small stack of a test thread, a deeper one (which is not) is refused.
    let deep = |n: usize| {
        let open = format!("{}x = {{", "a.".repeat(78)).repeat(n);
        project(&format!("[jail]\n{open}{}", "}".repeat(n))).map_err(|e| (e.line, e.problem))
    };
    assert!(deep(MOST_BRACES).is_ok());
    assert_eq!(deep(MOST_BRACES + 1).unwrap_err(), (2, Problem::Braces));
    assert_eq!(deep(6_000).unwrap_err(), (2, Problem::Braces));
    let e = project(&" ".repeat(LARGEST + 1)).unwrap_err();
    assert_eq!(e.problem, Problem::TooLarge);
    assert!(project(&" ".repeat(LARGEST)).is_ok());
    let e = parse_project("aj.toml", b"[jail]\nmem = \"\xff\"").unwrap_err();
    assert_eq!((e.line, e.problem), (2, Problem::NotUtf8(14)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        drop(parse_project("p", &bytes));
        drop(parse_user("u", &bytes, None));
    }

    #[test]
    fn any_toml_like_text_is_read_or_refused(text in "(\\[(jail|defaults|env|limits\\.max|presets\\.[a-z]?)\\]\n|(mem|net|ro|env|timeout|x) = (\"[ -~]{0,8}\"|[0-9]{1,3}|true|\\[\"/\"\\]|\\{A=1\\})\n){0,12}") {
        drop(project(&text));
        drop(user(&text));
    }
}
