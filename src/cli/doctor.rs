//! `aj doctor`.

use super::error::CmdResult;
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::ops::doctor;
use crate::schema::doctor::{Check, Document, Status};

const EXAMPLES: &str = "\
Examples:
  aj doctor
  aj doctor --json | jq -r '.checks[] | select(.status == \"fail\") | .fix[]'";

/// Try everything a jail is made of, and say how to mend what does not work
///
/// Each mechanism is tried for real in a process of its own with a time limit; nothing on this machine
/// is changed, and no network is used. A warning means that jails work but are weaker than they could
/// be. Ends with 69 when the full mode is impossible here, whether or not a weaker one (`aj exec --mode`)
/// works.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {}

pub(super) fn run(ui: &Ui, _args: Args) -> CmdResult {
    let report = doctor::doctor();
    if ui.json {
        ui.document(&report);
    } else {
        show(ui, &report);
    }
    Ok(Exit(if report.mode.as_deref() == Some("full") { exit::OK } else { exit::UNAVAILABLE }))
}

fn show(ui: &Ui, report: &Document) {
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|c| vec![c.status.word().to_owned(), c.id.clone(), c.evidence.clone()])
        .collect();
    ui.table(&["status", "check", "evidence"], &rows);
    for text in advice(&report.checks) {
        ui.line("");
        ui.line(&text);
    }
    ui.line("");
    ui.line(&verdict(report));
}

fn verdict(report: &Document) -> String {
    let bad = |c: &&Check| c.required && c.status == Status::Fail;
    let failed: Vec<&str> = report.checks.iter().filter(bad).map(|c| c.id.as_str()).collect();
    match &report.mode {
        Some(full) if full == "full" => "full mode works here".to_owned(),
        Some(mode) => format!(
            "full mode is impossible here: {} failed; a weaker one works: `aj exec --mode {mode} -- …`",
            failed.join(", ")
        ),
        None => format!("full mode is impossible here: {} failed", failed.join(", ")),
    }
}

/// What each bad row means and what to do about it. Rows with the same fix are told together.
fn advice(checks: &[Check]) -> Vec<String> {
    let mut told: Vec<(Vec<&Check>, &[String])> = Vec::new();
    for check in checks.iter().filter(|c| matches!(c.status, Status::Fail | Status::Warn)) {
        match told.iter_mut().find(|(_, fix)| *fix == check.fix) {
            Some((rows, fix)) if !fix.is_empty() => rows.push(check),
            _ => told.push((vec![check], &check.fix)),
        }
    }
    told.iter().map(|(rows, fix)| paragraph(rows, fix)).collect()
}

fn paragraph(rows: &[&Check], fix: &[String]) -> String {
    let ids: Vec<&str> = rows.iter().map(|c| c.id.as_str()).collect();
    let mut effects: Vec<&str> = rows.iter().filter_map(|c| c.effect.as_deref()).collect();
    effects.dedup();
    let mut text = format!("{}: {}", ids.join(", "), effects.join("; "));
    for action in fix {
        // A command of several lines must stay one that can be pasted.
        text.push_str(&format!("\nfix: {action}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, status: Status, effect: &str, fix: &[&str]) -> Check {
        Check {
            id: id.into(),
            status,
            required: true,
            evidence: String::new(),
            effect: Some(effect.into()),
            fix: fix.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    #[test]
    fn one_fix_is_told_once() {
        let checks = [
            check("a", Status::Fail, "no jail", &["do x", "or y"]),
            check("b", Status::Ok, "fine", &[]),
            check("c", Status::Warn, "no jail", &["do x", "or y"]),
            check("d", Status::Fail, "worse", &[]),
            check("e", Status::Fail, "worse", &[]),
        ];
        assert_eq!(advice(&checks), ["a, c: no jail\nfix: do x\nfix: or y", "d: worse", "e: worse"]);
        let report = Document { format_version: "0.1".into(), mode: None, checks: checks.into() };
        assert_eq!(verdict(&report), "full mode is impossible here: a, d, e failed");
    }
}
