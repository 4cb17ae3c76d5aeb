//! What a row of the table can say, and the checks that look at arguments.

use super::{Level, Options};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The kernel performs it.
    Allow,
    /// The kernel performs it and logs it (level `Log` only).
    Log,
    /// It fails with this errno and is not performed.
    Errno(u16),
    /// It depends on its arguments.
    ByArgument(Check),
}

/// A decision by argument. Each compares exactly the bits that the kernel uses: an `int` is its low
/// 32 bits, whatever a program puts above them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// `clone`, `unshare`: no namespace flags, else EPERM.
    Clone,
    /// `socket`, `socketpair`: families and protocols of a list, else EAFNOSUPPORT or EPROTONOSUPPORT.
    Socket,
    /// `ioctl`: no typing into terminals and no change of line discipline, else EPERM.
    Ioctl,
    /// `personality`: a query, or harmless flags, else EPERM.
    Personality,
    /// `prctl`: anything but rewriting the memory map and the secure bits, else EPERM.
    Prctl,
    /// `arch_prctl`: the thread's own registers and features, else EPERM.
    ArchPrctl,
    /// `mknod`: anything but a device, whiteouts of overlays included, else EPERM.
    Mknod,
    /// `mknodat`: the same, one argument further on.
    Mknodat,
    /// `renameat2`: no whiteout in the old place, else EINVAL, as on most file systems.
    Rename,
    /// `prlimit64`: no limit of pid 1's, else EPERM.
    Prlimit,
}

/// One call: number, name, what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row(pub(super) u32, pub(super) &'static str, pub(super) Entry);

/// What a row says before the options are known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Allowed,
    Refused(i32),
    /// Refused unless nested user namespaces are allowed.
    Nested(i32),
    Checked(Check),
    /// Checked unless nested user namespaces are allowed.
    NestedChecked(Check),
}

/// Part of the allow-list.
pub(super) const ALLOWED: Entry = Entry::Allowed;
/// Known to be dangerous or to concern the whole machine.
pub(super) const DENIED: Entry = Entry::Refused(libc::EPERM);
/// Refused in the way a kernel without it would: its users have a fallback for that.
pub(super) const ABSENT: Entry = Entry::Refused(libc::ENOSYS);
/// As [`DENIED`], but a program that makes its own sandbox needs it.
pub(super) const NESTED: Entry = Entry::Nested(libc::EPERM);
/// As [`ABSENT`], but a program that makes its own sandbox may use it.
pub(super) const NESTED_ABSENT: Entry = Entry::Nested(libc::ENOSYS);
pub(super) const CLONE: Entry = Entry::NestedChecked(Check::Clone);
pub(super) const SOCKET: Entry = Entry::Checked(Check::Socket);
pub(super) const IOCTL: Entry = Entry::Checked(Check::Ioctl);
pub(super) const PERSONALITY: Entry = Entry::Checked(Check::Personality);
pub(super) const PRCTL: Entry = Entry::Checked(Check::Prctl);
// A sandbox of its own may need whiteouts: layers of containers are full of them.
#[cfg(any(target_arch = "x86_64", test))]
pub(super) const MKNOD: Entry = Entry::NestedChecked(Check::Mknod);
pub(super) const MKNODAT: Entry = Entry::NestedChecked(Check::Mknodat);
pub(super) const RENAME: Entry = Entry::NestedChecked(Check::Rename);
pub(super) const PRLIMIT: Entry = Entry::Checked(Check::Prlimit);
#[cfg(any(target_arch = "x86_64", test))]
pub(super) const ARCH_PRCTL: Entry = Entry::Checked(Check::ArchPrctl);

impl Entry {
    pub(super) const fn rule(self, options: Options) -> Rule {
        match self {
            Entry::Allowed => Rule::Allow,
            Entry::Nested(_) | Entry::NestedChecked(_) if options.nested_userns => Rule::Allow,
            Entry::Refused(errno) | Entry::Nested(errno) => refusal(errno, options.level),
            Entry::Checked(check) | Entry::NestedChecked(check) => Rule::ByArgument(check),
        }
    }
}

/// How `level` refuses.
const fn refusal(errno: i32, level: Level) -> Rule {
    match level {
        Level::Standard | Level::Strict => Rule::Errno(errno as u16),
        Level::Log => Rule::Log,
    }
}

