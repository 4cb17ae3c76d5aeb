//! A command that failed for want of a network, or of packages that the caller has: what would have given
//! it either. Programs blame a server's name, which says nothing to whoever forgot that there is a jail.

use crate::jail::supervise::Ended;
use crate::policy::key::Key;
use crate::policy::resolve::{Origin, Resolved};
use crate::policy::settings::{Caches, Net};
use crate::schema::jail::Outcome;

/// What programs print when a name has no address.
const NO_NETWORK: [&str; 7] = [
    "Could not resolve host",
    "EAI_AGAIN",
    "name resolution",
    "Name or service not known",
    "failed to lookup address",
    "dial tcp: lookup",
    "no such host",
];
/// And when they were to do without a network and lack packages.
const NO_CACHE: [&str; 3] = ["--offline was specified", "using offline mode", "ENOTCACHED"];

/// A line about it, for a command that failed and said so.
pub(super) fn line(resolved: &Resolved, ended: &Ended) -> Option<String> {
    let failed = matches!(ended.outcome, Outcome::Exited { code } if code != 0);
    if !failed || resolved.settings.net != Net::None {
        return None;
    }
    let said = [ended.stderr.text().0, ended.stdout.text().0];
    let any = |signs: &[&str]| said.iter().any(|text| signs.iter().any(|sign| text.contains(sign)));
    let (network, packages) = (any(&NO_NETWORK), any(&NO_CACHE));
    // Nobody is told of what he decided himself.
    let chosen = |key: Key| !matches!(resolved.origin(key), None | Some(Origin::BuiltIn | Origin::Preset));
    let cold = resolved.settings.caches == Caches::None && !chosen(Key::Caches);
    let way = match (network && !chosen(Key::Net), (network || packages) && cold) {
        (true, true) => "`--net host` gives it this machine's, `--preset build` shows your package caches",
        (true, false) => "`--net host` gives it this machine's",
        (false, true) => "`--preset build` shows your package caches",
        (false, false) => return None,
    };
    Some(format!("the jail has no network: {way}"))
}
