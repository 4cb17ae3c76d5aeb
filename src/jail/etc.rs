//! The jail's `/etc`: an allow-list of the host's, copied once into the state directory.
//!
//! Binding thirty files one by one would cost a third of a start; a copy is one bind. It is named
//! by a stamp over the times of the host's files and directories, so that a changed host (a new CA
//! certificate, `update-alternatives`, an upgraded libc's `ld.so.cache`) gets a new copy. Copies are
//! made under a temporary name and renamed, so a half-made one is never used, and never changed
//! afterwards, so a running jail keeps what it started with. Links that would lead nowhere inside (a
//! certificate in `/opt`, `/etc/static` of NixOS) are replaced by what they point to.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::ready::{self, Ready};
use super::spec::Mask;
use super::{gitconfig, miseconfig};
use crate::base::stamp::Stamp;

/// Format of the copy: a change here makes new ones.
const FORMAT: u32 = 3;
/// Its kind among what is ready-made.
const KIND: &str = "etc";
/// Copies of earlier states of the host that are kept: another user's `git` identity or another
/// version of `aj` may take turns with ours.
const KEPT: usize = 3;
/// Files larger than this are left out, as are trees of more files than [`MAX_FILES`].
const MAX_FILE: u64 = 4 << 20;
const MAX_FILES: usize = 5_000;

/// Names below the host's `/etc` that a jail may see. No credentials live in any of them; what
/// programs and interpreters need to start, resolve, verify and localise.
const ALLOWED: &[&str] = &[
    "ImageMagick-6",
    "OpenCL",
    "R",
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "ccache.conf",
    "debian_version",
    "default/locale",
    "dictionaries-common",
    "dotnet",
    "dpkg/origins",
    "fonts",
    "gai.conf",
    "gdb",
    "glvnd",
    "host.conf",
    "inputrc",
    "issue",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "libnl-3",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "lynx",
    "magic",
    "magic.mime",
    "mailcap",
    "manpath.config",
    "maven",
    "mime.types",
    "mke2fs.conf",
    "mono",
    "nanorc",
    "networks",
    "os-release",
    "papersize",
    "perl",
    "php",
    "pki/ca-trust",
    "pki/java",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "profile",
    "profile.d",
    "protocols",
    "python",
    "python2.7",
    "python3",
    "redhat-release",
    "rpc",
    "sensors3.conf",
    "services",
    "sgml",
    "shells",
    "skel",
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "texmf",
    "timezone",
    "vim",
    "vulkan",
    "xdg",
    "xml",
    "zsh",
];
/// Prefixes of further allowed names, for versioned directories.
const ALLOWED_PREFIXES: &[&str] = &["java-", "python3.", "ImageMagick-"];
/// What stands for the host's state: these are looked at on every start.
const WATCHED: &[&str] = &[
    "",
    "alternatives",
    "ca-certificates",
    "ld.so.conf.d",
    "profile.d",
    "ssl",
    "ssl/certs",
    "ld.so.cache",
    "localtime",
    "timezone",
    "default",
    "pki/tls/certs",
];

/// Files that every jail gets in our words.
const OWN: &[(&str, &str)] = &[
    (
        "passwd",
        "root:x:0:0:root:/home/agent:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("group", "root:x:0:\ntty:x:5:\nagent:x:1000:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost agentjail\n::1 localhost ip6-localhost ip6-loopback agentjail\n"),
    ("hostname", "agentjail\n"),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nservices: files\nprotocols: files\nrpc: files\n",
    ),
    ("resolv.conf", ""),
    ("machine-id", ""),
];

/// Host name of a one-shot jail: what `/etc/hosts` resolves.
pub const HOSTNAME: &str = "agentjail";

/// Host name of the jail of the workspace `name`: the same, as host names are spelled.
pub fn host_name(name: &str) -> String {
    let plain = name.replace('_', "-");
    let plain = plain.trim_matches('-');
    // Resolvers take a number for an address.
    let number = plain.bytes().all(|b| b.is_ascii_digit()) || plain.starts_with("0x");
    match plain {
        "" => HOSTNAME.to_owned(),
        _ if number => format!("ws-{plain}").chars().take(LABEL).collect(),
        _ => plain.to_owned(),
    }
}

