//! The plan's way to pid 1.
//!
//! Pid 1 is born before its plan is made, and has namespaces to make meanwhile. The plan comes as
//! bytes through a pipe, its descriptors over the status socket; one more byte in the pipe says that
//! the tree exists, and one over the status socket that the start is recorded and the command may run. End
//! of file at any point means that the launcher has died or thought better of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::plan::Plan;
use super::wire;
use crate::store::fault;
use crate::sys::{Error, Result, errno};

/// Largest plan that is read: arguments and environment are bounded by the kernel's execve at less.
const LARGEST: u64 = 64 << 20;

/// Send the plan and its [`Plan::mapped`] clones. A pid 1 that has failed already says why on the
/// status socket; not being able to tell it anything is no error of its own.
pub(super) fn send(to: &File, socket: &OwnedFd, plan: &Plan, mapped: &[OwnedFd]) -> Result<()> {
    let fail = |errno| Error::new("write", "plan", errno);
    let mut bytes = vec![0; size_of::<u64>()];
    bytes = postcard::to_extend(plan, bytes).map_err(|_| fail(Errno::EINVAL))?;
    let length = (bytes.len() - size_of::<u64>()) as u64;
    bytes.splice(..size_of::<u64>(), length.to_le_bytes());
    let mut to = to;
    fault::point();
    let sent = wire::send_descriptors(socket, mapped)
        .and_then(|()| to.write_all(&bytes).map_err(|e| fail(errno(&e))));
    match sent {
        Err(Error { errno: Errno::EPIPE | Errno::ECONNRESET, .. }) => Ok(()),
        other => other,
    }
}

/// Wait for the plan. `None`: the launcher is gone.
pub(super) fn receive(from: &File, socket: &OwnedFd) -> Result<Option<(Plan, Vec<OwnedFd>)>> {
    let fail = |errno| Error::new("read", "plan", errno);
    let mut pipe = from;
    let mut length = [0; size_of::<u64>()];
    if pipe.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length);
    if length > LARGEST {
        return Err(fail(Errno::EMSGSIZE));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| fail(Errno::EMSGSIZE))?];
    if pipe.read_exact(&mut bytes).is_err() {
        return Ok(None);
    }
    let plan: Plan = postcard::from_bytes(&bytes).map_err(|_| fail(Errno::EBADMSG))?;
    let mapped = wire::receive_descriptors(socket, plan.mapped.len())?;
    Ok(mapped.map(|mapped| (plan, mapped)))
}

/// What is said when the tree is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Go on.
    Go,
    /// Go on; the overlays are being made for you.
    Lending,
}

/// Say that the tree is in place.
pub(super) fn release(to: &File, word: Word) -> Result<()> {
    let byte = match word {
        Word::Go => b"g",
        Word::Lending => b"l",
    };
    fault::point();
    match nix::unistd::write(to, byte) {
        // It has failed already, and says why on the status socket.
        Ok(_) | Err(Errno::EPIPE) => Ok(()),
        Err(e) => Err(Error::new("write", "go pipe", e)),
    }
}

/// Wait until the tree is in place. `None`: the launcher is gone.
pub(super) fn wait(from: &File) -> Option<Word> {
    let mut byte = [0u8; 1];
    loop {
        match nix::unistd::read(from, &mut byte) {
            Ok(1) => return Some(if byte == *b"l" { Word::Lending } else { Word::Go }),
            Err(Errno::EINTR) => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Mount, Overlay, What};
    use super::*;
    use crate::sys::fd;
    use crate::sys::landlock::Right;
    use crate::sys::mount::Attr;

    fn pipe() -> (File, File) {
        let (read, write) = fd::pipe().unwrap();
        (File::from(read), File::from(write))
    }

    fn plan() -> Plan {
        let overlay = Overlay {
            lower: Err(1),
            above: vec![c"/l".to_owned()],
            upper: c"/t/upper".to_owned(),
            work: c"/t/\xff\n".to_owned(),
            volatile: true,
            memory: false,
            otherwise: None,
        };
        let bind = What::Bind { source: c"/usr".to_owned(), attr: Attr::RDONLY, resolved: false };
        Plan {
            mounts: [bind, What::Overlay(overlay), What::Proc]
                .map(|what| Mount { what, at: c"x".to_owned(), ours: true })
                .into(),
            rules: vec![(c"/tmp".to_owned(), Right::Write)],
            argv: vec![c"sh".to_owned(), std::ffi::CString::new(vec![0xff; 300_000]).unwrap()],
            ..Plan::default()
        }
    }

    #[test]
    fn a_plan_larger_than_a_pipe_arrives_as_it_was_sent() {
        let ((go, to), (ours, theirs)) = (pipe(), wire::pair().unwrap());
        let got = std::thread::scope(|s| {
            let reader = s.spawn(|| (receive(&go, &theirs).unwrap().unwrap(), wait(&go)));
            send(&to, &ours, &plan(), &[]).unwrap();
            release(&to, Word::Lending).unwrap();
            reader.join().unwrap()
        });
        assert_eq!(got.0.0, plan());
        assert_eq!(got.1, Some(Word::Lending));
    }

    #[test]
    fn a_launcher_that_is_gone_and_a_pid_1_that_is_gone_are_noticed() {
        let ((go, to), (ours, theirs)) = (pipe(), wire::pair().unwrap());
        nix::unistd::write(&to, &[9, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
        drop(to);
        assert!(receive(&go, &theirs).unwrap().is_none(), "half a plan");
        assert_eq!(wait(&go), None);
        let (go, to) = pipe();
        drop((go, theirs));
        assert!(send(&to, &ours, &plan(), &[]).is_ok());
        assert!(release(&to, Word::Go).is_ok());
    }

    #[test]
    fn garbage_is_refused() {
        let ((go, to), (_ours, theirs)) = (pipe(), wire::pair().unwrap());
        nix::unistd::write(&to, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]).unwrap();
        assert_eq!(receive(&go, &theirs).unwrap_err().errno, Errno::EBADMSG);
        nix::unistd::write(&to, &[0xff; 8]).unwrap();
        assert_eq!(receive(&go, &theirs).unwrap_err().errno, Errno::EMSGSIZE);
    }
}
