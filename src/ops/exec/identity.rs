//! git that does not know who commits, where the caller's variables say it: an environment is not copied into a
//! jail, and git does not say that it would have asked there.

use crate::base::env;
use crate::jail::spec::Spec;
use crate::jail::supervise::Ended;
use crate::schema::jail::Outcome;

/// What git prints then.
const SIGNS: [&str; 2] = ["Please tell me who you are", "empty ident name"];
const VARIABLES: [&str; 5] =
    ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"];

/// A line about it, for a command that failed and said so.
pub(super) fn line(spec: &Spec, ended: &Ended) -> Option<String> {
    let failed = matches!(ended.outcome, Outcome::Exited { code } if code != 0);
    if !failed {
        return None;
    }
    let said = [ended.stderr.text().0, ended.stdout.text().0];
    if !said.iter().any(|text| SIGNS.iter().any(|sign| text.contains(sign))) {
        return None;
    }
    let inside = |name: &str| spec.env.iter().any(|(known, _)| known == name);
    let missed = VARIABLES.iter().filter(|name| env::caller(name).is_some() && !inside(name));
    let words: Vec<String> = missed.map(|name| format!("-e {name}")).collect();
    (!words.is_empty()).then(|| {
        format!("your own variables say who commits, and no jail has them unasked: `{}`", words.join(" "))
    })
}
