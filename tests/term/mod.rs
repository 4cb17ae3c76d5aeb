//! Commands on terminals, through real ones: `aj` has each as its controlling terminal, as under a shell.

mod basics;
mod ends;
mod jobs;
mod keys;
mod programs;
mod shell;
mod top;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::yard::{Running, fate, terminal};

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A terminal, whoever looks at it and types, and the program that runs on it.
pub struct Term {
    master: Option<File>,
    slave: File,
    /// Everything shown so far.
    pub seen: Vec<u8>,
    /// Up to where it was waited for.
    at: usize,
}

/// Line settings, to be compared.
#[derive(Debug, PartialEq, Eq)]
pub struct Modes([u32; 4], Vec<u8>);

impl Term {
    /// Of 33 lines and 111 columns.
    pub fn new() -> Term {
        let (master, slave) = terminal();
        let term = Term { master: Some(master.into()), slave: slave.into(), seen: Vec::new(), at: 0 };
        term.resize(33, 111);
        term
    }

    /// Start `command` with this as its controlling terminal, in the foreground.
    #[track_caller]
    pub fn start(&self, command: &mut Command) -> Running {
        let copy = || self.slave.try_clone().unwrap();
        command.stdin(copy()).stdout(copy()).stderr(copy());
        self.start_as_it_is(command)
    }

    /// The same, with the standard streams that it has: stdin must be this terminal.
    #[track_caller]
    pub fn start_as_it_is(&self, command: &mut Command) -> Running {
        // SAFETY: setsid(2) and ioctl(2) are async-signal-safe; the terminal becomes stdin's.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command.env("TERM", "xterm-256color");
        Running::start(command)
    }

    pub fn slave(&self) -> File {
        self.slave.try_clone().unwrap()
    }

    #[track_caller]
    pub fn type_(&mut self, keys: impl AsRef<[u8]>) {
        self.master.as_mut().unwrap().write_all(keys.as_ref()).unwrap();
    }

    /// Read for up to `wait`; whether anything came.
    fn read(&mut self, wait: Duration) -> bool {
        let Some(master) = &mut self.master else { return false };
        let ms = PollTimeout::try_from(wait).unwrap();
        let ready = poll(&mut [PollFd::new(master.as_fd(), PollFlags::POLLIN)], ms);
        let mut bytes = [0; 65_536];
        match ready {
            Ok(n) if n > 0 => match master.read(&mut bytes) {
                Ok(n) => self.seen.extend_from_slice(&bytes[..n]),
                Err(_) => return false,
            },
            _ => return false,
        }
        true
    }

    /// Read until `what` is shown, after what was waited for before; returns what came up to its end.
    #[track_caller]
    pub fn until(&mut self, what: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let new = &self.seen[self.at..];
            if let Some(found) = new.windows(what.len()).position(|w| w == what.as_bytes()) {
                let text = String::from_utf8_lossy(&new[..found + what.len()]).into_owned();
                self.at += found + what.len();
                return text;
            }
            let text = String::from_utf8_lossy(new).into_owned();
            assert!(Instant::now() < end, "no {what:?} in {:?}", &text[text.len().saturating_sub(2000)..]);
            self.read(Duration::from_millis(100));
        }
    }

    /// Whether `what` was shown since what was waited for last, reading a little more.
    pub fn shows(&mut self, what: &str) -> bool {
        while self.read(Duration::from_millis(200)) {}
        self.seen[self.at..].windows(what.len()).any(|w| w == what.as_bytes())
    }

    /// Read until the program has ended; its exit code, or minus the signal.
    #[track_caller]
    pub fn end(&mut self, running: &mut Running) -> i32 {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = running.0.try_wait().unwrap() {
                while self.read(Duration::from_millis(20)) {}
                return fate(status);
            }
            let text = self.rest();
            assert!(Instant::now() < end, "still running: {:?}", &text[text.len().saturating_sub(2000)..]);
            self.read(Duration::from_millis(20));
        }
    }

    /// What was shown and not waited for.
    pub fn rest(&self) -> String {
        String::from_utf8_lossy(&self.seen[self.at..]).into_owned()
    }

    pub fn modes(&self) -> Modes {
        // SAFETY: a structure of integers, filled in by tcgetattr(3).
        let t = unsafe {
            let mut t: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.slave.as_raw_fd(), &raw mut t), 0);
            t
        };
        Modes([t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag], t.c_cc.to_vec())
    }

    /// Whether it is raw: nothing is echoed or collected.
    pub fn is_raw(&self) -> bool {
        self.modes().0[3] & (libc::ICANON | libc::ECHO | libc::ISIG) == 0
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads a winsize.
        let r = unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) };
        assert_eq!(r, 0);
    }

    /// Close it, as when its window is closed.
    pub fn hang_up(&mut self) {
        self.master = None;
    }
}
