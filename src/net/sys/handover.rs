//! Environment variables and open file descriptors that a service manager hands over to the process that it starts.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Reads variables and removes them from the environment, so that no child process inherits them. If the process has
/// several threads already, they are only read.
pub fn take_variables<const N: usize>(names: [&str; N]) -> [Option<OsString>; N] {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    names.map(|name| {
        let value = std::env::var_os(name);
        if alone && value.is_some() {
            // SAFETY: this is the only thread, so no other reads the environment now, and only this one could start
            // another.
            unsafe { std::env::remove_var(name) };
        }
        value
    })
}

/// Takes over a file descriptor that was open when the process started, and sets FD_CLOEXEC, so that no child inherits
/// it. The error is EBADF if it is not open.
///
/// Must be called once for each number, before any other descriptor is opened: until then, no other code in this
/// process can own a descriptor with this number.
pub(in crate::net) fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is used for this one call, which finds out whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and nothing else owns it: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
