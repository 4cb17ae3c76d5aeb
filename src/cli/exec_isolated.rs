//! `aj exec --isolated`.

use super::error::{CmdResult, CommandError};
use super::exit;
use super::ui::Ui;
use crate::ops::exec::Request;
use crate::ops::workspaces::isolated::Isolated;

/// Run it in a fork of the workspace that it names.
pub(super) fn run(ui: &Ui, request: Request, how: (bool, bool), apply: Option<bool>) -> CmdResult {
    let failed = |e| CommandError { exit: exit::AJ_FAILED, ..CommandError::from(e) };
    let isolated = Isolated::begin(request.again.as_deref().unwrap_or_default()).map_err(failed)?;
    let request = Request { again: Some(isolated.word().to_owned()), alone: true, ..request };
    let done = super::exec::run_request(ui, &request, how, apply);
    match isolated.end(done.is_err(), ui) {
        Ok(None) => {}
        Ok(Some(name)) => ui.status(&format!(
            "what it changed is in workspace `{name}`: see it with `aj diff {name}`, keep it with `aj promote {name}`"
        )),
        // The command has an answer of its own.
        Err(e) => ui.warn(&format!("the fork it ran in is left behind: {e}")),
    }
    done
}
