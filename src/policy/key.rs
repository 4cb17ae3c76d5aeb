//! The settings by name: one list that files, flags, tables and messages share.

/// A setting. Its name in files is [`Key::name`], its flag [`Key::flag`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Named bundle of values.
    Preset,
    /// The weakest mode that the user puts up with.
    Mode,
    /// How the workspace is shown.
    Workspace,
    /// The network.
    Net,
    /// The system call filter.
    Seccomp,
    /// Nested user namespaces.
    NestedUserns,
    /// Uid 0 inside.
    AsRoot,
    /// The caller's tool chains.
    Tools,
    /// The caller's package caches.
    Caches,
    /// Wall-clock limit.
    Timeout,
    /// Time between SIGTERM and SIGKILL.
    Grace,
    /// Memory limit.
    Mem,
    /// CPU limit.
    Cpus,
    /// Limit of processes and threads.
    Pids,
    /// Limit of open files.
    Nofile,
    /// Size of the jail's tmpfs.
    Tmp,
    /// Limit of what is written to disk.
    Disk,
    /// Where what is written is held while the command runs.
    Storage,
    /// Limit of bytes read in a second.
    IoRead,
    /// Limit of bytes written in a second.
    IoWrite,
    /// Report limits that cannot be enforced instead of refusing.
    BestEffort,
    /// Survive power loss.
    Durable,
    /// Further read-only directories.
    Ro,
    /// Further writable directories.
    Rw,
    /// What is shown although it is hidden by custom.
    Show,
    /// What is hidden in the tree.
    Hide,
    /// Layers that must be in force.
    Require,
    /// Variables set.
    Env,
    /// Variables copied from the caller.
    Pass,
}

impl Key {
    /// Number of settings that hold one value: the keys before [`Key::Ro`].
    pub const SCALARS: usize = Key::Ro as usize;

    /// Every key, in the order of tables.
    pub const ALL: [Key; 29] = [
        Key::Preset,
        Key::Mode,
        Key::Workspace,
        Key::Net,
        Key::Seccomp,
        Key::NestedUserns,
        Key::AsRoot,
        Key::Tools,
        Key::Caches,
        Key::Timeout,
        Key::Grace,
        Key::Mem,
        Key::Cpus,
        Key::Pids,
        Key::Nofile,
        Key::Tmp,
        Key::Disk,
        Key::Storage,
        Key::IoRead,
        Key::IoWrite,
        Key::BestEffort,
        Key::Durable,
        Key::Ro,
        Key::Rw,
        Key::Show,
        Key::Hide,
        Key::Require,
        Key::Env,
        Key::Pass,
    ];

    /// The name in files, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Key::Preset => "preset",
            Key::Mode => "mode",
            Key::Workspace => "workspace",
            Key::Net => "net",
            Key::Seccomp => "seccomp",
            Key::NestedUserns => "nested_userns",
            Key::AsRoot => "as_root",
            Key::Tools => "tools",
            Key::Caches => "caches",
            Key::Timeout => "timeout",
            Key::Grace => "grace",
            Key::Mem => "mem",
            Key::Cpus => "cpus",
            Key::Pids => "pids",
            Key::Nofile => "nofile",
            Key::Tmp => "tmp",
            Key::Disk => "disk",
            Key::Storage => "storage",
            Key::IoRead => "io_read",
            Key::IoWrite => "io_write",
            Key::BestEffort => "best_effort",
            Key::Durable => "durable",
            Key::Ro => "ro",
            Key::Rw => "rw",
            Key::Show => "show",
            Key::Hide => "hide",
            Key::Require => "require",
            Key::Env => "env",
            Key::Pass => "pass",
        }
    }

    /// The flag that sets it.
    pub fn flag(self) -> &'static str {
        match self {
            Key::Preset => "--preset",
            Key::Mode => "--mode",
            Key::Workspace => "--rw or --ro",
            Key::Net => "--net",
            Key::Seccomp => "--seccomp",
            Key::NestedUserns => "--nested-userns",
            Key::AsRoot => "--as-root",
            Key::Tools => "--tools",
            Key::Caches => "--caches",
            Key::Timeout => "--timeout",
            Key::Grace => "--grace",
            Key::Mem => "--mem",
            Key::Cpus => "--cpus",
            Key::Pids => "--pids",
            Key::Nofile => "--nofile",
            Key::Tmp => "--tmp",
            Key::Disk => "--disk",
            Key::Storage => "--storage",
            Key::IoRead => "--io-read",
            Key::IoWrite => "--io-write",
            Key::BestEffort => "--best-effort",
            Key::Durable => "--durable",
            Key::Ro => "--ro",
            Key::Rw => "--rw",
            Key::Show => "--show",
            Key::Hide => "--hide",
            Key::Require => "--require",
            Key::Env => "--env",
            Key::Pass => "--pass",
        }
    }

    /// Whether a value of it can take something away from what the jail may do.
    pub fn may_narrow(self) -> bool {
        !matches!(self, Key::Ro | Key::Rw | Key::Show | Key::Env | Key::Pass)
    }

    /// The key of that name.
    pub fn from_name(name: &str) -> Option<Key> {
        Key::ALL.into_iter().find(|k| k.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_variants() {
        // Scalars index arrays by discriminant; a key missing from the list would never be shown.
        for (i, key) in Key::ALL.into_iter().enumerate() {
            assert_eq!(key as usize, i);
            assert_eq!(Key::from_name(key.name()), Some(key));
        }
        assert_eq!(Key::Pass as usize, Key::ALL.len() - 1);
    }
}
