//! What every case uses: the function whose instructions are counted, and the check that the case did its work.

use std::hint::black_box;
use std::io;

/// Runs the part of a case that is counted. Valgrind finds this function by its name, which no other function name may
/// contain.
#[inline(never)]
pub(crate) fn upcall_micro_counted(work: &mut dyn FnMut()) {
    work();
    // Without this, the call could become a jump, and valgrind would not detect the return of the function.
    black_box(());
}

/// Calls `work` with 0 to `2 * times - 1` and counts the second half: the first half allocates the memory that stays
/// in use.
pub(crate) fn counted(times: u64, mut work: impl FnMut(u64)) {
    (0..times).for_each(&mut work);
    upcall_micro_counted(&mut || (times..2 * times).for_each(&mut work));
}

/// Checks how often something happened: a count says nothing about a case that did not do its work.
pub(crate) fn check(what: &str, times: u64, expected: u64) -> io::Result<()> {
    match times == expected {
        true => Ok(()),
        false => Err(io::Error::other(format!("{what}: {times}, not {expected}"))),
    }
}
