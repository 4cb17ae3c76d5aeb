//! `aj cp`, in and out, with directories and streams.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::{after, fails, fed, json};
use crate::real::project::{Project, has, os, snapshot};

/// The bytes of one file need a name; a directory has none for them.
#[test]
fn a_stream_into_a_directory_is_refused_by_the_name_that_was_given() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "w"]);
    p.runs(&["fs", "mkdir", "w", "dd/e", "-p"]);
    for (to, shown, file) in [
        ("w:.", ".", "w:./FILE"),
        ("w:", ".", "w:FILE"),
        ("w:/workspace", "/workspace", "w:/workspace/FILE"),
        ("w:dd", "dd", "w:dd/FILE"),
        ("w:dd/", "dd/", "w:dd/FILE"),
    ] {
        let ran = fed(&p, ["cp", "-", to], b"x");
        fails(&ran, 1, &format!("`{shown}` is a directory\n"));
        assert!(ran.stderr.contains(&format!("hint: name a file in it: `aj cp - {file}`\n")), "{ran:#?}");
        assert!(ran.stderr.contains(&format!("with `aj cp -r - {to}`\n")), "{ran:#?}");
    }
    p.write("e", "of the host");
    fails(&p.aj(["cp", "e", "w:dd"]), 1, "`dd/e` is a directory\n");
}