/// One step of a check, which becomes one instruction. A check is read from the top; a step whose
/// test holds leaves the check or skips, otherwise the next one follows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Look at the low 32 bits of an argument.
    Low(u32),
    /// Look at its high 32 bits.
    High(u32),
    /// Keep only these bits.
    Keep(u32),
    /// If the value is this one.
    If(u32, Then),
    /// If the value is not this one.
    IfNot(u32, Then),
    /// If the value has any of these bits.
    IfAny(u32, Then),
    /// If the value is less.
    IfBelow(u32, Then),
    /// In any case.
    Finally(Then),
}

/// What a step does when its test holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    Allow,
    Refuse(i32),
    /// Pass over this many steps. Not for [`Step::Finally`].
    Skip(u8),
}

impl Then {
    /// Where it leads when it leaves the check.
    pub(super) const fn rule(self, level: Level) -> Rule {
        match self {
            Then::Allow => Rule::Allow,
            Then::Refuse(errno) => refusal(errno, level),
            Then::Skip(_) => panic!("a skip stays in the check"),
        }
    }
}

use Step::{Finally, High, If, IfAny, IfBelow, IfNot, Keep, Low};
use Then::{Allow, Refuse, Skip};

/// `CLONE_NEW*`. `CLONE_NEWTIME` is among the signal bits of `clone`, where no signal reaches it.
pub(super) const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32
    | 0x80;

/// `clone` ignores the high word and `unshare` refuses any bit in it; a namespace bit there is
/// somebody probing for a filter that compares the wrong width.
const CLONE_STEPS: &[Step] = &[
    Low(0),
    IfAny(NAMESPACES, Refuse(libc::EPERM)),
    High(0),
    IfAny(NAMESPACES, Refuse(libc::EPERM)),
    Finally(Allow),
];

const SOCK_TYPE_MASK: u32 = 0xf;
const SOCK_PACKET: u32 = 10;
const NO_FAMILY: Then = Refuse(libc::EAFNOSUPPORT);
const NO_PROTOCOL: Then = Refuse(libc::EPROTONOSUPPORT);

/// Families reach deep into rarely used code and load modules on demand (AF_ALG, AF_VSOCK,
/// AF_PACKET), and so do the protocols of INET (SCTP, DCCP, SMC, L2TP): both are lists.
const SOCKET_STEPS: &[Step] = &[
    Low(0),
    If(libc::AF_UNIX as u32, Allow),
    If(libc::AF_INET as u32, Skip(5)),
    If(libc::AF_INET6 as u32, Skip(4)),
    IfNot(libc::AF_NETLINK as u32, NO_FAMILY),
    Low(2),
    IfNot(libc::NETLINK_ROUTE as u32, NO_PROTOCOL),
    Finally(Allow),
    // The kernel turns an INET socket of this type into one of AF_PACKET.
    Low(1),
    Keep(SOCK_TYPE_MASK),
    If(SOCK_PACKET, NO_FAMILY),
    Low(2),
    If(libc::IPPROTO_IP as u32, Allow),
    If(libc::IPPROTO_TCP as u32, Allow),
    If(libc::IPPROTO_UDP as u32, Allow),
    If(libc::IPPROTO_ICMP as u32, Allow),
    If(libc::IPPROTO_ICMPV6 as u32, Allow),
    If(libc::IPPROTO_UDPLITE as u32, Allow),
    If(libc::IPPROTO_MPTCP as u32, Allow),
    // Without capabilities the kernel answers EPERM, which is what programs expect.
    If(libc::IPPROTO_RAW as u32, Allow),
    Finally(NO_PROTOCOL),
];

const STRICT_SOCKET_STEPS: &[Step] = &[
    Low(0),
    If(libc::AF_UNIX as u32, Allow),
    IfNot(libc::AF_NETLINK as u32, NO_FAMILY),
    Low(2),
    IfNot(libc::NETLINK_ROUTE as u32, NO_PROTOCOL),
    Finally(Allow),
];

const TIOCLINUX: u32 = 0x541C;

/// The kernel takes the request as an `unsigned int`: a compare of 64 bits would be passed by
/// setting a high one (CVE-2019-7303).
const IOCTL_STEPS: &[Step] = &[
    Low(1),
    If(libc::TIOCSTI as u32, Refuse(libc::EPERM)),
    If(TIOCLINUX, Refuse(libc::EPERM)),
    // Line disciplines load modules on demand, and nothing but modem daemons sets one.
    If(libc::TIOCSETD as u32, Refuse(libc::EPERM)),
    Finally(Allow),
];

