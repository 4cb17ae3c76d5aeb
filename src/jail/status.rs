//! The layers of a jail, and the names of what can go wrong while it starts.

use serde::{Deserialize, Serialize};

use crate::policy::require::{FULL, Need};
use crate::policy::settings::Mode;
use crate::sys::landlock;

/// Layers in force, as pid 1 verified them. Bits travel over the wire; names are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layers(u64, u64);

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Layer {
    /// User namespace.
    UserNs,
    /// Mount namespace with a root of its own.
    MountNs,
    /// Pid namespace.
    PidNs,
    /// IPC namespace.
    IpcNs,
    /// Host name namespace.
    UtsNs,
    /// Cgroup namespace.
    CgroupNs,
    /// Network namespace with `lo` only.
    NetNs,
    /// The host's root detached.
    Pivot,
    /// A `/proc` of the jail's own, which lists its processes and no others.
    Proc,
    /// Every directory shown read-only has inodes of the jail's own: no socket or FIFO of the host.
    ReadOnlyOverlay,
    /// A session keyring of its own.
    Keyring,
    /// No further user namespaces.
    NoNestedUserNs,
    /// Every capability set empty, securebits locked.
    Caps,
    /// `no_new_privs`.
    NoNewPrivs,
    /// Landlock on files.
    Landlock,
    /// Landlock scopes: signals and abstract sockets.
    Scopes,
    /// The system call filter.
    Seccomp,
    /// Pid 1 not dumpable.
    NotDumpable,
}

const ALL: [(Layer, &str); 18] = [
    (Layer::UserNs, "userns"),
    (Layer::MountNs, "mountns"),
    (Layer::PidNs, "pidns"),
    (Layer::IpcNs, "ipcns"),
    (Layer::UtsNs, "utsns"),
    (Layer::CgroupNs, "cgroupns"),
    (Layer::NetNs, "netns"),
    (Layer::Pivot, "pivot_root"),
    (Layer::Proc, "proc"),
    (Layer::ReadOnlyOverlay, "ro_overlay"),
    (Layer::Keyring, "keyring"),
    (Layer::NoNestedUserNs, "no_nested_userns"),
    (Layer::Caps, "caps"),
    (Layer::NoNewPrivs, "no_new_privs"),
    (Layer::Landlock, "landlock"),
    (Layer::Scopes, "landlock_scopes"),
    (Layer::Seccomp, "seccomp"),
    (Layer::NotDumpable, "not_dumpable"),
];

impl Layers {
    /// Record a layer.
    pub fn add(&mut self, layer: Layer) {
        self.0 |= 1 << layer as u8;
    }

    /// Whether a layer is in force.
    pub fn has(self, layer: Layer) -> bool {
        self.0 & 1 << layer as u8 != 0
    }

    /// For the wire.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From the wire; unknown bits are dropped.
    pub fn from_bits(bits: u64) -> Layers {
        Layers(bits & ((1 << ALL.len()) - 1), 0)
    }

    /// Note caches that could not be had, a bit each.
    pub fn without_caches(&mut self, numbers: u64) {
        self.1 |= numbers;
    }

    /// The caches that could not be had.
    pub fn caches_missing(self) -> u64 {
        self.1
    }

    /// The mode that these layers amount to, of a jail that got as far as its command.
    pub fn mode(self) -> Mode {
        if !self.has(Layer::UserNs) {
            Mode::Lite
        } else if self.has(Layer::Pivot) && self.has(Layer::Proc) {
            Mode::Full
        } else {
            Mode::Nested
        }
    }

    /// Names in the order they are applied.
    pub fn names(self) -> Vec<String> {
        ALL.iter().filter(|(l, _)| self.has(*l)).map(|(_, n)| (*n).to_owned()).collect()
    }
}

/// Layers without which the command is not to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Required {
    layers: u64,
    /// Least Landlock ABI; 0 when none is asked for.
    abi: i32,
}

