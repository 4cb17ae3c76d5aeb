//! Progress of long work: on a terminal only, not before 250 ms, gone when the work is done.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Ui;
use crate::base::env;
use crate::monitor::Monitor;

/// Work shorter than this shows nothing: a flicker tells nobody anything.
const PATIENCE: Duration = Duration::from_millis(250);

/// A [`Monitor`] that draws, while it lives, and passes warnings on.
#[derive(Debug)]
pub struct Progress<'a> {
    ui: &'a Ui,
    visible: bool,
    phase: RefCell<Option<Phase>>,
}

#[derive(Debug)]
struct Phase {
    what: String,
    total: u64,
    done: u64,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Ui {
    /// A monitor for one long piece of work.
    pub fn progress(&self) -> Progress<'_> {
        let dumb = env::TERM.get().is_some_and(|t| t == "dumb");
        // Under `-v` lines and a bar would take turns on the same line.
        let visible =
            !self.json && self.quiet == 0 && self.verbose == 0 && !dumb && io::stderr().is_terminal();
        Progress { ui: self, visible, phase: RefCell::new(None) }
    }
}

impl Phase {
    fn draw(&mut self) {
        if self.bar.is_none() && self.since.elapsed() >= PATIENCE {
            let bar = ProgressBar::with_draw_target(
                (self.total > 0).then_some(self.total),
                ProgressDrawTarget::stderr_with_hz(20),
            );
            let shape = if self.total > 0 { "aj: {msg} {pos}/{len}" } else { "aj: {msg} {pos}" };
            if let Ok(style) = ProgressStyle::with_template(shape) {
                bar.set_style(style);
            }
            bar.set_message(self.what.clone());
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Monitor for Progress<'_> {
    fn phase(&self, what: &str, total: u64) {
        if self.visible {
            let phase = Phase { what: what.to_owned(), total, done: 0, since: Instant::now(), bar: None };
            self.phase.replace(Some(phase));
        }
    }

    fn step(&self, n: u64) {
        if let Some(phase) = self.phase.borrow_mut().as_mut() {
            phase.done = phase.done.saturating_add(n);
            phase.draw();
        }
    }

    fn warn(&self, text: &str) {
        match self.phase.borrow().as_ref().and_then(|p| p.bar.as_ref()) {
            Some(bar) => bar.suspend(|| self.ui.warn(text)),
            None => self.ui.warn(text),
        }
    }
}
