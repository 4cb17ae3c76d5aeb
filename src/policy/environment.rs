//! The environment of the command: an allow-list, never the caller's own.
//!
//! A shell's environment holds what the jail must not have: agent sockets, bus addresses, tokens,
//! cloud keys, loader hooks. Names that look harmless are added here one by one; everything else
//! comes in only when the user passes it by name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::settings::Settings;

/// Copied from the caller: language, terminal, time zone, and whether to use colour.
const COPIED: [&str; 12] = [
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "TZ",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
    "CI",
    "COLUMNS",
    "LINES",
];

/// Copied when what they name can be seen inside: whom programs trust in TLS. Behind a proxy that opens
/// connections, nothing can be fetched without them, and each tool chain has one of its own.
const CERTIFICATES: [&str; 11] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];
/// Directories of `/etc` whose public certificates every jail has.
const CERTIFICATE_PLACES: [&str; 5] = [
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
];

/// Where programs are when nothing of the caller's PATH is visible.
pub const FALLBACK_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What the jail itself decides about the environment.
pub struct Inside<'a> {
    /// User name: `agent`, or `root` with `--as-root`.
    pub user: &'a str,
    /// Home directory: `/home/agent`.
    pub home: &'a Path,
    /// Login shell that exists inside: `/bin/bash` or `/bin/sh`.
    pub shell: &'a Path,
    /// Directory the command starts in.
    pub cwd: &'a Path,
    /// Id of the jail: the value of `AGENTJAIL`, by which a program can tell that it is jailed.
    pub id: &'a str,
    /// Variables of the tool chains that are shown.
    pub tools: &'a [(OsString, OsString)],
    /// Directories that come first in PATH (tools added for the jail), all visible.
    pub path_first: &'a [&'a Path],
    /// Whether a directory of the caller's PATH can be seen from inside at the same place.
    pub visible: &'a dyn Fn(&Path) -> bool,
}

impl std::fmt::Debug for Inside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("user", &self.user).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// The variables of the command, each name once, ready for `NAME=value`.
///
/// Order of precedence, weakest first: fixed values, the allow-list, `tools`, `pass`, `env`. `caller` is the
/// environment of `aj`. No value holds a NUL byte if none of the inputs does.
pub fn build<'c>(
    settings: &Settings,
    caller: impl IntoIterator<Item = (&'c OsStr, &'c OsStr)>,
    inside: &Inside<'_>,
) -> Vec<(OsString, OsString)> {
    let mut out: Vec<(OsString, OsString)> = Vec::with_capacity(24);
    let mut path = None;
    let mut passed = Vec::new();
    for (name, value) in caller {
        if name == "PATH" {
            path = Some(reduced_path(value, inside));
        } else if is_copied(name) || is_certificate(name, value, inside) {
            out.push((name.to_owned(), value.to_owned()));
        }
        if settings.pass.iter().any(|wanted| wanted == name) {
            passed.push((name.to_owned(), value.to_owned()));
        }
    }
    for (name, value) in [
        ("HOME", inside.home.as_os_str()),
        ("USER", OsStr::new(inside.user)),
        ("LOGNAME", OsStr::new(inside.user)),
        ("SHELL", inside.shell.as_os_str()),
        ("PWD", inside.cwd.as_os_str()),
        // Reset rather than copied: the caller's may be a private directory that does not exist inside.
        ("TMPDIR", OsStr::new("/tmp")),
        // Where the jail's own settings for git are, also for a git that was built to look elsewhere.
        ("GIT_CONFIG_SYSTEM", OsStr::new("/etc/gitconfig")),
        ("AGENTJAIL", OsStr::new(inside.id)),
    ] {
        out.push((name.into(), value.to_owned()));
    }
    out.push(("PATH".into(), path.unwrap_or_else(|| reduced_path(OsStr::new(""), inside))));
    for (name, value) in inside.tools {
        set(&mut out, name.clone(), value.clone());
    }
    for (name, value) in passed.into_iter().chain(settings.env.iter().cloned()) {
        set(&mut out, name, value);
    }
    out
}

fn set(out: &mut Vec<(OsString, OsString)>, name: OsString, value: OsString) {
    match out.iter_mut().find(|(n, _)| *n == name) {
        Some(entry) => entry.1 = value,
        None => out.push((name, value)),
    }
}

fn is_copied(name: &OsStr) -> bool {
    COPIED.iter().any(|c| name == *c) || name.as_bytes().starts_with(b"LC_")
}

fn is_certificate(name: &OsStr, value: &OsStr, inside: &Inside<'_>) -> bool {
    let path = Path::new(value);
    CERTIFICATES.iter().any(|c| name == *c)
        && path.is_absolute()
        // What starts below a visible directory and climbs out of it is not.
        && !path.components().any(|c| c == std::path::Component::ParentDir)
        && (CERTIFICATE_PLACES.iter().any(|place| path.starts_with(place)) || (inside.visible)(path))
}

