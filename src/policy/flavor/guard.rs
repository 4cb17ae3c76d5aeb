//! What no tool chain may show, whoever describes it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::is_below;

/// Where secrets lie below a home directory: files and directories.
const SECRETS: [&str; 40] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".npmrc",
    ".yarnrc.yml",
    ".bunfig.toml",
    ".pypirc",
    ".condarc",
    ".conda/.condarc",
    ".continuum",
    ".git-credentials",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".cargo/config.toml",
    ".gem/credentials",
    ".local/share/gem/credentials",
    ".bundle/config",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".ivy2/.credentials",
    ".sbt/.credentials",
    ".cabal/config",
    ".dotnet/corefx",
    ".nuget/NuGet",
    ".terraform.d/credentials.tfrc.json",
    ".terraformrc",
    ".vault-token",
    ".config/pip",
    ".config/gh",
    ".config/gcloud",
    ".config/mise",
    ".config/agentjail",
    ".local/share/keyrings",
    ".local/share/uv/credentials",
    ".password-store",
];

/// Directories of the machine that are no place of tools. The jail has its own of most of them.
const MACHINE: [&str; 6] = ["proc", "sys", "dev", "run", "etc", "boot"];

/// Why a directory is not shown. Each is a fact about it, to stand after its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is the home directory, or has it in it.
    Home,
    /// It is, holds or lies in a place of secrets: `.ssh` and the like, relative to the home directory.
    Secret(&'static str),
    /// It is a place of the machine.
    Machine,
}

/// Whether `path`, absolute and without links, may be shown to a jail as part of a tool chain.
/// `home` is the caller's, without links as well.
pub fn refusal(path: &Path, home: Option<&Path>) -> Option<Refusal> {
    if let Some(refusal) = private(path, home) {
        return Some(refusal);
    }
    if home.is_some_and(|home| path.starts_with(home)) {
        return None;
    }
    let depth = path.components().count() - 1;
    let least = match path.iter().nth(1).and_then(|first| first.to_str()) {
        // Another home may hold tools; it is none as a whole.
        Some("home" | "root") => 3,
        _ => 2,
    };
    (depth < least).then_some(Refusal::Machine)
}

/// Whether `path`, absolute and without links, is, holds or lies in what is nobody's business but the
/// user's or the machine's, for directories of any kind.
pub fn private(path: &Path, home: Option<&Path>) -> Option<Refusal> {
    // By bytes: this is asked for every place of every start.
    let bytes = path.as_os_str().as_bytes();
    if let Some(home) = home.map(|home| home.as_os_str().as_bytes()) {
        if is_below(home, bytes) {
            return Some(Refusal::Home);
        }
        if let Some(inside) = bytes.strip_prefix(home).and_then(|rest| rest.strip_prefix(b"/")) {
            let meets =
                |secret: &&&str| is_below(inside, secret.as_bytes()) || is_below(secret.as_bytes(), inside);
            return SECRETS.iter().find(meets).map(|secret| Refusal::Secret(secret));
        }
    }
    // In the home of another user.
    let plain = |secret: &&&str| !secret.contains('/') && path.iter().any(|part| part == **secret);
    if let Some(secret) = SECRETS.iter().find(plain) {
        return Some(Refusal::Secret(secret));
    }
    let first = path.iter().nth(1).and_then(|first| first.to_str());
    first.is_none_or(|name| MACHINE.contains(&name)).then_some(Refusal::Machine)
}
