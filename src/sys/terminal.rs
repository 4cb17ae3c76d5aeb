//! Terminals: the caller's, which is made raw for a while and is as it was after every way out, and
//! the new one of a jail.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{Error, Result, check, fd};

/// Line settings and window size of a terminal, to give a new one the same.
#[derive(Clone, Copy)]
pub struct Settings {
    modes: libc::termios,
    /// The modes are the terminal's own. In the background they are those of whoever has it now, such as
    /// the line editor of a shell, and what is raw as [`Raw`] makes it is another one's for a while.
    ours: bool,
    size: libc::winsize,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({}x{})", self.size.ws_col, self.size.ws_row)
    }
}

impl Settings {
    /// Those of `fd`. `None`: it is no terminal.
    pub fn of(fd: BorrowedFd<'_>) -> Option<Settings> {
        let modes = modes(fd).ok()?;
        let ours = fd::in_foreground(fd) && !same(&modes, &raw_of(&modes));
        Some(Settings { modes, ours, size: size(fd).unwrap_or(NO_SIZE) })
    }
}

/// [`Settings`] on their way to another process of this machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sent {
    flags: [u32; 4],
    line: u8,
    keys: Vec<u8>,
    speed: u32,
    ours: bool,
    size: [u16; 4],
}

impl From<&Settings> for Sent {
    fn from(s: &Settings) -> Sent {
        let m = &s.modes;
        // SAFETY: reads a live termios.
        let speed = unsafe { libc::cfgetospeed(m) };
        Sent {
            flags: [m.c_iflag, m.c_oflag, m.c_cflag, m.c_lflag],
            line: m.c_line,
            keys: m.c_cc.to_vec(),
            speed,
            ours: s.ours,
            size: [s.size.ws_row, s.size.ws_col, s.size.ws_xpixel, s.size.ws_ypixel],
        }
    }
}

impl From<&Sent> for Settings {
    fn from(s: &Sent) -> Settings {
        // SAFETY: a termios is numbers only, of which zero is one.
        let mut modes = unsafe { std::mem::zeroed::<libc::termios>() };
        [modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag] = s.flags;
        modes.c_line = s.line;
        modes.c_cc.iter_mut().zip(&s.keys).for_each(|(to, from)| *to = *from);
        // SAFETY: writes to a live termios; a speed that is none is refused.
        unsafe { libc::cfsetspeed(&raw mut modes, s.speed) };
        let [ws_row, ws_col, ws_xpixel, ws_ypixel] = s.size;
        Settings { modes, ours: s.ours, size: libc::winsize { ws_row, ws_col, ws_xpixel, ws_ypixel } }
    }
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    modes(fd).is_ok()
}

/// Whether `fd` is read by lines, as a terminal is by whoever wants no keys. What is none says so, too.
pub fn reads_lines(fd: BorrowedFd<'_>) -> bool {
    modes(fd).map_or(true, |modes| modes.c_lflag & libc::ICANON != 0)
}

const NO_SIZE: libc::winsize = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };

fn modes(fd: BorrowedFd<'_>) -> std::result::Result<libc::termios, Errno> {
    let mut modes = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: stores into live storage of the right type.
    Errno::result(unsafe { libc::tcgetattr(fd.as_raw_fd(), modes.as_mut_ptr()) })?;
    // SAFETY: zeroed at first, then filled in by the kernel.
    Ok(unsafe { modes.assume_init() })
}

/// At once: waiting for what is still to be shown could wait for ever.
fn set_modes(fd: BorrowedFd<'_>, modes: &libc::termios) -> std::result::Result<(), Errno> {
    // SAFETY: only reads a live structure.
    Errno::result(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, modes) }).map(drop)
}

fn size(fd: BorrowedFd<'_>) -> std::result::Result<libc::winsize, Errno> {
    let mut size = NO_SIZE;
    // SAFETY: TIOCGWINSZ stores a winsize.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) })?;
    Ok(size)
}

