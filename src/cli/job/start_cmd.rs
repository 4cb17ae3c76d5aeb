//! `aj job start` and what comes of it.

use std::ffi::OsStr;

use super::{Request, StartArgs};
use crate::cli::error::{CmdResult, CommandError};
use crate::cli::exec;
use crate::cli::exit::{self, Exit};
use crate::cli::ui::Ui;
use crate::ops::exec::{Error as ExecError, Report};
use crate::ops::jobs::start::{self, Started};
use crate::ops::jobs::supervise::Explain;
use crate::schema::jail::Outcome;
use crate::schema::job::{Failure, JobDetail};

pub(super) fn start(ui: &Ui, args: StartArgs) -> CmdResult {
    let flags = args.policy.into_flags()?;
    let argv = match args.sh {
        Some(script) => vec!["/bin/sh".into(), "-c".into(), script],
        None => args.command,
    };
    if argv.first().is_none_or(|program| program.is_empty()) {
        return Err(CommandError::new(exit::AJ_FAILED, "usage", "the command is empty")
            .hint("name a program after `--`, as in `aj job start -- npm run dev`"));
    }
    let request = Request {
        flags: flags.layer,
        env_files: flags.env_files,
        gpus: flags.gpus,
        volumes: flags.volumes,
        argv,
        workspace: args.workspace,
        name: args.name,
        group: args.group,
        here: args.here,
        root_dir: args.root_dir,
        cwd: args.cwd,
        i_mean_it: args.i_mean_it,
        restart: args.restart.0,
        ready: args.ready,
        ready_timeout: args.ready_timeout,
        log_max: args.log_max,
    };
    report(ui, start::start(request)?)
}

pub(super) fn report(ui: &Ui, started: Started) -> CmdResult {
    match started {
        Started::Yes(detail) => {
            let id = detail.job.id;
            if ui.json {
                ui.document(&detail);
            } else {
                ui.line(id.as_str());
                ui.status(&format!("job {id} runs: see its output with `aj job logs {id} -f`"));
            }
            Ok(Exit(exit::OK))
        }
        Started::NotStarted(failure) => Err(error(failure)),
        Started::Ended(detail) => {
            let code = detail
                .job
                .exit_code
                .map_or_else(|| "nobody knows how".to_owned(), |c| format!("exit code {c}"));
            let message = format!("job {} ended before it was ready: {code}", detail.job.id);
            Err(see_log(CommandError::new(exit::FAILED, "job_ended", message), &detail))
        }
        Started::NotReady(detail, seen) => {
            let message = format!("job {} was not ready in time and was ended", detail.job.id);
            let causes = seen.iter().map(ToString::to_string).collect();
            let e = CommandError { causes, ..CommandError::new(exit::TIMED_OUT, "job_not_ready", message) };
            Err(see_log(e, &detail).hint("or give it more time: `--ready-timeout 2m`"))
        }
    }
}

fn see_log(e: CommandError, detail: &JobDetail) -> CommandError {
    e.hint(format!("see what it wrote: `aj job logs {}`", detail.job.id))
}

/// What the supervisor met, said here.
fn error(failure: Failure) -> CommandError {
    // Once in the life of this process.
    let code: &'static str = String::leak(failure.code);
    let e = CommandError::new(failure.exit, code, failure.message);
    CommandError { causes: failure.causes, hints: failure.hints, ..e }
}

/// Puts what a supervisor meets into the words of `aj exec`.
pub(super) struct Words;

impl Explain for Words {
    fn not_started(&self, program: &OsStr, report: &Report) -> Option<Failure> {
        let Outcome::Failed { step, errno, .. } = &report.ended.outcome else { return None };
        Some(failure(exec::not_started(program, step, errno, report.exit_code(), report)))
    }

    fn failed(&self, error: ExecError) -> Failure {
        failure(exec::failed(error))
    }
}

fn failure(e: CommandError) -> Failure {
    Failure { exit: e.exit, code: e.code.to_owned(), message: e.message, causes: e.causes, hints: e.hints }
}