#[test]
fn a_directory_goes_in_and_comes_out_as_it_was() {
    let Some(p) = Project::in_jails() else { return };
    after(&p, "mkdir there; touch mark");
    let from = p.top().join("from");
    std::fs::create_dir_all(from.join("d/empty")).unwrap();
    std::fs::write(from.join("d/f"), "text").unwrap();
    std::fs::write(from.join(os(b"d/\xff\n\x1b")), "odd").unwrap();
    symlink("../none", from.join("d/l")).unwrap();
    let modes = |name: &str, mode| {
        std::fs::set_permissions(from.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    modes("d/f", 0o4751);
    modes("d/empty", 0o555);
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
    for name in ["d/f", "d/empty", "d"] {
        std::fs::File::open(from.join(name)).unwrap().set_modified(old).unwrap();
    }
    nix::unistd::mkfifo(&from.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let from_text = from.to_str().unwrap();
    let copied = p.aj(["cp", "-r", from_text, "@:there", "--json"]);
    assert_eq!(copied.code, Some(0), "{copied:#?}");
    let sum = json(&copied);
    assert_eq!(
        (&sum["files"], &sum["links"], &sum["skipped"][0]["path"]),
        (&2.into(), &1.into(), &"fifo".into())
    );
    let out = p.top().join("out");
    let again = p.aj(["cp", "-r", "@:there/from", out.to_str().unwrap()]);
    assert_eq!(again.code, Some(0), "{again:#?}");
    // `-rwsr-x--x` has lost its `s`, and nothing else is another.
    modes("d/f", 0o751);
    std::fs::remove_file(from.join("fifo")).unwrap();
    let facts = |dir| {
        let short = |line: String| {
            let words: Vec<&str> = line.split(' ').collect();
            // Bits, size, time of change, content; not the owner, nor the time of the inode.
            format!("{} {} {:?} {}", words[0], words[2], &words[6..8], words.last().unwrap())
        };
        let found = snapshot(dir).into_iter();
        found
            .filter(|(path, _)| path != dir && path.strip_prefix(dir).unwrap() != std::path::Path::new(""))
            .map(|(path, line)| (path.strip_prefix(dir).unwrap().to_owned(), short(line)))
            .collect::<Vec<_>>()
    };
    let dir_lines = |lines: Vec<(std::path::PathBuf, String)>| lines;
    assert_eq!(dir_lines(facts(&out)), dir_lines(facts(&from)));
    assert_eq!(std::fs::metadata(out.join("d/empty")).unwrap().mode() & 0o7777, 0o555);
    // And once more through a stream.
    if !has("tar") {
        return;
    }
    let script =
        r#"mkdir s t && "$AJ" cp -r @:there/from - | tar -C s -x && tar -C s -c from | "$AJ" cp -r - @:back"#;
    let ran = p
        .command("bash")
        .args(["-o", "pipefail", "-c", script])
        .env("AJ", crate::common::aj())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let list = |dir: &str| {
        let l = json(&p.runs(&["fs", "list", "@", dir, "-a", "-R", "--json"]));
        let keep = |e: &serde_json::Value| {
            let time = e["modified_at"].as_str().unwrap()[..19].to_owned();
            let time = if e["kind"] == "symlink" { String::new() } else { time };
            format!("{} {} {} {} {time}", e["path"], e["path_base64"], e["mode"], e["size"])
        };
        l["entries"].as_array().unwrap().iter().map(keep).collect::<Vec<_>>()
    };
    assert_eq!(list("back/from"), list("there/from"));
}

#[test]
fn single_files_go_where_cp_would_put_them() {
    let Some(p) = Project::in_jails() else { return };
    after(&p, "mkdir d; echo inside > d/f; chmod 700 d/f");
    let host = |name: &str| p.top().join(name).to_str().unwrap().to_owned();
    std::fs::write(host("h"), "host\n").unwrap();
    p.runs(&["cp", &host("h"), "@:d"]);
    p.runs(&["cp", &host("h"), "@:d/renamed", "--mode", "600"]);
    p.runs(&["cp", &host("h"), "@:made/on/the/way"]);
    assert_eq!(
        p.runs(&["fs", "list", "@", "-R"]).stdout,
        "d/\nd/f\nd/h\nd/renamed\nmade/\nmade/on/\nmade/on/the/\nmade/on/the/way\n"
    );
    assert_eq!(json(&p.runs(&["fs", "stat", "@", "d/renamed", "--json"]))["mode"], "0600");
    let kept = p.aj(["cp", &host("h"), "@:d/f", "--no-clobber"]);
    assert!(kept.code == Some(0) && kept.stderr.contains("left out d/f: exists"), "{kept:#?}");
    assert_eq!(p.runs(&["fs", "cat", "@", "d/f"]).stdout, "inside\n");
    p.runs(&["cp", "@:d/f", &host("o")]);
    p.runs(&["cp", "@:/workspace/d/f", &host("home")]);
    assert_eq!(std::fs::read_to_string(host("o")).unwrap(), "inside\n");
    assert_eq!(std::fs::metadata(host("o")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_to_string(host("home/f")).unwrap(), "inside\n");
    assert_eq!(p.runs(&["cp", "@:d/f", "-"]).stdout, "inside\n");
    assert_eq!(fed(&p, ["cp", "-", "@:d/f"], b"streamed").code, Some(0));
    assert_eq!(p.runs(&["fs", "cat", "@", "d/f"]).stdout, "streamed");
    fails(&p.aj(["cp", "@:d", &host("x")]), 1, "`d` is a directory");
    fails(&p.aj(["cp", &host("home"), "@:x"]), 2, "is a directory");
    fails(&p.aj(["cp", "@:none", &host("x")]), 3, "no `none`");
    fails(&p.aj(["cp", &host("none"), "@:x"]), 1, "could not read");
    fails(&p.aj(["cp", "a", "b"]), 2, "neither side is a workspace");
    fails(&p.aj(["cp", "@:a", "@:b"]), 2, "both sides are workspaces");
}

#[test]
fn patterns_leave_out_what_they_name() {
    let Some(p) = Project::in_jails() else { return };
    after(&p, "mkdir -p t/node_modules/x t/src; touch t/a.log t/src/b.log t/src/b.rs t/node_modules/x/y");
    let words = ["--exclude", "*.log", "--exclude", "node_modules/"];
    let out = p.top().join("out").to_str().unwrap().to_owned();
    p.runs(&[&["cp", "-r", "@:t", &out][..], &words].concat());
    let names = snapshot(&p.top().join("out")).into_keys();
    let names: Vec<_> = names.map(|n| n.strip_prefix(&out).unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["", "src", "src/b.rs"]);
    p.runs(&[&["cp", "-r", &format!("{out}/."), "@:in", "--exclude", "src"][..]].concat());
    assert_eq!(p.runs(&["fs", "list", "@", "in", "-R"]).stdout, "");
    fails(&p.aj(["cp", "x", "@:y", "--exclude", "z"]), 2, "--recursive");
}

/// One member of a tar stream, as whoever would write it.
fn member(name: &[u8], kind: u8, link: &[u8], body: &[u8], size: Option<u64>) -> Vec<u8> {
    let mut h = vec![0u8; 512];
    h[..name.len()].copy_from_slice(name);
    h[100..107].copy_from_slice(b"0006777");
    let size = format!("{:011o}", size.unwrap_or(body.len() as u64));
    h[124..135].copy_from_slice(size.as_bytes());
    h[136..147].copy_from_slice(b"00000000000");
    h[148..156].copy_from_slice(b"        ");
    h[156] = kind;
    h[157..157 + link.len()].copy_from_slice(link);
    h[257..263].copy_from_slice(b"ustar\0");
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    h.extend_from_slice(body);
    h.resize(h.len().next_multiple_of(512), 0);
    h
}

/// A member that says it is 2^64 - 1 bytes long, as GNU tar writes large numbers.
fn longest(kind: u8) -> Vec<u8> {
    let mut h = member(b"longest", kind, b"", b"", None);
    h[124..136].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    h[148..156].copy_from_slice(b"        ");
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    h
}

#[test]
fn a_hostile_stream_is_put_below_its_directory_or_refused() {
    let Some(p) = Project::in_jails() else { return };
    let outside = p.top().join("outside");
    std::fs::create_dir(&outside).unwrap();
    after(&p, &format!("mkdir in; ln -s {} in/planted; ln -s ../up in/rel", outside.display()));
    let target = outside.to_str().unwrap().as_bytes();
    let stream = [
        member(b"ok", b'0', b"", b"fine", None),
        member(b"../climbed", b'0', b"", b"x", None),
        member(b"/abs/file", b'0', b"", b"x", None),
        member(b"a/../../b", b'0', b"", b"x", None),
        member(b"link", b'2', target, b"", None),
        member(b"link/through", b'0', b"", b"x", None),
        member(b"planted/through", b'0', b"", b"x", None),
        member(b"planted", b'0', b"", b"replaced, not followed", None),
        member(b"rel/through", b'0', b"", b"x", None),
        member(b"hard", b'1', b"ok", b"", None),
        member(b"hard-out", b'1', b"../../../etc/passwd", b"", None),
        member(b"hard-link", b'1', b"link/secret", b"", None),
        member(b"fifo", b'6', b"", b"", None),
        member(b"dev", b'3', b"", b"", None),
        member(b"sparse", b'S', b"", b"", None),
        member(b"last", b'0', b"", b"still here", None),
        vec![0; 1024],
    ]
    .concat();
    let ran = fed(&p, ["cp", "-r", "-", "@:in", "--json"], &stream);
    assert_eq!(ran.code, Some(6), "{ran:#?}");
    let sum = json(&ran);
    let failed: Vec<_> =
        sum["failed"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    let bad = [
        "../climbed",
        "a/../../b",
        "link/through",
        "planted/through",
        "rel/through",
        "hard-out",
        "hard-link",
        "sparse",
    ];
    assert_eq!(failed, bad, "{sum:#}");
    let list = p.runs(&["fs", "list", "@", "-R"]).stdout;
    let expected = format!(
        "in/\nin/abs/\nin/abs/file\nin/hard\nin/last\nin/link -> {}\nin/ok\nin/planted\nin/rel -> ../up\n",
        outside.display()
    );
    assert_eq!(list, expected);
    assert_eq!(json(&p.runs(&["fs", "stat", "@", "in/ok", "--json"]))["mode"], "0777", "no setuid");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    // A name that nobody could open takes no time, and the rest is there.
    let name = [&b"d/".repeat(100_000)[..], b"f"].concat();
    let stream = [
        member(b"././@LongLink", b'L', b"", &name, None),
        member(b"cut", b'0', b"", b"x", None),
        member(b"after", b'0', b"", b"x", None),
        vec![0; 1024],
    ]
    .concat();
    let ran = fed(&p, ["cp", "-r", "-", "@:in", "--json"], &stream);
    let failed = &json(&ran)["failed"];
    assert_eq!((ran.code, failed[0]["path"].as_str().map(str::len)), (Some(6), Some(4095)), "{ran:#?}");
    assert_eq!(failed[0]["reason"], "its name is longer than a path can be");
    assert_eq!(p.aj(["fs", "test", "@", "in/after"]).code, Some(0));
    assert_eq!(p.aj(["fs", "test", "@", "in/d"]).code, Some(1));
    // Cut off, or lying about its length: an error, and no half of a file.
    for (stream, said) in [
        (member(b"big", b'0', b"", b"only this", Some(1 << 32)), "end of file"),
        (member(b"huge", b'L', b"", b"", Some(1 << 32)), "longer than 1 MiB"),
        (b"this is no tar stream, whatever its name says".repeat(20), "no tar stream"),
        (longest(b'0'), "longer than a file can be"),
        (longest(b'5'), "longer than a file can be"),
        (longest(b'6'), "longer than a file can be"),
        (
            [
                member(b"x", b'x', b"", b"29 size=18446744073709551615\n", None),
                member(b"d/", b'5', b"", b"", None),
            ]
            .concat(),
            "longer than a file can be",
        ),
    ] {
        let ran = fed(&p, ["cp", "-r", "-", "@:in"], &stream);
        fails(&ran, 1, "could not read");
        assert!(ran.stderr.contains(said), "{said}: {ran:#?}");
    }
    assert_eq!(p.aj(["fs", "test", "@", "in/big"]).code, Some(1));
}
