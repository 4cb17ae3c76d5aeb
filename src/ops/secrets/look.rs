//! Whether an entry with the name of a secret is one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Dir;
use crate::policy::hide::Look;
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::workspace::gitcreds::{self, Clean};

/// A file of keys or settings is smaller; a larger one is hidden unread.
const LARGEST: u64 = 1 << 20;

/// Whether the entry `name` of `dir` with metadata `meta` is a secret. Nothing but regular files is
/// opened, and what cannot be judged is one.
pub(super) fn is_secret(look: Look, dir: Dir<'_>, name: &[u8], meta: &Meta) -> bool {
    match (look, meta.kind) {
        (Look::Name, FileKind::Dir) => !is_virtual_environment(dir, name),
        (Look::File | Look::Npmrc | Look::Key, FileKind::Dir) => false,
        (Look::Npmrc, FileKind::File) => judge(dir, name, meta, has_token),
        (Look::Key, FileKind::File) => judge(dir, name, meta, has_private_key),
        _ => true,
    }
}

/// Where a link at `path` with this text leads in the tree at `root`, judged by the text alone; `None`: out
/// of it. Paths are below the root.
pub(super) fn target(root: &[u8], path: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let (mut parts, text): (Vec<&[u8]>, &[u8]) = if text.first() == Some(&b'/') {
        (Vec::new(), text.strip_prefix(root)?.strip_prefix(b"/")?)
    } else {
        let mut parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        parts.pop();
        (parts, text)
    };
    for part in text.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join(&b'/'))
}

/// Where a path of the tree at `root` really is in it, links followed; `None`: nowhere, or out of it.
pub(super) fn real(root: &Path, path: &[u8]) -> Option<Vec<u8>> {
    let real = std::fs::canonicalize(root.join(OsStr::from_bytes(path))).ok()?;
    let below = real.strip_prefix(root).ok()?.as_os_str().as_bytes();
    (!below.is_empty()).then(|| below.to_vec())
}

/// Python's, which some people keep in `.env`.
fn is_virtual_environment(dir: Dir<'_>, name: &[u8]) -> bool {
    let inner = openat2::beneath(dir, name, For::Passing).and_then(|d| at::stat(&d, b"pyvenv.cfg"));
    inner.is_ok_and(|m| m.kind == FileKind::File)
}

fn judge(dir: Dir<'_>, name: &[u8], meta: &Meta, is: fn(&[u8]) -> bool) -> bool {
    meta.size > LARGEST || read(dir, name, LARGEST).is_none_or(|bytes| is(&bytes))
}