/// Characters of a host name at most.
const LABEL: usize = 63;

/// What says the host name in the jail's `/etc`, when it is another one than in the ready-made one. The files are
/// shown in the place of those: a copy of all of `/etc` for each name would cost more.
pub fn named(host: &str) -> Vec<Mask> {
    if host == HOSTNAME {
        return Vec::new();
    }
    let own = OWN.iter().filter(|(file, _)| matches!(*file, "hosts" | "hostname"));
    let shown = own.map(|(file, text)| Mask {
        path: Path::new("/etc").join(file),
        shows: Some(text.replace(HOSTNAME, host).into_bytes()),
    });
    shown.collect()
}

/// The stamp of the host's `/etc` as it is now.
fn stamp(host: &Path, generated: &[(String, String)]) -> String {
    let mut h = Stamp::default();
    h.put(&FORMAT.to_le_bytes());
    for text in generated.iter().flat_map(|(name, text)| [name, text]) {
        h.put(&(text.len() as u64).to_le_bytes());
        h.put(text.as_bytes());
    }
    h.put(env!("CARGO_PKG_VERSION").as_bytes());
    for name in WATCHED {
        if let Ok(m) = fs::symlink_metadata(host.join(name)) {
            for v in [m.ino() as i64, m.ctime(), m.ctime_nsec(), m.size() as i64] {
                h.put(&v.to_le_bytes());
            }
        }
        h.put(&[0]);
    }
    format!("{:016x}", h.value())
}

/// What a jail without namespaces may see of the host's own `/etc`, and which of it are directories.
pub fn visible() -> Vec<(std::path::PathBuf, bool)> {
    let top = Path::new("/etc");
    let own = OWN.iter().map(|(name, _)| *name);
    let names = ALLOWED.iter().copied().chain(own).map(str::to_owned);
    let more =
        fs::read_dir(top).into_iter().flatten().flatten().filter_map(|e| e.file_name().into_string().ok());
    let more = more.filter(|name| ALLOWED_PREFIXES.iter().any(|p| name.starts_with(p)));
    let is = |name: String| {
        let path = top.join(name);
        let directory = fs::metadata(&path).ok()?.is_dir();
        Some((path, directory))
    };
    names.chain(more).filter_map(is).collect()
}

/// The ready-made `/etc` below `cache`, made now if the host's has changed since the last one. What was left
/// out of the caller's own configuration goes to `warnings`. With it the filters of git that the caller has
/// configured, and that are not known inside.
pub fn ready(cache: &Path, warnings: &mut Vec<String>) -> io::Result<(Ready, Vec<String>)> {
    let gitconfig::Own { texts, filters } = gitconfig::own(warnings);
    let git = texts.into_iter().enumerate().map(|(n, text)| (gitconfig::name(n), text));
    let mise = miseconfig::text(warnings).map(|text| (miseconfig::NAME.to_owned(), text));
    let generated: Vec<(String, String)> = git.chain(mise).collect();
    Ok((ready_from(Path::new("/etc"), cache, &generated)?, filters))
}

/// `generated`: names in it and texts, from what the caller has configured.
fn ready_from(host: &Path, cache: &Path, generated: &[(String, String)]) -> io::Result<Ready> {
    let name = format!("{KIND}-{}", stamp(host, generated));
    match ready::hold(&cache.join(&name)) {
        Some(etc) => Ok(etc),
        None => ready::make(cache, KIND, &name, KEPT, |to| copy_all(host, to, generated)),
    }
}

