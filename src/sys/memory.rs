//! `memcpy` and `memmove` for the static binary.
//!
//! Those of musl for this processor are a `rep movs` for any length: 25 ns for a single byte. A start
//! copies two thousand strings, most of them shorter than 16 bytes, and was in it for a fortieth of its
//! time. The linker takes these before it looks into musl, for the C parts as well.

/// Elsewhere they have other names, for the tests: a shared C library knows the processor better.
#[cfg(target_env = "musl")]
macro_rules! name {
    ($of:literal) => {
        $of
    };
}
#[cfg(not(target_env = "musl"))]
macro_rules! name {
    ($of:literal) => {
        concat!("aj_", $of)
    };
}

// In assembly: of Rust the compiler would make a call of `memcpy`, and link-time optimization would
// drop what nothing seems to call. They read and write exactly `n` bytes at each side; pieces of one length
// may overlap each other. What `memmove` needs of the forward copy: up to 15 bytes all loads come before all
// stores, and beyond that a store never reaches what is still to be loaded when it goes down.
//
// SAFETY (of all that call them, as ISO C 7.26.2 has it): both ranges are valid for `n` bytes, and for
// `memcpy` do not overlap. They keep to the System V ABI: only caller-saved registers, no stack, and the
// direction flag is clear.
std::arch::global_asm!(
    concat!(".pushsection .text.", name!("memcpy"), ",\"ax\",@progbits"),
    concat!(".globl ", name!("memcpy")),
    concat!(".type ", name!("memcpy"), ",@function"),
    ".p2align 5",
    concat!(name!("memcpy"), ":"),
    "mov rax, rdi",
    "cmp rdx, 16",
    "jae 3f",
    "cmp edx, 8",
    "jae 2f",
    "cmp edx, 4",
    "jae 1f",
    "test edx, edx",
    "je 9f",
    // One to three: the first, the middle and the last.
    "movzx ecx, byte ptr [rsi]",
    "movzx r8d, byte ptr [rsi + rdx - 1]",
    "mov r9, rdx",
    "shr r9, 1",
    "movzx esi, byte ptr [rsi + r9]",
    "mov byte ptr [rdi + r9], sil",
    "mov byte ptr [rdi], cl",
    "mov byte ptr [rdi + rdx - 1], r8b",
    "9:",
    "ret",
    // Four to seven.
    "1:",
    "mov ecx, dword ptr [rsi]",
    "mov r8d, dword ptr [rsi + rdx - 4]",
    "mov dword ptr [rdi], ecx",
    "mov dword ptr [rdi + rdx - 4], r8d",
    "ret",
    // Eight to fifteen.
    "2:",
    "mov rcx, qword ptr [rsi]",
    "mov r8, qword ptr [rsi + rdx - 8]",
    "mov qword ptr [rdi], rcx",
    "mov qword ptr [rdi + rdx - 8], r8",
    "ret",
    "3:",
    "movups xmm1, xmmword ptr [rsi + rdx - 16]",
    "lea rcx, [rdi + rdx - 16]",
    "cmp rdx, 512",
    "ja 5f",
    // Sixteen at a time, and the last sixteen, wherever they begin.
    "4:",
    "movups xmm0, xmmword ptr [rsi]",
    "movups xmmword ptr [rdi], xmm0",
    "add rsi, 16",
    "add rdi, 16",
    "cmp rdi, rcx",
    "jb 4b",
    "movups xmmword ptr [rcx], xmm1",
    "ret",
    // Long: the processor knows best.
    "5:",
    "mov r8, rcx",
    "mov rcx, rdx",
    "shr rcx, 3",
    "rep movsq",
    "movups xmmword ptr [r8], xmm1",
    "ret",
    concat!(".size ", name!("memcpy"), ", . - ", name!("memcpy")),
    concat!(".globl ", name!("memmove")),
    concat!(".type ", name!("memmove"), ",@function"),
    ".p2align 5",
    concat!(name!("memmove"), ":"),
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    // Downwards, or far enough.
    concat!("jae ", name!("memcpy")),
    "cmp rdx, 16",
    concat!("jb ", name!("memcpy")),
    // Upwards into itself: from the end, and the first sixteen as they were.
    "mov rax, rdi",
    "movups xmm1, xmmword ptr [rsi]",
    "6:",
    "movups xmm0, xmmword ptr [rsi + rdx - 16]",
    "movups xmmword ptr [rdi + rdx - 16], xmm0",
    "sub rdx, 16",
    "cmp rdx, 16",
    "ja 6b",
    "movups xmmword ptr [rdi], xmm1",
    "ret",
    concat!(".size ", name!("memmove"), ", . - ", name!("memmove")),
    ".popsection",
);

#[cfg(test)]
mod tests {
    use std::ffi::c_void;

    unsafe extern "C" {
        #[cfg_attr(target_env = "musl", link_name = "memcpy")]
        fn aj_memcpy(to: *mut c_void, from: *const c_void, n: usize) -> *mut c_void;
        #[cfg_attr(target_env = "musl", link_name = "memmove")]
        fn aj_memmove(to: *mut c_void, from: *const c_void, n: usize) -> *mut c_void;
    }

    #[test]
    fn every_length_at_every_place_is_copied_and_nothing_beside_it() {
        let from: Vec<u8> = (0..1400u32).map(|i| (i * 7 + i / 256) as u8).collect();
        for n in (0..160).chain(500..530).chain([1023, 1024, 1025, 1300]) {
            for (a, b) in [(0, 0), (1, 0), (0, 3), (5, 9), (15, 1), (31, 30)] {
                let mut to = vec![0xaa; n + 64];
                let at = &raw mut to[b];
                // SAFETY: both hold that many bytes from there, and they are two.
                let said = unsafe { aj_memcpy(at.cast(), from[a..].as_ptr().cast(), n) };
                assert_eq!(said, at.cast());
                assert_eq!(&to[b..b + n], &from[a..a + n], "{n} bytes, {a} to {b}");
                assert!(to[..b].iter().chain(&to[b + n..]).all(|x| *x == 0xaa), "{n} bytes, {a} to {b}");
            }
        }
    }
    #[test]
    fn what_is_moved_within_one_place_arrives_as_it_was() {
        let all: Vec<u8> = (0..2000u32).map(|i| (i * 13 + i / 256) as u8).collect();
        for n in (0..100).chain(505..520).chain([900, 1111]) {
            for by in [0, 1, 3, 7, 8, 15, 16, 17, 31, 64, 511, 700] {
                for (a, b) in [(100, 100 + by), (100 + by, 100)] {
                    let mut wanted = all.clone();
                    wanted[b..b + n].copy_from_slice(&all[a..a + n]);
                    let mut have = all.clone();
                    let base = have.as_mut_ptr();
                    // SAFETY: both lie in the one buffer, with that many bytes behind them.
                    unsafe { aj_memmove(base.add(b).cast(), base.add(a).cast(), n) };
                    assert!(have == wanted, "{n} bytes from {a} to {b}");
                }
            }
        }
    }
}
