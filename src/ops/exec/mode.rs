//! The mode that a run ended up in, and what it does without.

use nix::errno::Errno;

use crate::jail::confine::REQUIRE;
use crate::jail::spec::Spec;
use crate::jail::status::{Layer, Layers};
use crate::jail::supervise::Ended;
use crate::policy::settings::{Mode, Net};
use crate::sys::{self, landlock, probe};

/// The mode, by name; `None` when the command never ran.
pub(super) fn used(ended: &Ended) -> Option<String> {
    is_known(ended.layers).then(|| ended.layers.mode().to_string())
}

/// A line for a run in a weaker mode than `full`: what was not protected.
pub(super) fn line(ended: &Ended) -> Option<String> {
    match ended.layers.mode() {
        _ if !is_known(ended.layers) => return None,
        Mode::Full => return None,
        Mode::Lite => return Some(without_namespaces(ended.layers)),
        Mode::Nested => {}
    }
    let mut lacks = Vec::new();
    if !ended.layers.has(Layer::Proc) {
        lacks.push(
            "its /proc was the one around it, read-only: it could see the processes there, their command lines \
             and their network addresses, but not signal, trace or read them",
        );
    }
    if !ended.layers.has(Layer::Pivot) {
        lacks.push("the root around it lay below its own, out of reach without a capability");
    }
    Some(format!("mode nested: {}", lacks.join("; ")))
}

fn without_namespaces(layers: Layers) -> String {
    let signals = if layers.has(Layer::Scopes) {
        "could not signal or trace"
    } else {
        "could signal, though not trace (Landlock of ABI 6 forbids it),"
    };
    format!(
        "mode lite: no namespaces: the command saw the names and sizes of all files and the command lines of \
         all processes of this machine, which it {signals}, could change the permissions and times of your \
         files and the priorities of your processes, and reach your System V shared memory; files are kept apart by \
         Landlock alone, sockets and queues by the system call filter; `--pids` and `--tmp` had no effect"
    )
}

/// A line for a run on a kernel without Landlock, or with one that keeps less apart than this run needs.
pub(super) fn second_lock(spec: &Spec, layers: Layers) -> Option<String> {
    // Asked once more, because the answer 0 does not say why.
    let refused = (spec.landlock_abi == 0).then(|| probe::landlock_abi().err()).flatten();
    lock_line(spec.landlock_abi, spec.net, spec.nested_userns, layers, refused)
}

fn lock_line(
    abi: i32,
    net: Net,
    nested_userns: bool,
    layers: Layers,
    refused: Option<sys::Error>,
) -> Option<String> {
    // The mode lite, which is nothing without it, has a line of its own and makes no such socket.
    if !is_known(layers) || layers.mode() == Mode::Lite {
        return None;
    }
    let mut lacks = Vec::new();
    let no = no_landlock(refused);
    // Asked for with the nested user namespaces, which it would forbid.
    if abi < landlock::OLDEST && !nested_userns {
        lacks.push(format!(
            "{no}, so the mounts alone kept the host's files away (`--require landlock` would have refused)"
        ));
    }
    if abi < landlock::SCOPES && net == Net::Host {
        lacks.push(
            "with `--net host` and no Landlock of ABI 6 the command could connect to abstract sockets of this \
             machine (`--require landlock_scopes` would have refused)"
                .to_owned(),
        );
    }
    (!lacks.is_empty()).then(|| lacks.join("; "))
}

/// Why there is no Landlock that is used: a filter around us may refuse what the kernel has.
pub(super) fn no_landlock(refused: Option<sys::Error>) -> String {
    match refused {
        Some(e) if matches!(e.errno, Errno::EPERM | Errno::EACCES) => format!(
            "Landlock is refused here ({}), by a system call filter around aj and not by this kernel",
            e.name()
        ),
        Some(e) if e.errno == Errno::EOPNOTSUPP => "Landlock is not switched on in this kernel".to_owned(),
        _ => "this kernel has no Landlock of ABI 2 or later".to_owned(),
    }
}

/// Every jail that runs its command has at least this one.
fn is_known(layers: Layers) -> bool {
    layers.has(Layer::NotDumpable)
}

/// The layers whose absence kept a command from running, from the step that failed.
pub fn missing_layers(step: &str) -> Option<&str> {
    step.strip_prefix(REQUIRE)?.strip_prefix(" `")?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_where_the_kernel_has_less_landlock_than_the_run_needs() {
        let all = Layers::from_bits(u64::MAX);
        let mut lite = Layers::default();
        lite.add(Layer::NotDumpable);
        let said = |abi, net, nested| lock_line(abi, net, nested, all, None);
        for abi in [0, 1] {
            assert!(said(abi, Net::None, false).unwrap().contains("--require landlock`"), "{abi}");
            assert_eq!(said(abi, Net::None, true), None, "none is asked for");
        }
        assert_eq!((said(2, Net::None, false), said(6, Net::Host, false)), (None, None));
        assert!(said(5, Net::Host, true).unwrap().contains("abstract sockets"));
        assert_eq!(said(0, Net::Host, false).unwrap().matches("would have refused").count(), 2);
        let filtered = |errno| {
            let refused = sys::Error::new("landlock_create_ruleset", "", errno);
            lock_line(0, Net::None, false, all, Some(refused)).unwrap()
        };
        assert!(
            filtered(Errno::EPERM).contains("system call filter") && filtered(Errno::EPERM).contains("EPERM")
        );
        assert!(filtered(Errno::EOPNOTSUPP).contains("not switched on"));
        assert!(filtered(Errno::ENOSYS).contains("this kernel has no Landlock"));
        assert_eq!(lock_line(5, Net::Host, false, lite, None), None);
        assert_eq!(lock_line(0, Net::None, false, Layers::default(), None), None, "nothing ran");
    }
}