/// Debuggers and sanitizers turn address randomization off; `setarch` changes what `uname` says.
pub(super) const PERSONAS: u32 = 0x0040000 // ADDR_NO_RANDOMIZE
    | 0x0020000 // UNAME26
    | 0x0000008; // PER_LINUX32

const PERSONALITY_STEPS: &[Step] = &[
    Low(0),
    If(u32::MAX, Allow), // the query
    IfAny(!PERSONAS, Refuse(libc::EPERM)),
    Finally(Allow),
];

const PRCTL_STEPS: &[Step] = &[
    Low(0),
    If(libc::PR_SET_MM as u32, Refuse(libc::EPERM)),
    If(libc::PR_SET_SECUREBITS as u32, Refuse(libc::EPERM)),
    Finally(Allow),
];

const ARCH_PRCTL_STEPS: &[Step] = &[
    Low(0),
    IfBelow(0x1001, Refuse(libc::EPERM)),
    IfBelow(0x1005, Allow), // ARCH_{SET,GET}_{FS,GS}
    IfBelow(0x1011, Refuse(libc::EPERM)),
    IfBelow(0x1013, Allow), // ARCH_{GET,SET}_CPUID
    IfBelow(0x1021, Refuse(libc::EPERM)),
    IfBelow(0x1024, Allow), // ARCH_{GET_XCOMP_SUPP,GET_XCOMP_PERM,REQ_XCOMP_PERM}: AMX
    IfBelow(0x4001, Refuse(libc::EPERM)),
    IfBelow(0x4004, Allow), // ARCH_{GET_UNTAG_MASK,ENABLE_TAGGED_ADDR,GET_MAX_TAG_BITS}: sanitizers
    IfBelow(0x5001, Refuse(libc::EPERM)),
    IfBelow(0x5006, Allow), // ARCH_SHSTK_*: shadow stacks
    Finally(Refuse(libc::EPERM)),
];

/// The bits that tell devices from all other kinds of files: `S_IFCHR` and `S_IFBLK` have the first of
/// them alone. A whiteout is such a device, which no capability is needed for since Linux 5.8.
const DEVICE_BITS: u32 = libc::S_IFCHR | libc::S_IFREG;

const MKNOD_STEPS: &[Step] =
    &[Low(1), Keep(DEVICE_BITS), If(libc::S_IFCHR, Refuse(libc::EPERM)), Finally(Allow)];

const MKNODAT_STEPS: &[Step] =
    &[Low(2), Keep(DEVICE_BITS), If(libc::S_IFCHR, Refuse(libc::EPERM)), Finally(Allow)];

/// Landlock, which forbids devices as well, does not look at this flag.
const RENAME_STEPS: &[Step] = &[Low(4), IfAny(libc::RENAME_WHITEOUT, Refuse(libc::EINVAL)), Finally(Allow)];

/// Pid 1 of a jail is of the same user as what runs in it, and limits of a process are for whoever has its user: by
/// one of processor time a command could end the jail of all the others, which a signal from inside cannot, and
/// by one of descriptors keep anybody from joining it.
const INIT: u32 = 1;

const PRLIMIT_STEPS: &[Step] = &[
    Low(0),
    IfNot(INIT, Allow),
    // A new limit, or a look at the old one.
    Low(2),
    IfNot(0, Refuse(libc::EPERM)),
    High(2),
    IfNot(0, Refuse(libc::EPERM)),
    Finally(Allow),
];

impl Check {
    pub(super) const fn steps(self, level: Level) -> &'static [Step] {
        match (self, level) {
            (Check::Clone, _) => CLONE_STEPS,
            (Check::Socket, Level::Strict) => STRICT_SOCKET_STEPS,
            (Check::Socket, _) => SOCKET_STEPS,
            (Check::Ioctl, _) => IOCTL_STEPS,
            (Check::Personality, _) => PERSONALITY_STEPS,
            (Check::Prctl, _) => PRCTL_STEPS,
            (Check::ArchPrctl, _) => ARCH_PRCTL_STEPS,
            (Check::Mknod, _) => MKNOD_STEPS,
            (Check::Mknodat, _) => MKNODAT_STEPS,
            (Check::Rename, _) => RENAME_STEPS,
            (Check::Prlimit, _) => PRLIMIT_STEPS,
        }
    }
}
