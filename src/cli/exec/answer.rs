//! What `--json` and the last of `--events` say of a run.

use crate::ops::exec::Report;
use crate::schema::exec::{FORMAT, Result as Answer, Truncated};
use crate::schema::jail::{Excerpt, Outcome};

/// The answer; without `output` where that has been told.
pub(super) fn answer(report: &Report, exit_code: u8, output: bool) -> Answer {
    let ended = &report.ended;
    let told = |excerpt: &Excerpt| match output {
        true => excerpt.text(),
        false => (String::new(), None),
    };
    let (stdout, stdout_base64) = told(&ended.stdout);
    let (stderr, stderr_base64) = told(&ended.stderr);
    let truncated = Truncated { stdout: ended.stdout.is_truncated(), stderr: ended.stderr.is_truncated() };
    let (signal, killed_by) = match ended.outcome {
        Outcome::Signaled { signal } if ended.over_disk => (Some(signal), Some("disk")),
        Outcome::Signaled { signal } => (Some(signal), Some("signal")),
        Outcome::Interrupted { signal } => (Some(signal), Some("user")),
        Outcome::TimedOut => (None, Some("timeout")),
        Outcome::OutOfMemory => (None, Some("memory")),
        Outcome::Exited { .. } | Outcome::Failed { .. } => (None, None),
    };
    Answer {
        format_version: FORMAT,
        jail_id: report.id.to_string(),
        workspace: report.workspace.clone(),
        truncated: output.then_some(truncated),
        stdout: output.then_some(stdout),
        stderr: output.then_some(stderr),
        stdout_base64,
        stderr_base64,
        exit_code,
        signal,
        killed_by,
        timed_out: ended.outcome == Outcome::TimedOut,
        oom_killed: ended.outcome == Outcome::OutOfMemory,
        duration_ms: ended.usage.wall_ms,
        stats: ended.usage,
        files_changed: report.files_changed,
        policy: report.policy.clone(),
        layers: ended.layers.names(),
        warnings: report.warnings.clone(),
    }
}
