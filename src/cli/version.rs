//! `aj version`.

use serde::Serialize;

use super::error::CmdResult;
use super::exit;
use super::ui::Ui;
use crate::schema;

const EXAMPLES: &str = "\
Examples:
  aj version
  aj version --json | jq -r .version";

/// Show the version of aj and of the records it writes
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {}

/// Version of the answer.
const FORMAT: &str = "0.1";

/// The answer of `aj version --json`.
#[derive(Serialize)]
struct Version {
    format_version: &'static str,
    version: &'static str,
    commit: Option<&'static str>,
    target: String,
    features: &'static [&'static str],
    record_format: u32,
}

fn version() -> Version {
    Version {
        format_version: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("AJ_COMMIT").filter(|c| !c.is_empty()),
        target: target(),
        features: &[],
        record_format: schema::jail::FORMAT,
    }
}

fn target() -> String {
    let libc = if cfg!(target_env = "musl") {
        "musl"
    } else if cfg!(target_env = "gnu") {
        "gnu"
    } else {
        "other"
    };
    format!("{}-{}-{libc}", std::env::consts::ARCH, std::env::consts::OS)
}

pub(super) fn run(ui: &Ui, _args: Args) -> CmdResult {
    Ok(show(ui))
}

/// The answer, also of `aj -V --json`.
pub(super) fn show(ui: &Ui) -> exit::Exit {
    let v = version();
    if ui.json {
        ui.document(&v);
    } else {
        let commit = v.commit.map(|c| format!(", commit {c}")).unwrap_or_default();
        ui.line(&format!("aj {} ({}{commit}, records {})", v.version, v.target, v.record_format));
    }
    exit::Exit(exit::OK)
}
