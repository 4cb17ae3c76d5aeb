//! Completion: the shell asks the binary itself (`AJ_COMPLETE=bash aj …`), so that new commands and
//! names complete without a new script. Candidates come from files read without locks.

use clap_complete::CompleteEnv;

use super::commands;
use crate::base::env;

/// Answer a shell that asks for completions and end the process; return when nobody asked.
pub fn reply_if_asked() {
    if env::COMPLETE.get().is_some() {
        CompleteEnv::with_factory(commands::tree)
            .var(env::COMPLETE.name)
            .bin("aj")
            .completer("aj")
            .complete();
    }
}