/// Lines and columns of the window of `fd`; 0 where it does not know.
pub fn window(fd: BorrowedFd<'_>) -> (u16, u16) {
    size(fd).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

fn set_size(fd: BorrowedFd<'_>, size: &libc::winsize) -> std::result::Result<(), Errno> {
    let size: *const libc::winsize = size;
    // SAFETY: TIOCSWINSZ reads a winsize.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ as _, size) }).map(drop)
}

/// Give `to` the window size of `from`. Who runs on `to` is told by SIGWINCH when that is another one.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    // A terminal that has gone has none, and is noticed elsewhere.
    size(from).and_then(|size| set_size(to, &size)).ok();
}

fn same(a: &libc::termios, b: &libc::termios) -> bool {
    (a.c_iflag, a.c_oflag, a.c_cflag, a.c_lflag) == (b.c_iflag, b.c_oflag, b.c_cflag, b.c_lflag)
        && a.c_cc == b.c_cc
}

/// As [`Raw`] makes a terminal of these modes.
fn raw_of(modes: &libc::termios) -> libc::termios {
    let mut raw = *modes;
    // SAFETY: writes to a live structure only.
    unsafe { libc::cfmakeraw(&raw mut raw) };
    for (index, value) in [(libc::VMIN, 0), (libc::VTIME, 0)] {
        if let Some(c) = raw.c_cc.get_mut(index) {
            *c = value;
        }
    }
    raw
}

/// A new terminal of the devpts instance whose multiplexer is at `path`, unlocked, with these settings:
/// the master's side and the other one.
pub fn pair(path: &str, settings: &Settings) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open(path, flags, Mode::empty()).map_err(|e| Error::new("open", path, e))?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int.
    let r = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlocked) };
    check("ioctl(TIOCSPTLCK)", libc::c_long::from(r))?;
    // By the master and not by its name.
    // SAFETY: takes integers only.
    let r = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags.bits()) };
    let slave = fd::received(check("ioctl(TIOCGPTPEER)", libc::c_long::from(r))? as i32);
    let set = || {
        if settings.ours {
            return set_modes(slave.as_fd(), &settings.modes);
        }
        let mut usual = modes(slave.as_fd())?;
        usual.c_iflag |= settings.modes.c_iflag & libc::IUTF8;
        set_modes(slave.as_fd(), &usual)
    };
    set().map_err(|e| Error::new("tcsetattr", path, e))?;
    set_size(slave.as_fd(), &settings.size).map_err(|e| Error::new("ioctl(TIOCSWINSZ)", path, e))?;
    Ok((master, slave))
}

/// Make `fd` the terminal of this session, of which this process is the leader.
pub fn make_controlling(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers only.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    check("ioctl(TIOCSCTTY)", libc::c_long::from(r)).map(drop)
}

/// Make the calling process's own group that in the foreground of the terminal `fd`. SIGTTOU must be
/// blocked: the group is in the background until this is done.
pub fn take_foreground(fd: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::tcsetpgrp(fd.as_raw_fd(), libc::getpgrp()) }).map(drop)
}

/// What the terminal that is raw now was like before. At most one is, and the hook for panics has to
/// find it.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    terminal: BorrowedFd<'static>,
    modes: libc::termios,
}

impl Before {
    /// As it was; not from the background, where it is somebody else's to set.
    fn restore(&self) {
        if fd::in_foreground(self.terminal) {
            // One that has gone has no modes to restore.
            set_modes(self.terminal, &self.modes).ok();
        }
    }
}

/// The caller's terminal while a command on another one has it: raw between [`Raw::enter`] and
/// [`Raw::leave`], and as it was when this is dropped.
#[derive(Debug)]
pub struct Raw {
    terminal: BorrowedFd<'static>,
    entered: bool,
    /// It was raw once.
    changed: bool,
}

impl Raw {
    /// Of `terminal`, which is left as it is for now.
    pub fn of(terminal: BorrowedFd<'static>) -> Raw {
        Raw { terminal, entered: false, changed: false }
    }

    /// Whether it is raw, as far as we know, and so ours to read.
    pub fn is_entered(&self) -> bool {
        self.entered
    }

