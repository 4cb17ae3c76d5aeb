//! What `aj doctor --json` answers.

use serde::{Deserialize, Serialize};

/// Version of [`Document`].
pub const FORMAT: &str = "0.1";

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format_version: String,
    /// The strongest mode that works here: `full`, `nested`, `lite`, or `null` when none does.
    pub mode: Option<String>,
    /// Every check, always in this order.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name.
    pub id: String,
    /// How it went.
    pub status: Status,
    /// Whether the full mode is impossible when it fails.
    pub required: bool,
    /// What was observed, never what was concluded.
    pub evidence: String,
    /// What it means for jails, when there is something to say.
    pub effect: Option<String>,
    /// What to do about it, one action each; the first is the preferred one.
    pub fix: Vec<String>,
}

/// How a check went. An open set: new words may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Works, or is as it should be.
    Ok,
    /// Works, but something is weaker than it could be.
    Warn,
    /// Does not work.
    Fail,
    /// Was not tried; the evidence says why.
    Skip,
}

impl Status {
    /// The word, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
            Status::Skip => "skip",
        }
    }
}