/// The caller's PATH without what cannot be seen inside, in its order, each directory once.
///
/// Relative and empty entries are dropped: they mean "the current directory", which in a jail is
/// the tree nobody trusts.
fn reduced_path(caller: &OsStr, inside: &Inside<'_>) -> OsString {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut out: Vec<u8> = Vec::with_capacity(caller.len());
    let entries = caller.as_bytes().split(|b| *b == b':').filter(|e| e.starts_with(b"/"));
    let visible = entries.filter(|e| (inside.visible)(Path::new(OsStr::from_bytes(e))));
    for entry in inside.path_first.iter().map(|p| p.as_os_str().as_bytes()).chain(visible) {
        if !seen.contains(&entry) {
            seen.push(entry);
            if !out.is_empty() {
                out.push(b':');
            }
            out.extend_from_slice(entry);
        }
    }
    if seen.len() <= inside.path_first.len() && !has_system_directory(&seen) {
        if !out.is_empty() {
            out.push(b':');
        }
        out.extend_from_slice(FALLBACK_PATH.as_bytes());
    }
    OsString::from(OsStr::from_bytes(&out))
}

fn has_system_directory(seen: &[&[u8]]) -> bool {
    FALLBACK_PATH.split(':').any(|d| seen.contains(&d.as_bytes()))
}

