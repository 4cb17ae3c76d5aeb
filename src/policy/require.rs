//! `--require`: layers without which nothing is to run.

use super::suggest;
use super::value::ValueError;
use crate::base::text::printable;

/// A layer that must be in force, as it is written: `netns`, `landlock:6`, or `full`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need(String);

/// Every layer by name, in the order they are applied. `jail::status` has the same, which a test holds.
pub const LAYERS: [&str; 18] = [
    "userns",
    "mountns",
    "pidns",
    "ipcns",
    "utsns",
    "cgroupns",
    "netns",
    "pivot_root",
    "proc",
    "ro_overlay",
    "keyring",
    "no_nested_userns",
    "caps",
    "no_new_privs",
    "landlock",
    "landlock_scopes",
    "seccomp",
    "not_dumpable",
];

/// Every layer that a jail of mode `full` has on any kernel from 5.19 on, unless the policy opens it.
pub const FULL: &str = "full";

/// Landlock ABIs that can be asked for: what this version makes use of.
const ABIS: std::ops::RangeInclusive<i32> = 2..=6;

impl Need {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The layer, or [`FULL`].
    pub fn layer(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The least Landlock ABI.
    pub fn abi(&self) -> Option<i32> {
        self.0.split_once(':').and_then(|(_, abi)| abi.parse().ok())
    }
}

/// One layer.
pub fn parse(text: &str) -> Result<Need, ValueError> {
    let given = || printable(text.as_bytes()).chars().take(40).collect::<String>();
    let fail = |why: String| Err(ValueError::Layer { given: given(), why });
    let (name, abi) = match text.split_once(':') {
        Some((name, abi)) => (name, Some(abi)),
        None => (text, None),
    };
    if name != FULL && !LAYERS.contains(&name) {
        let known = LAYERS.iter().copied().chain([FULL]);
        return fail(match suggest::nearest(name, known.clone()) {
            Some(meant) => format!("is not a layer; did you mean `{meant}`?"),
            None => format!("is not a layer; there are {}", known.collect::<Vec<_>>().join(", ")),
        });
    }
    match abi {
        None => Ok(Need(name.to_owned())),
        Some(abi) if name == "landlock" => match abi.parse::<i32>() {
            // Written in one way only, so that the same need is the same text.
            Ok(n) if ABIS.contains(&n) && n.to_string() == abi => Ok(Need(text.to_owned())),
            _ => fail(format!(
                "names no Landlock ABI that this version makes use of: {} to {}",
                ABIS.start(),
                ABIS.end()
            )),
        },
        Some(_) => fail("has no versions: only `landlock` takes one, as in `landlock:6`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_by_name_and_landlock_by_version() {
        for text in LAYERS.iter().copied().chain([FULL, "landlock:2", "landlock:6"]) {
            assert_eq!(parse(text).unwrap().as_str(), text);
        }
        let six = parse("landlock:6").unwrap();
        assert_eq!((six.layer(), six.abi()), ("landlock", Some(6)));
        assert_eq!((parse("netns").unwrap().abi(), parse(FULL).unwrap().layer()), (None, "full"));
        for bad in
            ["", "netns:1", "landlock:", "landlock:1", "landlock:7", "landlock:06", "landlock:6:6", "full:1"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(said("netsn"), "`netsn` is not a layer; did you mean `netns`?");
        let hostile = said(&format!("\x1b]52;{}", "x".repeat(10_000)));
        assert!(hostile.len() < 400 && !hostile.contains('\x1b'), "{hostile}");
    }
}
