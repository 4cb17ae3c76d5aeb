//! Work of our own in a jail that commands join: a child of its pid 1 that executes nothing.
//!
//! It is what a command that joins is before its `execve`: in the jail's namespaces, with its view of the files,
//! no capability, its Landlock domain and its filter, and looked at as a command is. What it does is code of
//! this program, in the memory that pid 1 was made with; whatever the jail plants can make it do what the jail
//! could have done itself, and no more. It is not dumpable, so that nobody in there reads its memory or opens
//! its descriptors; to stop it or to kill it is what they can do.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use nix::sys::stat::Mode;

use super::confine::confine_hand;
use super::cwd::enter;
use super::init::leave;
use super::live::LARGEST;
use super::plan::Plan;
use super::status::Layers;
use crate::store::fault;
use crate::sys::{Result, clone, fd, openat2, signal};

/// What is done with an order: what is sent along is read from the first file, and the answer goes to the second.
pub type Work = fn(&[u8], File, File);

static WORK: OnceLock<Work> = OnceLock::new();

/// Say what jails that this process makes from now on do with an order.
pub fn teach(work: Work) {
    WORK.set(work).ok();
}

/// Descriptors of the child: what is sent along, and the answer.
const INPUT: i32 = 3;
const OUTPUT: i32 = 4;

/// Run as the child that carries out an order: its sealed file, where what is sent along comes from, and where
/// the answer goes. Never returns.
pub(super) fn run(plan: &Plan, layers: Layers, fds: Vec<OwnedFd>) -> ! {
    fault::enter(fault::Role::Minder);
    fault::point();
    let mut fds = fds.into_iter();
    let (Some(order), Some(input), Some(output)) = (fds.next(), fds.next(), fds.next()) else {
        clone::exit_now(125)
    };
    let Some(work) = WORK.get() else { clone::exit_now(125) };
    let ready = || -> Result<Vec<u8>> {
        signal::unblock_all();
        signal::ignore_sigxfsz();
        let bytes = fd::read_sealed(&order, LARGEST)?;
        leave(false)?;
        enter(c"/")?;
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        // Out of the way of the numbers that are given out here.
        let input = fd::dup_above(input.as_fd(), OUTPUT + 1)?;
        let output = fd::dup_above(output.as_fd(), OUTPUT + 1)?;
        fd::install_at(input.as_fd(), INPUT, true)?;
        fd::install_at(output.as_fd(), OUTPUT, true)?;
        // Closed with everything else that pid 1 has.
        std::mem::forget((input, output));
        fd::close_from(OUTPUT + 1)?;
        // A second filter holds there, which cannot tell what `openat2` is called with.
        if plan.confinement.no_setuid {
            openat2::steps::always();
        }
        confine_hand(plan, layers).map(|()| bytes)
    };
    let ready = ready();
    std::mem::forget((order, input, output, fds));
    // Whoever asked sees an answer that does not come.
    let Ok(order) = ready else { clone::exit_now(125) };
    work(&order, File::from(fd::received(INPUT)), File::from(fd::received(OUTPUT)));
    clone::exit_now(0)
}
