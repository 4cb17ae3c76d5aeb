//! How long work reports to whoever watches: a count, a warning, a phase. The library never draws.
#![forbid(unsafe_code)]

/// Receives progress and warnings. All methods have empty defaults.
pub trait Monitor {
    /// A phase of `total` steps begins (0: unknown).
    fn phase(&self, _what: &str, _total: u64) {}
    /// `n` more steps of the phase are done.
    fn step(&self, _n: u64) {}
    /// Something the user should know that is not an error.
    fn warn(&self, _text: &str) {}
}

/// A monitor that ignores everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;
impl Monitor for Silent {}

/// A monitor that keeps warnings, for tests and for JSON output.
#[derive(Debug, Default)]
pub struct Recording(std::cell::RefCell<Vec<String>>);

impl Recording {
    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

impl Monitor for Recording {
    fn warn(&self, text: &str) {
        self.0.borrow_mut().push(text.to_owned());
    }
}
