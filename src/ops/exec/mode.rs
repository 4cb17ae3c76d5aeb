//! The mode that a run ended up in, and what it does without.

use crate::jail::confine::REQUIRE;
use crate::jail::status::{Layer, Layers};
use crate::jail::supervise::Ended;
use crate::policy::settings::Mode;

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
         all processes of this machine, which it {signals}, and could change the permissions and times of your \
         files; files are kept apart by Landlock alone, and sockets by the system call filter; `--pids` and \
         `--tmp` had no effect"
    )
}

/// Every jail that runs its command has at least this one.
fn is_known(layers: Layers) -> bool {
    layers.has(Layer::NotDumpable)
}

/// The layers whose absence kept a command from running, from the step that failed.
pub fn missing_layers(step: &str) -> Option<&str> {
    step.strip_prefix(REQUIRE)?.strip_prefix(" `")?.strip_suffix('`')
}
