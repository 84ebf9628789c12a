//! Signals that are caught because something must be done before the program ends: restore the terminal, or leave
//! the daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::commands::failure::Failure;
use crate::exit::Status;

/// Catches the signals that would end the program. Its descriptor is readable once a signal has arrived.
#[derive(Debug)]
pub(in crate::commands) struct CaughtSignals {
    wake: UnixStream,
    last: Arc<AtomicUsize>,
    /// While true, the signals have their default effect and end the program.
    released: Arc<AtomicBool>,
}

impl CaughtSignals {
    /// From now on the signals no longer end the program by themselves.
    pub(in crate::commands) fn catch() -> io::Result<CaughtSignals> {
        let (wake, write) = UnixStream::pair()?;
        let last = Arc::new(AtomicUsize::new(0));
        let released = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            flag::register_conditional_default(signal, Arc::clone(&released))?;
            flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or_default())?;
            low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(CaughtSignals { wake, last, released })
    }

    /// The same, for a program that only has to leave the daemon.
    pub(in crate::commands) fn catch_to_leave() -> Result<CaughtSignals, Failure> {
        CaughtSignals::catch().map_err(|error| Failure::new(Status::Io, format!("cannot catch signals: {error}")))
    }

    /// From now on the signals are caught again.
    pub(in crate::commands) fn hold(&self) {
        self.released.store(false, Ordering::SeqCst);
    }

    /// From now on the signals have their default effect. If one arrived in the meantime, it takes effect now.
    pub(in crate::commands) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
        if self.last() != 0 {
            let _ = low_level::emulate_default_handler(self.last());
        }
    }

    fn last(&self) -> i32 {
        i32::try_from(self.last.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Applies the default effect of the last signal, if there was one. SIGINT is left out: it has already ended the
    /// prompt, which is all it is for.
    pub(in crate::commands) fn obey(&self) {
        let signal = self.last();
        if signal != 0 && signal != SIGINT {
            // This returns only if it fails. Then the program ends in the usual way.
            let _ = low_level::emulate_default_handler(signal);
        }
    }
}

impl AsFd for CaughtSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
