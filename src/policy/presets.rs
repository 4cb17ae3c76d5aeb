//! The presets that come with `aj`. A preset says only what it is about: the rest stays as the
//! user configuration or the built-in values have it, so that `seccomp = "strict"` in the user's
//! defaults survives `--preset build`.
//!
//! The numbers started from those of the systems whose users `aj` serves and were raised where
//! real programs break:
//! - `build`: 512 MB kills a linker, so memory keeps the built-in value; 128 processes stop
//!   `make -j` and test suites, so 4096 as built in; 600 s is short of a cold release build: 1 h.
//!   The filter is `standard`: test suites run servers on loopback, which `strict` refuses.
//! - Both show the user's package caches, which `aj exec` otherwise does not: they are what a build
//!   without a network lives on.
//! - `install`: as `build`; its network allow-list comes with the capture network.
//! - `agent`: 256 MB, 1 processor, 32 tasks and 300 s cannot start a node agent (V8 alone makes a
//!   dozen threads and each tool call is a process tree): 4 GiB, 2 processors, 1024 tasks, 1 h.
//! - `dev`: 1 GB is below one language server with one bundler: built-in memory; servers run
//!   until stopped: no timeout.

use std::time::Duration;

use super::layer::{At, Layer};
use super::resolve::Facts;
use super::settings::{Caches, Net};

/// Names and one line each, in the order of help pages.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("build", "compile and test: no network, your package caches, 4 processors, 1 h"),
    ("install", "install packages: as build, until the network allow-list comes"),
    ("agent", "run an agent: no network, 4 GiB, 2 processors, 1024 tasks, 1 h"),
    ("dev", "run servers and watchers: loopback, 4 processors, no time limit"),
];

const HOUR: Duration = Duration::from_secs(3600);

/// The built-in preset of that name.
pub fn built_in(name: &str, facts: &Facts) -> Option<Layer> {
    let net = Some(At::from(Net::None));
    Some(match name {
        "build" | "install" => Layer {
            net,
            caches: Some(Caches::Auto.into()),
            cpu_millis: at_most(4, facts),
            timeout: Some(Some(HOUR).into()),
            ..Layer::default()
        },
        "agent" => Layer {
            net,
            // Never above what would hold without the preset on a small machine.
            mem: Some(Some(facts.default_mem().min(4 << 30)).into()),
            cpu_millis: at_most(2, facts),
            pids: Some(Some(1024).into()),
            timeout: Some(Some(HOUR).into()),
            ..Layer::default()
        },
        "dev" => Layer { net, cpu_millis: at_most(4, facts), timeout: Some(None.into()), ..Layer::default() },
        _ => return None,
    })
}

/// A limit only where the machine has more: elsewhere it would ask for a cgroup to change nothing.
fn at_most(cpus: u64, facts: &Facts) -> Option<At<Option<u64>>> {
    (facts.cpus > cpus).then(|| Some(cpus * 1000).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_preset_exists_and_none_opens_the_network_or_adds_a_directory() {
        let facts = Facts { ram: 2 << 30, cpus: 2, nofile_soft: 1024, nofile_hard: 4096 };
        for (name, _) in BUILT_IN {
            let preset = built_in(name, &facts).unwrap();
            assert_eq!(preset.net.map(|n| n.value), Some(Net::None), "{name}");
            assert!(preset.ro.is_empty() && preset.rw.is_empty() && preset.pass.is_empty(), "{name}");
            let caches = matches!(name, "build" | "install").then_some(Caches::Auto);
            assert_eq!(preset.caches.map(|c| c.value), caches, "{name}");
            assert!(preset.cpu_millis.is_none(), "{name}: two processors need no limit of 2 or 4");
        }
        assert_eq!(built_in("agent", &facts).unwrap().mem, Some(Some(1 << 30).into()));
        assert!(built_in("gpu", &facts).is_none());
    }
}
