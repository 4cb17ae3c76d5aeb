//! What `ps` and `/proc/PID/cmdline` show of this process.

use std::ffi::c_char;

unsafe extern "C" {
    /// Where the C library has the environment: until somebody sets a variable, where the kernel put it.
    static environ: *const *const c_char;
}

/// Show `title` instead of the command line, as far as there is room for it: the old one may have been that of
/// something else, with words in it that are nobody's business. `name` is what `top` shows, 15 bytes of it.
/// Failing is no loss but for that. Nothing is opened or called for it, so that the start of a jail pays nothing.
///
/// For copies of this program that are made by [`super::clone`], which have a single thread, and make no other one
/// before this: in any other process only the name is set.
pub fn set(name: &str, title: &str) {
    super::caps::name_process(name);
    if !super::clone::is_copy() {
        return;
    }
    // SAFETY: nobody else runs, and the standard library keeps no reference to these bytes: it copies them whenever
    // it is asked.
    if let Some(bytes) = unsafe { on_the_stack() } {
        // The last byte stays 0: otherwise the kernel shows what lies behind as well.
        let room = bytes.len().saturating_sub(1);
        bytes.fill(0);
        bytes.iter_mut().take(room).zip(title.as_bytes()).for_each(|(to, from)| *to = *from);
    }
}

/// The words of the command line, where the kernel put them, each with its NUL. `None` when they are not where it
/// puts them: then nothing is known and nothing is touched.
///
/// # Safety
/// This process has a single thread, and nobody holds a reference to the words while these bytes are used.
unsafe fn on_the_stack() -> Option<&'static mut [u8]> {
    // Words and variables are 6 MiB at most (execve(2)), with the lists of them a little more.
    const MOST: usize = 64 << 20;
    // SAFETY: reads a pointer, and an auxiliary value, which takes integers only.
    let (variables, name) = unsafe { (environ, libc::getauxval(libc::AT_EXECFN) as usize) };
    // The name of the program lies behind all of them.
    if !(1..MOST).contains(&name.checked_sub(variables.addr())?) {
        return None;
    }
    // From low to high: the number of words, a pointer to each, a null, then a pointer to each variable.
    // SAFETY: the list of variables lies on the stack that this program was started with, as was looked at, and
    // below it there is the null, and then words until the number ends the search.
    let word = |back: usize| unsafe { *variables.sub(back) };
    if !word(1).is_null() {
        return None;
    }
    let count = (0..MOST).find(|n| word(n + 2).addr() == *n).filter(|n| *n > 0)?;
    let (first, last) = (word(count + 1), word(2));
    if first > last || first.addr() <= variables.addr() || last.addr() >= name {
        return None;
    }
    // SAFETY: a word that the kernel put there has a NUL behind it.
    let end = last.addr() + unsafe { libc::strlen(last) } + 1;
    // SAFETY: the words lie one behind the other in memory that belongs to this process and is writable; the caller
    // says that nobody else looks at it.
    Some(unsafe { std::slice::from_raw_parts_mut(first.cast_mut().cast(), end - first.addr()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_on_the_stack_are_the_command_line() {
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        // SAFETY: they are compared and not written, and the harness has read its words before.
        let found = unsafe { on_the_stack() }.unwrap();
        assert_eq!(found, shown);
    }
}
