//! What a service manager leaves for its child: variables of the environment, and open file descriptors.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Takes variables out of the environment, so that no child has them. They stay there, but are returned all the same, where
/// the process has several threads already.
pub fn take_variables<const N: usize>(names: [&str; N]) -> [Option<OsString>; N] {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    names.map(|name| {
        let value = std::env::var_os(name);
        if alone && value.is_some() {
            // SAFETY: no other thread is there to read the environment meanwhile, and only this one could make another.
            unsafe { std::env::remove_var(name) };
        }
        value
    })
}

/// Takes over a file descriptor that was open when the process began, and sees to it that no child gets it (FD_CLOEXEC).
/// The error is EBADF where there is none.
///
/// To be called once for each, and before anything else is opened: what has this number then is nobody's in this process.
pub(in crate::net) fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is used for this call only, which is the one that finds out whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and nobody else owns it: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
