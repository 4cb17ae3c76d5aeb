//! The layers of a jail, and the names of what can go wrong while it starts.

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

const ALL: [(Layer, &str); 17] = [
    (Layer::UserNs, "userns"),
    (Layer::MountNs, "mountns"),
    (Layer::PidNs, "pidns"),
    (Layer::IpcNs, "ipcns"),
    (Layer::UtsNs, "utsns"),
    (Layer::CgroupNs, "cgroupns"),
    (Layer::NetNs, "netns"),
    (Layer::Pivot, "pivot_root"),
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

    /// Names in the order they are applied.
    pub fn names(self) -> Vec<String> {
        ALL.iter().filter(|(l, _)| self.has(*l)).map(|(_, n)| (*n).to_owned()).collect()
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
    }
}
