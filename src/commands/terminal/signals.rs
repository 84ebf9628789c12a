//! Signals while there is something to do before the end: a terminal to restore, a goodbye to be said.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::commands::failure::Failure;
use crate::exit::Status;
use upcall_wire::address::Address;

/// Catches the signals that would end the program; readable once one has come.
#[derive(Debug)]
pub(in crate::commands) struct Signals {
    wake: UnixStream,
    last: Arc<AtomicUsize>,
    /// While true, the signals end the program as if nobody had caught them.
    released: Arc<AtomicBool>,
}

impl Signals {
    /// From here on the signals no longer end the program by themselves.
    pub(in crate::commands) fn catch() -> io::Result<Signals> {
        let (wake, write) = UnixStream::pair()?;
        let last = Arc::new(AtomicUsize::new(0));
        let released = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            flag::register_conditional_default(signal, Arc::clone(&released))?;
            flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or_default())?;
            low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Signals { wake, last, released })
    }

    /// Catches them where a goodbye is to be said: nobody else would end the registration of a datagram endpoint.
    pub(in crate::commands) fn catch_for(address: &Address) -> Result<Option<Signals>, Failure> {
        let signals = address.transport().is_datagram().then(Signals::catch).transpose();
        signals.map_err(|error| Failure::new(Status::Io, format!("cannot catch signals: {error}")))
    }

    /// They are caught again.
    pub(in crate::commands) fn hold(&self) {
        self.released.store(false, Ordering::SeqCst);
    }

    /// From here on they do what they always do, and so does the one that has come meanwhile.
    pub(in crate::commands) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
        if self.last() != 0 {
            let _ = low_level::emulate_default_handler(self.last());
        }
    }

    fn last(&self) -> i32 {
        i32::try_from(self.last.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Does what the last signal would have done had it not been caught. An interrupt has done its work already: it
    /// ended what was waited for.
    pub(in crate::commands) fn obey(&self) {
        let signal = self.last();
        if signal != 0 && signal != SIGINT {
            // Does not return; if it cannot end the program, the program ends by itself.
            let _ = low_level::emulate_default_handler(signal);
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