    /// Make it raw if this process is in the foreground; whether it is. A read of it never waits then.
    pub fn enter(&mut self) -> bool {
        self.entered = fd::in_foreground(self.terminal) && self.make_raw().is_ok();
        self.changed |= self.entered;
        self.entered
    }

    fn make_raw(&self) -> std::result::Result<(), Errno> {
        let now = modes(self.terminal)?;
        let raw = raw_of(&now);
        // Stopped and continued without a shell that has set it back; or another one in the foreground with
        // us was first, who knows what to come back to.
        if same(&raw, &now) {
            return Ok(());
        }
        let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        // Noted first: between the two calls a panic restores what is there anyway.
        *before = Some(Before { terminal: self.terminal, modes: now });
        set_modes(self.terminal, &raw)
    }

    /// As it was.
    pub fn leave(&mut self) {
        self.entered = false;
        if std::mem::take(&mut self.changed) {
            restore();
        }
    }

    /// Somebody else has the terminal now: it is theirs to set.
    pub fn lose(&mut self) {
        self.entered = false;
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Make the caller's terminal as it was, if it is raw: for whoever ends the process without unwinding.
pub fn restore() {
    // A panic in this module may come while it is locked: then there is nothing to be done.
    if let Ok(mut before) = BEFORE.try_lock()
        && let Some(before) = before.take()
    {
        before.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test: there is one terminal that is raw in a process.
    #[test]
    fn what_is_raw_for_a_while_is_as_it_was_afterwards() {
        let size = libc::winsize { ws_row: 33, ws_col: 111, ..NO_SIZE };
        // SAFETY: a structure of integers.
        let mut modes_asked = unsafe { std::mem::zeroed::<libc::termios>() };
        modes_asked.c_lflag = libc::ICANON | libc::ECHO;
        modes_asked.c_cflag = libc::CS8 | libc::CREAD | libc::B38400;
        modes_asked.c_cc[libc::VMIN] = 1;
        let Ok((master, slave)) = pair("/dev/ptmx", &Settings { modes: modes_asked, ours: true, size })
        else {
            return eprintln!("SKIP: no /dev/ptmx here");
        };
        // Whoever borrows it outlives the test.
        let slave: &'static OwnedFd = Box::leak(Box::new(slave));
        assert_eq!(format!("{:?}", Settings::of(slave.as_fd()).unwrap()), "Settings(111x33)");
        let first = modes(slave.as_fd()).unwrap();
        let mut raw = Raw::of(slave.as_fd());
        assert!(raw.enter() && raw.is_entered());
        let now = modes(slave.as_fd()).unwrap();
        assert_eq!((now.c_lflag & (libc::ICANON | libc::ECHO | libc::ISIG), now.c_cc[libc::VMIN]), (0, 0));
        // Twice is as good as once, and what was before is not forgotten by it.
        assert!(raw.enter());
        raw.leave();
        assert!(same(&modes(slave.as_fd()).unwrap(), &first) && !raw.is_entered());
        // Somebody else's settings of meanwhile are those to come back to.
        raw.enter();
        set_modes(slave.as_fd(), &libc::termios { c_lflag: libc::ICANON, ..first }).unwrap();
        raw.enter();
        drop(raw);
        assert_eq!(modes(slave.as_fd()).unwrap().c_lflag, libc::ICANON);
        // What another one has made raw is that one's to set back, and nothing to give to a new terminal.
        set_modes(slave.as_fd(), &raw_of(&first)).unwrap();
        assert!(!Settings::of(slave.as_fd()).unwrap().ours);
        let mut second = Raw::of(slave.as_fd());
        assert!(second.enter());
        drop(second);
        assert!(same(&modes(slave.as_fd()).unwrap(), &raw_of(&first)) && BEFORE.lock().unwrap().is_none());
        set_modes(slave.as_fd(), &first).unwrap();
        assert!(Settings::of(slave.as_fd()).unwrap().ours);
        copy_size(master.as_fd(), slave.as_fd());
        assert!(!is_terminal(fd::pipe().unwrap().0.as_fd()));
    }
}
