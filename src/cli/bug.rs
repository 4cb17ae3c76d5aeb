//! A panic is a bug in `aj`: say so in one line that can be reported, and end with a code of our own.

use super::exit;
use crate::base::env;

/// Replace the message of panics. `exec` ends with 125, because 70 could be its command's own code.
pub(super) fn report_panics(exec: bool) {
    std::panic::set_hook(Box::new(move |info| {
        crate::ops::exec::restore_terminal();
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message =
            message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let mut text =
            format!("aj: internal error: {message} at {place} (aj {})\n", env!("CARGO_PKG_VERSION"));
        if env::BACKTRACE.get().is_some_and(|v| v == "1") {
            text.push_str(&std::backtrace::Backtrace::force_capture().to_string());
        } else {
            text.push_str(concat!(
                "\nhint: please report this, with `AJ_BACKTRACE=1`, at ",
                env!("CARGO_PKG_REPOSITORY"),
                "/issues\n"
            ));
        }
        super::ui::last_words(&text);
        #[expect(
            clippy::exit,
            reason = "release builds abort after the hook: 134 would not tell a bug from a crash"
        )]
        std::process::exit(i32::from(if exec { exit::AJ_FAILED } else { exit::BUG }));
    }));
}
