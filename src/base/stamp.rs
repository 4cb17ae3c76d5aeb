//! Short digests by which a thing is known again: of a path, of what something was made from.
//!
//! SipHash-2-4 and not BLAKE3, which asks the processor what it can do: on a virtual machine each
//! such question is an exit to the host, 12 µs in all and before every start. A stamp proves nothing: a repository
//! that chose its paths for it might make two roots share one. A start of either then fails, and the root is set aside.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// A digest being made.
#[derive(Debug, Default)]
pub struct Stamp(SipHasher24);

impl Stamp {
    /// Take in bytes as they are: it is for the caller to keep one text from running into the next.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// What came of it, the same on every machine and for every version of `aj`.
    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// That of one text.
pub fn of(bytes: &[u8]) -> u64 {
    let mut stamp = Stamp::default();
    stamp.put(bytes);
    stamp.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what lies on disks of another version.
    #[test]
    fn what_lies_on_disks_is_found_again() {
        assert_eq!(of(b""), 0x1e92_4b9d_7377_00d7);
        assert_eq!(of(b"/home/me/project"), of(b"/home/me/project"));
        let mut parts = Stamp::default();
        parts.put(b"/home/");
        parts.put(b"me/project");
        assert_eq!(parts.value(), of(b"/home/me/project"));
        assert_ne!(of(b"/home/me/project"), of(b"/home/me/project/"));
    }
}