/// Whether a value given on the command line looks like a real secret: argv is visible to every
/// process of the machine, and is kept in shell history and in the ledger.
///
/// Only forms that nothing else has: a published prefix and a long random tail. It is there to stop
/// an accident, not to find every secret.
pub fn looks_like_secret(value: &OsStr) -> bool {
    const PREFIXES: [&str; 22] = [
        "sk-",
        "sk_live_",
        "rk_live_",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "AKIA",
        "ASIA",
        "AIza",
        "xoxb-",
        "xoxp-",
        "xoxa-",
        "xapp-",
        "npm_",
        "pypi-",
        "hf_",
        "gsk_",
        "dop_v1_",
    ];
    let Some(text) = value.to_str() else { return false };
    if text.starts_with("-----BEGIN ") && text.contains("PRIVATE KEY") {
        return true;
    }
    let tail = PREFIXES.iter().find_map(|p| text.strip_prefix(p)).unwrap_or("");
    tail.len() >= 16
        && tail.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && tail.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Facts, Layer, Sources, resolve};

    fn settings(edit: impl FnOnce(&mut Layer)) -> Settings {
        let mut flags = Layer::default();
        edit(&mut flags);
        let facts = Facts { ram: 8 << 30, cpus: 4, nofile_soft: 1024, nofile_hard: 4096 };
        resolve(Sources { user: None, project: None, workspace: None, flags: &flags }, &facts)
            .unwrap()
            .settings
    }

    fn env(settings: &Settings, caller: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        let inside = Inside {
            user: "agent",
            home: Path::new("/home/agent"),
            shell: Path::new("/bin/sh"),
            cwd: Path::new("/src"),
            id: "jl-1",
            tools: &[],
            path_first: &[],
            visible: &|p| p.starts_with("/usr"),
        };
        build(settings, caller.iter().map(|(n, v)| (OsStr::new(n), OsStr::new(v))), &inside)
    }

    fn get(env: &[(OsString, OsString)], name: &str) -> Option<String> {
        let mut found = env.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, v)| v.to_string_lossy().into_owned());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    #[test]
    fn whom_to_trust_comes_along_when_it_can_be_seen() {
        let caller = [
            ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
            ("NODE_EXTRA_CA_CERTS", "/usr/share/company/ca.pem"),
            ("PIP_CERT", "/home/u/private/ca.pem"),
            ("CURL_CA_BUNDLE", "ca.pem"),
            ("AWS_CA_BUNDLE", "/usr/../home/u/ca.pem"),
            ("REQUESTS_CA_BUNDLE", "/etc/ssl/private/key.pem"),
        ];
        let env = env(&settings(|_| {}), &caller);
        assert_eq!(get(&env, "SSL_CERT_FILE").as_deref(), Some(caller[0].1));
        assert_eq!(get(&env, "NODE_EXTRA_CA_CERTS").as_deref(), Some(caller[1].1));
        for (name, value) in &caller[2..] {
            assert_eq!(get(&env, name), None, "{value}");
        }
    }

    #[test]
    fn nothing_of_the_callers_comes_in_unnamed() {
        let secret = [
            "SSH_AUTH_SOCK",
            "DBUS_SESSION_BUS_ADDRESS",
            "XAUTHORITY",
            "DISPLAY",
            "WAYLAND_DISPLAY",
            "XDG_RUNTIME_DIR",
            "GITHUB_TOKEN",
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "DOCKER_HOST",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "ENV",
            "BASH_FUNC_ls%%",
            "NODE_OPTIONS",
            "PYTHONPATH",
            "PERL5OPT",
            "GIT_SSH_COMMAND",
            "AJ_STATE_DIR",
            "HTTPS_PROXY",
            "LCX",
            "lang",
        ];
        let caller: Vec<(&str, &str)> = secret.iter().map(|n| (*n, "x")).collect();
        let out = env(&settings(|_| ()), &caller);
        for name in secret {
            assert_eq!(get(&out, name), None, "{name}");
        }
        assert_eq!(out.len(), 9, "{out:?}");
        // Teeth: the same name comes in when it is asked for.
        let out = env(&settings(|l| l.pass_env("LD_PRELOAD".into(), 0)), &caller);
        assert_eq!(get(&out, "LD_PRELOAD").as_deref(), Some("x"));
    }

    #[test]
    fn language_terminal_and_colour_come_along_and_the_rest_is_fixed() {
        let out = env(
            &settings(|_| ()),
            &[
                ("LANG", "C.UTF-8"),
                ("LC_TIME", "de_DE"),
                ("TERM", "xterm"),
                ("HOME", "/root"),
                ("TMPDIR", "/x"),
            ],
        );
        for (name, value) in [
            ("LANG", "C.UTF-8"),
            ("LC_TIME", "de_DE"),
            ("TERM", "xterm"),
            ("HOME", "/home/agent"),
            ("USER", "agent"),
            ("LOGNAME", "agent"),
            ("SHELL", "/bin/sh"),
            ("PWD", "/src"),
            ("TMPDIR", "/tmp"),
            ("AGENTJAIL", "jl-1"),
            ("PATH", FALLBACK_PATH),
        ] {
            assert_eq!(get(&out, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn path_keeps_the_visible_directories_in_order() {
        for (path, want) in [
            ("/usr/sbin:/home/me/bin:/usr/bin:/usr/sbin", "/usr/sbin:/usr/bin"),
            (":.:bin:/usr/bin:../x:", "/usr/bin"),
            ("/home/me/bin", FALLBACK_PATH),
            ("", FALLBACK_PATH),
        ] {
            assert_eq!(
                get(&env(&settings(|_| ()), &[("PATH", path)]), "PATH").as_deref(),
                Some(want),
                "{path}"
            );
        }
    }

    #[test]
    fn tools_come_first_and_never_replace_the_system() {
        let inside = Inside {
            user: "agent",
            home: Path::new("/home/agent"),
            shell: Path::new("/bin/sh"),
            cwd: Path::new("/"),
            id: "1",
            tools: &[],
            path_first: &[Path::new("/opt/t/bin")],
            visible: &|p| p.starts_with("/usr"),
        };
        assert_eq!(reduced_path(OsStr::new("/usr/bin:/opt/t/bin"), &inside), "/opt/t/bin:/usr/bin");
        assert_eq!(
            reduced_path(OsStr::new("/nowhere"), &inside).to_str(),
            Some("/opt/t/bin:/usr/local/bin:/usr/bin:/bin")
        );
    }

    #[test]
    fn explicit_variables_win_over_everything_and_need_not_be_text() {
        let odd = OsStr::from_bytes(b"\xff\xfe");
        let s = settings(|l| {
            l.set_env("HOME".into(), "/elsewhere".into(), 0);
            l.set_env("PATH".into(), "/mine".into(), 0);
            l.set_env("ODD".into(), odd.to_owned(), 0);
            l.pass_env("TZ".into(), 0);
            l.pass_env("UNSET".into(), 0);
        });
        let out = env(&s, &[("TZ", "UTC"), ("HOME", "/root")]);
        assert_eq!(get(&out, "HOME").as_deref(), Some("/elsewhere"));
        assert_eq!(get(&out, "PATH").as_deref(), Some("/mine"));
        assert_eq!(get(&out, "TZ").as_deref(), Some("UTC"));
        assert_eq!(get(&out, "UNSET"), None);
        assert!(out.iter().any(|(n, v)| n == "ODD" && v == odd));
    }

    #[test]
    fn only_the_shape_of_a_real_key_counts_as_a_secret() {
        for yes in
            ["sk-proj-abcDEF0123456789abcdef", "ghp_0123456789abcdefABCD", "-----BEGIN RSA PRIVATE KEY-----"]
        {
            assert!(looks_like_secret(OsStr::new(yes)), "{yes}");
        }
        for no in [
            "sk-test",
            "sk-abcdefghijklmnopqrstuvwx",
            "debug",
            "",
            "/home/ghp_x",
            "AKIA",
            "sk-a b c d e f 1 2 3 4 5",
        ] {
            assert!(!looks_like_secret(OsStr::new(no)), "{no}");
        }
    }
}
