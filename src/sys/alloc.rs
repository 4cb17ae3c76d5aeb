//! The allocator: a bump arena in front of the system's.
//!
//! `aj exec` lives for two milliseconds and allocates a few hundred small things once. The arena
//! packs them into few pages, which also have to be copied to the jail's pid 1, and never asks the
//! kernel for memory or gives any back while a jail starts; musl's allocator does both. What does
//! not fit goes to the system allocator, so long-lived commands behave as usual.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 256 * 1024;

#[repr(align(64))]
struct Memory(UnsafeCell<[u8; SIZE]>);

// SAFETY: bytes are handed out at most once at a time: ranges are claimed by an atomic counter.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; SIZE]));
static USED: AtomicUsize = AtomicUsize::new(0);
/// Everything from here up has never been handed out, so it is still zero and no page of it exists.
static TOUCHED: AtomicUsize = AtomicUsize::new(0);

/// Raise the mark to `end`, mostly for the price of a look; where it was.
fn touch(end: usize) -> usize {
    let touched = TOUCHED.load(Ordering::Acquire);
    if touched < end { TOUCHED.fetch_max(end, Ordering::AcqRel) } else { touched }
}

/// Bump arena first, system allocator after it.
#[derive(Debug)]
pub struct Arena;

impl Arena {
    fn base() -> *mut u8 {
        MEMORY.0.get().cast()
    }

    /// Offset of `ptr` in the arena, if it lies there.
    fn offset(ptr: *mut u8) -> Option<usize> {
        let offset = (ptr as usize).wrapping_sub(Arena::base() as usize);
        (offset < SIZE).then_some(offset)
    }

    /// A block, and how many of its bytes from the front may have been used before.
    fn claim(layout: Layout) -> Option<(*mut u8, usize)> {
        if layout.align() > 64 {
            return None;
        }
        // As malloc does: `nix` (cmsg buffers) counts on it for byte buffers.
        let align = layout.align().max(16);
        let mut used = USED.load(Ordering::Relaxed);
        loop {
            let start = used.checked_add(align - 1)? & !(align - 1);
            let end = start.checked_add(layout.size())?;
            if end > SIZE {
                return None;
            }
            match USED.compare_exchange_weak(used, end, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    // Whoever had these bytes raised the mark before giving them back, and giving
                    // back is a release that the exchange above acquired.
                    let touched = touch(end);
                    // SAFETY: `start` is at most SIZE, so the pointer stays within the arena (or
                    // one past its end for an empty block there).
                    let ptr = unsafe { Arena::base().add(start) };
                    return Some((ptr, touched.saturating_sub(start).min(layout.size())));
                }
                Err(now) => used = now,
            }
        }
    }
}

// SAFETY: blocks of the arena are disjoint, aligned (the arena is aligned to 64) and valid for the
// whole program; everything else is delegated to the system allocator with the same layout.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Arena::claim(layout) {
            Some((ptr, _)) => ptr,
            // SAFETY: the caller's contract is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Arena::claim(layout) {
            Some((ptr, dirty)) => {
                // SAFETY: at most the size of the block.
                unsafe { ptr.write_bytes(0, dirty) };
                ptr
            }
            // SAFETY: the caller's contract is passed on.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match Arena::offset(ptr) {
            // The last block is given back, so that a growing and shrinking buffer costs nothing.
            Some(start) => {
                let end = start + layout.size();
                USED.compare_exchange(end, start, Ordering::AcqRel, Ordering::Relaxed).ok();
            }
            // SAFETY: not of the arena, so it came from the system allocator with this layout.
            None => unsafe { System.dealloc(ptr, layout) },
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = Arena::offset(ptr) else {
            // SAFETY: not of the arena, so it came from the system allocator with this layout.
            return unsafe { System.realloc(ptr, layout, size) };
        };
        let (old, new) = (start + layout.size(), start.saturating_add(size));
        if new <= SIZE && USED.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            touch(new);
            return ptr;
        }
        // SAFETY: the size is the caller's, who guarantees that it does not overflow with this
        // alignment.
        let grown = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !grown.is_null() {
            // SAFETY: both blocks are live, disjoint and at least this long.
            unsafe { std::ptr::copy_nonoverlapping(ptr, grown, layout.size().min(size)) };
            // SAFETY: `ptr` was allocated here with `layout`.
            unsafe { self.dealloc(ptr, layout) };
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_disjoint_and_keep_their_bytes() {
        let mut blocks = Vec::new();
        for i in 0..2_000usize {
            let l = layout(i * 7 % 900 + 1, 1 << (i % 7));
            // SAFETY: the layout has a size.
            let ptr = unsafe { Arena.alloc(l) };
            assert_eq!(ptr as usize % l.align(), 0);
            // SAFETY: just allocated with this size.
            unsafe { ptr.write_bytes(i as u8, l.size()) };
            blocks.push((ptr, l, i as u8));
        }
        for (ptr, l, fill) in &blocks {
            // SAFETY: live, with this size.
            let bytes = unsafe { std::slice::from_raw_parts(*ptr, l.size()) };
            assert!(bytes.iter().all(|b| b == fill));
        }
        for (ptr, l, _) in blocks.into_iter().rev() {
            // SAFETY: allocated above with this layout.
            unsafe { Arena.dealloc(ptr, l) };
        }
    }

    #[test]
    fn zeroed_blocks_are_zero_also_where_others_were() {
        for _ in 0..50 {
            let l = layout(5_000, 8);
            // SAFETY: the layout has a size.
            let ptr = unsafe { Arena.alloc_zeroed(l) };
            // SAFETY: just allocated with this size.
            assert!(unsafe { std::slice::from_raw_parts(ptr, l.size()) }.iter().all(|b| *b == 0));
            // SAFETY: live, with this size.
            unsafe { ptr.write_bytes(0xaa, l.size()) };
            // SAFETY: allocated above with this layout.
            unsafe { Arena.dealloc(ptr, l) };
        }
    }

    #[test]
    fn growing_keeps_the_bytes_inside_and_out_of_the_arena() {
        let mut l = layout(3, 1);
        // SAFETY: the layout has a size.
        let mut ptr = unsafe { Arena.alloc(l) };
        // SAFETY: three bytes were allocated.
        unsafe { ptr.copy_from_nonoverlapping(b"abc".as_ptr(), 3) };
        for size in [10, 100, 5, SIZE, 2 * SIZE, 4, 3] {
            // SAFETY: live, allocated with `l`.
            ptr = unsafe { Arena.realloc(ptr, l, size) };
            l = layout(size, 1);
            // SAFETY: never less than three bytes.
            assert_eq!(unsafe { std::slice::from_raw_parts(ptr, 3) }, b"abc");
        }
        // SAFETY: live, allocated with `l`.
        unsafe { Arena.dealloc(ptr, l) };
    }
}