impl Required {
    /// What these add up to.
    pub fn of(needs: &[Need]) -> Required {
        let mut all = Required::default();
        for need in needs {
            all.abi = all.abi.max(need.abi().unwrap_or(0));
            for (layer, name) in ALL {
                // The scopes came with ABI 6, and there need not be anything to veil.
                let in_full = !matches!(layer, Layer::Scopes | Layer::ReadOnlyOverlay);
                if need.layer() == name || need.layer() == FULL && in_full {
                    all.layers |= 1 << layer as u8;
                }
            }
        }
        all
    }

    /// The same for a jail in which nothing is shown read-only but what is aj's own.
    #[must_use]
    pub fn without_veils(self) -> Required {
        Required { layers: self.layers & !(1 << Layer::ReadOnlyOverlay as u8), ..self }
    }

    /// What is missing, by name, with `kernel`'s Landlock ABI.
    pub fn missing(self, layers: Layers, kernel: i32) -> Vec<String> {
        let lacks = |layer: Layer| self.layers & 1 << layer as u8 != 0 && !layers.has(layer);
        let mut missing: Vec<String> =
            ALL.iter().filter(|(l, _)| lacks(*l)).map(|(_, n)| (*n).to_owned()).collect();
        let applied = if layers.has(Layer::Landlock) { kernel.min(landlock::NEWEST) } else { 0 };
        if applied < self.abi {
            missing.retain(|name| name != "landlock");
            missing.push(format!("landlock:{}", self.abi));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_one_bit_and_one_name() {
        let mut all = Layers::default();
        for (i, (layer, _)) in ALL.iter().enumerate() {
            assert_eq!(*layer as usize, i);
            all.add(*layer);
        }
        let names: std::collections::BTreeSet<_> = all.names().into_iter().collect();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(Layers::from_bits(all.to_bits()), all);
        assert_eq!(all.names(), crate::policy::require::LAYERS, "as `--require` knows them");
    }

    fn needs(text: &str) -> Required {
        Required::of(&text.split(',').map(|t| crate::policy::require::parse(t).unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_required_is_missed_by_name() {
        let with = |all: &[Layer]| {
            let mut layers = Layers::default();
            all.iter().for_each(|l| layers.add(*l));
            layers
        };
        let lock = with(&[Layer::Landlock]);
        assert_eq!(Required::default().missing(Layers::default(), 0), Vec::<String>::new());
        assert_eq!(needs("landlock,netns").missing(lock, 3), ["netns"]);
        assert_eq!(needs("landlock:4").missing(lock, 3), ["landlock:4"]);
        assert_eq!(needs("landlock:4").missing(lock, 4), Vec::<String>::new());
        assert_eq!(needs("landlock:4").missing(Layers::default(), 7), ["landlock:4"], "there, and not used");
        assert_eq!(needs("landlock,landlock:2").missing(Layers::default(), 1), ["landlock:2"], "once");
        assert_eq!(needs("ro_overlay").without_veils().missing(lock, 2), Vec::<String>::new());
        let full = Layers::from_bits(u64::MAX);
        assert_eq!(needs("full").missing(full, 5), Vec::<String>::new());
        let lacking = needs("full").missing(lock, 6);
        assert!(lacking.len() == 15 && !lacking.contains(&"landlock_scopes".to_owned()), "{lacking:?}");
    }

    #[test]
    fn a_mode_is_known_by_its_layers() {
        let all = Layers::from_bits(u64::MAX).to_bits();
        let less = |layer: Layer| Layers::from_bits(all & !(1 << layer as u8)).mode();
        assert_eq!(Layers::from_bits(all).mode(), Mode::Full);
        assert_eq!((less(Layer::Proc), less(Layer::Pivot)), (Mode::Nested, Mode::Nested));
        assert_eq!((less(Layer::UserNs), less(Layer::Landlock)), (Mode::Lite, Mode::Full));
    }
}
