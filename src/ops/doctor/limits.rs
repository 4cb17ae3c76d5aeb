//! What can hold limits here: the whole program is asked to, and then each place that it could use.

use std::time::{Duration, Instant};

use crate::base::id::{Id, Kind};
use crate::host::cgroups::Controller;
use crate::host::facts::Tried;
use crate::jail::limits::{self, Backend, Limits, Wants};

/// What is tried by a whole jail.
pub(super) const TRIED: [&str; 2] = ["--mem", "64M"];

/// As long as nothing takes that answers.
const LONG: Duration = Duration::from_secs(5);

/// `whole` is what came of a jail with [`TRIED`]. Beside it, for each kind of limit what would hold it; a
/// group of cgroup v2 is made for that and removed again.
pub(super) fn limits(whole: &Tried) -> Tried {
    let hierarchies = limits::here();
    let wants = [
        (Controller::Memory, Wants { mem: Some(64 << 20), ..Wants::default() }),
        (Controller::Cpu, Wants { cpu_millis: Some(1000), ..Wants::default() }),
        (Controller::Pids, Wants { pids: Some(4096), ..Wants::default() }),
        (Controller::Io, Wants { io_read: Some(1 << 30), ..Wants::default() }),
    ];
    let (mut held, mut missing) = (Vec::<(&str, Backend)>::new(), Vec::<(&str, String)>::new());
    let began = Instant::now();
    for (controller, wants) in wants {
        let name = controller.v2().unwrap_or_default();
        if let Some((_, why)) = missing.last().filter(|_| began.elapsed() > LONG) {
            // Whoever was asked does not answer, and would not now.
            missing.push((name, why.clone()));
            continue;
        }
        // The name of a scope is not free again at once.
        let Ok(id) = Id::random(Kind::Jail) else { return Tried::Skipped("no random bytes".to_owned()) };
        match Limits::prepare(&wants, &id, &hierarchies) {
            Ok(group) => held.push((name, group.backend())),
            Err(why) => missing.push((name, why.why)),
        }
    }
    let of = |backend| -> Vec<&str> { held.iter().filter(|(_, b)| *b == backend).map(|(n, _)| *n).collect() };
    let mut seen = Vec::new();
    for backend in [Backend::V2, Backend::Scope, Backend::V1] {
        let names = of(backend);
        if !names.is_empty() {
            seen.push(format!("{} holds {}", backend.name(), names.join(", ")));
        }
    }
    for (name, why) in &missing {
        seen.push(format!("no {name}: {why}"));
    }
    match whole {
        Tried::Worked(_) if missing.is_empty() => {
            Tried::Worked(format!("`aj exec {} -- true` worked; {}", TRIED.join(" "), seen.join("; ")))
        }
        // A reason that all of them share is said once.
        _ if held.is_empty() => {
            Tried::Weak(missing.into_iter().next().map(|(_, why)| why).unwrap_or_default())
        }
        Tried::Worked(_) => Tried::Weak(seen.join("; ")),
        other => Tried::Weak(format!("{}; {}", other.text(), seen.join("; "))),
    }
}