/// The content of a regular file of at most `most` bytes; `None`: it is none, or cannot be read.
pub(super) fn read(dir: Dir<'_>, name: &[u8], most: u64) -> Option<Vec<u8>> {
    let file = openat2::beneath(dir, name, For::Reading).ok()?;
    // It may be another one than the one that was looked at.
    let meta = at::fstat(&file).ok().filter(|m| m.kind == FileKind::File && m.size <= most)?;
    let mut bytes = Vec::with_capacity(usize::try_from(meta.size).ok()? + 1);
    File::from(file).take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// Whether an `.npmrc` has a token or a password in it, and not only the name of a variable.
fn has_token(text: &[u8]) -> bool {
    text.split(|b| matches!(b, b'\n' | b'\r')).any(|line| {
        let line = line.trim_ascii();
        let Some(equals) = line.iter().position(|b| *b == b'=') else { return false };
        let (key, value) = line.split_at(equals);
        let (key, value) = (key.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii());
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        let setting = key.rsplit(|b| *b == b':').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let comment = matches!(line.first(), Some(b'#' | b';'));
        let variable =
            value.starts_with(b"${") && value.iter().position(|b| *b == b'}') == Some(value.len() - 1);
        let secret =
            matches!(setting.as_slice(), b"_authtoken" | b"_auth" | b"_password" | b"key" | b"password");
        // `registry=https://user:password@host/`
        let names_variable = value.windows(2).any(|w| w == b"${");
        if !names_variable && gitcreds::clean(value) != Clean::Same {
            return true;
        }
        // A token that was commented out is still one.
        (secret || comment && setting.ends_with(b"_authtoken")) && !value.is_empty() && !variable
    })
}

/// Whether there is a private key in it: in the text of one (PEM, OpenSSH, PGP, PuTTY), or as the plain bytes.
fn has_private_key(bytes: &[u8]) -> bool {
    let says = |text: &[u8]| {
        let has = |word: &[u8]| text.windows(word.len()).any(|w| w == word);
        has(b"PRIVATE KEY") || has(b"PuTTY-User-Key-File")
    };
    // As editors of other systems write text: every other byte is zero.
    let wide = || bytes.iter().copied().filter(|b| *b != 0).collect::<Vec<u8>>();
    says(bytes) || is_der_key(bytes) || bytes.contains(&0) && says(&wide())
}

/// A sequence that begins with a number is a key; in a certificate another sequence comes first.
fn is_der_key(bytes: &[u8]) -> bool {
    let (Some(0x30), Some(length)) = (bytes.first(), bytes.get(1)) else { return false };
    let inner = if length & 0x80 == 0 { 2 } else { 2 + usize::from(length & 0x7f) };
    bytes.get(inner) == Some(&0x02)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn tokens_are_told_from_names_of_variables() {
        for text in [
            "//registry/:_authToken=abc",
            "_auth = abc\n",
            "registry=x\r\n//h/:_password=\"eA==\"\r\n",
            "#//h/:_authToken=abc",
            "_authToken=${A}b",
            "_authtoken=x",
            "https-proxy = http://u:password@proxy:8080/",
            "registry=https://u:p@h/",
        ] {
            assert!(has_token(text.as_bytes()), "{text:?}");
        }
        for text in [
            "",
            "registry=https://h/",
            "//h/:_authToken=${NPM_TOKEN}",
            "proxy=http://${U}:${P}@h/",
            "_auth=",
            "#_x",
            "_authToken",
        ] {
            assert!(!has_token(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn private_keys_are_told_from_certificates_and_public_keys() {
        for text in [
            "-----BEGIN RSA PRIVATE KEY-----\n",
            "cert\n-----BEGIN PRIVATE KEY-----",
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
            "PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n",
        ] {
            assert!(has_private_key(text.as_bytes()));
            let wide = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
            assert!(has_private_key(&wide(u16::to_le_bytes)) && has_private_key(&wide(u16::to_be_bytes)));
        }
        for text in ["-----BEGIN CERTIFICATE-----\n", "ssh-ed25519 AAAA me@host", "", "def id_map(): pass"] {
            assert!(!has_private_key(text.as_bytes()));
        }
        assert!(has_private_key(&[0x30, 0x82, 1, 2, 0x02, 1, 0]) && has_private_key(&[0x30, 0x20, 0x02]));
        assert!(!has_private_key(&[0x30, 0x82, 1, 2, 0x30, 0x82]) && !has_private_key(&[0x30]));
    }

    #[test]
    fn links_are_followed_by_their_text_within_the_tree() {
        for (path, text, want) in [
            (".env", "config/prod.env", Some("config/prod.env")),
            ("a/.env", "../b//./c", Some("b/c")),
            ("a/.env", "/p/x", Some("x")),
            (".env", "../x", None),
            (".env", "/px", None),
            (".env", "/p", None),
            (".env", "a/..", None),
        ] {
            let found = target(b"/p", path.as_bytes(), text.as_bytes());
            assert_eq!(found.as_deref(), want.map(str::as_bytes), "{path} -> {text}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_hidden_without_waiting_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        File::create(at("sparse")).unwrap().set_len(10 << 30).unwrap();
        symlink("/dev/zero", at("link")).unwrap();
        std::fs::write(at("public"), "ssh-rsa AAAA").unwrap();
        std::fs::create_dir_all(at("venv")).unwrap();
        std::fs::create_dir_all(at("secrets")).unwrap();
        std::fs::write(at("venv/pyvenv.cfg"), "").unwrap();
        let open = openat2::absolute(
            dir.path().canonicalize().unwrap().as_os_str().as_encoded_bytes(),
            For::Passing,
        )
        .unwrap();
        let is = |look, name: &str| {
            is_secret(look, &open, name.as_bytes(), &at::stat(&open, name.as_bytes()).unwrap())
        };
        for look in [Look::Name, Look::File, Look::Npmrc, Look::Key] {
            assert!(is(look, "fifo") && is(look, "link"), "{look:?}");
        }
        assert!(is(Look::Key, "sparse") && is(Look::Npmrc, "sparse") && !is(Look::Key, "public"));
        assert!(is(Look::Name, "secrets") && !is(Look::Name, "venv") && !is(Look::Key, "secrets"));
    }
}