fn copy_all(host: &Path, to: &Path, generated: &[(String, String)]) -> io::Result<()> {
    let mut names: Vec<String> = ALLOWED.iter().map(|n| (*n).to_owned()).collect();
    for entry in fs::read_dir(host)?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if ALLOWED_PREFIXES.iter().any(|p| name.starts_with(p)) && !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    for name in names {
        let source = host.join(&name);
        if fs::symlink_metadata(&source).is_err() {
            continue;
        }
        if let Some(parent) = Path::new(&name).parent() {
            directories(to, parent)?;
        }
        copy_tree(host, &source, &to.join(&name))?;
    }
    let generated = generated.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    for (name, text) in OWN.iter().copied().chain(generated) {
        let path = to.join(name);
        if let Some(parent) = Path::new(name).parent() {
            directories(to, parent)?;
        }
        drop(fs::remove_file(&path));
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    // Programs look for the mount table here.
    symlink("/proc/self/mounts", to.join("mtab"))
}

fn directories(to: &Path, relative: &Path) -> io::Result<()> {
    let mut path = to.to_owned();
    for part in relative {
        path.push(part);
        match fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Copy what is world-readable; leave out what is not, what is special, and what cannot be read.
fn copy_tree(host: &Path, source: &Path, to: &Path) -> io::Result<()> {
    for entry in WalkDir::new(source).follow_links(false).max_depth(8).into_iter().take(MAX_FILES).flatten() {
        let Ok(relative) = entry.path().strip_prefix(source) else { continue };
        let target = if relative.as_os_str().is_empty() { to.to_owned() } else { to.join(relative) };
        let kind = entry.file_type();
        if kind.is_symlink() {
            match leads_outside(host, entry.path()) {
                Some(real) if real.is_dir() => copy_directory(&real, &target)?,
                Some(real) => copy_file(&real, &target)?,
                None => symlink(fs::read_link(entry.path())?, &target)?,
            }
        } else if kind.is_dir() {
            match fs::create_dir(&target) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
        } else if kind.is_file() {
            copy_file(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// What a link points to when that is neither in `/usr` nor in the host's `/etc`, which is all
/// there is of the host inside.
fn leads_outside(host: &Path, link: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(link).ok()?;
    let host = fs::canonicalize(host).ok()?;
    (!real.starts_with("/usr") && !real.starts_with(host)).then_some(real)
}

/// The files of one directory, links followed.
fn copy_directory(source: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    let Ok(entries) = fs::read_dir(source) else { return Ok(()) };
    for entry in entries.take(MAX_FILES).flatten() {
        copy_file(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Copy a plain file that everyone may read; anything else is left out.
fn copy_file(source: &Path, to: &Path) -> io::Result<()> {
    let Ok(m) = fs::metadata(source) else { return Ok(()) };
    if !m.is_file() || m.mode() & 0o004 == 0 || m.len() > MAX_FILE {
        return Ok(());
    }
    let Ok(file) = fs::File::open(source) else { return Ok(()) };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    fs::write(to, bytes)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644 | (m.mode() & 0o111)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_workspace_is_made_one_of_a_host() {
        for (name, host) in [
            ("api", "api"),
            ("a_b-c_", "a-b-c"),
            ("1234", "ws-1234"),
            ("0x7f", "ws-0x7f"),
            ("0-", "ws-0"),
            ("4u", "4u"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(host_name(name), host);
        }
        assert_eq!(host_name(&"1".repeat(63)).len(), 63);
        assert_eq!(named(HOSTNAME), []);
        let texts = named("api").into_iter().map(|m| (m.path, String::from_utf8(m.shows.unwrap()).unwrap()));
        let texts: Vec<_> = texts.collect();
        assert_eq!(texts[0].0, Path::new("/etc/hosts"));
        assert!(texts[0].1.contains("127.0.0.1 localhost api\n") && !texts[0].1.contains("agentjail"));
        assert_eq!(texts[1], (Path::new("/etc/hostname").to_owned(), "api\n".to_owned()));
    }

    fn host() -> tempfile::TempDir {
        let d = tempfile::tempdir().unwrap();
        fs::create_dir_all(d.path().join("ssl/certs")).unwrap();
        fs::create_dir_all(d.path().join("ssl/private")).unwrap();
        for (name, mode) in [
            ("shadow", 0o640),
            ("services", 0o644),
            ("passwd", 0o644),
            ("profile", 0o600),
            ("ssl/certs/a.pem", 0o644),
            ("ssl/private/key.pem", 0o644),
        ] {
            fs::write(d.path().join(name), format!("host {name}")).unwrap();
            fs::set_permissions(d.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("../gone", d.path().join("ssl/certs/dangling")).unwrap();
        d
    }

    #[test]
    fn only_the_allow_list_is_copied_and_identities_are_ours() {
        let (h, cache) = (host(), tempfile::tempdir().unwrap());
        let etc = ready_from(h.path(), cache.path(), &[]).unwrap().path;
        assert!(!etc.join("shadow").exists());
        assert!(!etc.join("ssl/private").exists());
        assert!(!etc.join("profile").exists(), "not world-readable");
        assert_eq!(fs::read_to_string(etc.join("services")).unwrap(), "host services");
        assert_eq!(fs::read_to_string(etc.join("ssl/certs/a.pem")).unwrap(), "host ssl/certs/a.pem");
        assert!(fs::symlink_metadata(etc.join("ssl/certs/dangling")).unwrap().is_symlink());
        assert!(fs::read_to_string(etc.join("passwd")).unwrap().contains("agent:x:1000:"));
    }

    #[test]
    fn links_out_of_what_is_shown_become_what_they_point_to() {
        let (h, cache, elsewhere) = (host(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (pem, key) = (elsewhere.path().join("ca.pem"), elsewhere.path().join("key.pem"));
        fs::write(&pem, "corporate").unwrap();
        fs::write(&key, "private").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let certs = h.path().join("ssl/certs");
        symlink(&pem, certs.join("corporate.pem")).unwrap();
        symlink(&key, certs.join("key.pem")).unwrap();
        symlink("a.pem", certs.join("near.pem")).unwrap();
        symlink(elsewhere.path(), h.path().join("terminfo")).unwrap();
        let etc = ready_from(h.path(), cache.path(), &[]).unwrap().path;
        let copy = etc.join("ssl/certs/corporate.pem");
        assert!(fs::symlink_metadata(&copy).unwrap().is_file());
        assert_eq!(fs::read_to_string(copy).unwrap(), "corporate");
        assert!(!etc.join("ssl/certs/key.pem").exists(), "not world-readable");
        assert!(fs::symlink_metadata(etc.join("ssl/certs/near.pem")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(etc.join("terminfo/ca.pem")).unwrap(), "corporate");
    }

    #[test]
    fn a_changed_identity_makes_a_new_copy() {
        let (h, cache) = (host(), tempfile::tempdir().unwrap());
        let generated = [("gitconfig", "[user]\n"), (miseconfig::NAME, "[tools]\n")];
        let generated = generated.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let one = ready_from(h.path(), cache.path(), &generated).unwrap().path;
        assert_eq!(fs::read_to_string(one.join("gitconfig")).unwrap(), "[user]\n");
        assert_eq!(fs::read_to_string(one.join("mise/config.toml")).unwrap(), "[tools]\n");
        assert_ne!(ready_from(h.path(), cache.path(), &[]).unwrap().path, one);
    }

    #[test]
    fn an_unchanged_host_is_copied_once_and_a_changed_one_again() {
        let (h, cache) = (host(), tempfile::tempdir().unwrap());
        let first = ready_from(h.path(), cache.path(), &[]).unwrap().path;
        assert_eq!(ready_from(h.path(), cache.path(), &[]).unwrap().path, first);
        fs::write(h.path().join("ssl/certs/b.pem"), "new").unwrap();
        let second = ready_from(h.path(), cache.path(), &[]).unwrap().path;
        assert_ne!(first, second);
        assert!(second.join("ssl/certs/b.pem").exists());
        let left = fs::read_dir(cache.path())
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with('.'))
            .count();
        assert_eq!(left, 0, "temporary copies are gone");
    }
}
