//! Signals while the terminal is ours: nothing may end the program with the terminal in raw mode.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

/// Catches the signals that would end the program; readable once one has come.
#[derive(Debug)]
pub(super) struct Signals {
    wake: UnixStream,
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// From here on the signals no longer end the program by themselves.
    pub(super) fn catch() -> io::Result<Signals> {
        let (wake, write) = UnixStream::pair()?;
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or_default())?;
            low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Signals { wake, last })
    }

    /// Does what the last signal would have done had it not been caught. An interrupt has done its work already: it
    /// ended what was waited for.
    pub(super) fn obey(&self) {
        let signal = i32::try_from(self.last.load(Ordering::Relaxed)).unwrap_or_default();
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
