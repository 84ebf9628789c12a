//! A pseudo-terminal with the client on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{Termios, tcgetattr};

use super::DEADLINE;
use super::client::Running;

/// What is typed and what is shown, with the client in between.
pub(crate) struct Terminal {
    keyboard: File,
    line: OwnedFd,
    screen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    /// Everything before this has been expected.
    seen: usize,
    before: Termios,
    pub(crate) client: Running,
}

impl Terminal {
    /// Starts the client with the terminal as its controlling one, and as each standard stream that `command` leaves.
    pub(crate) fn start(command: Command, stdout: Option<File>) -> Terminal {
        Terminal::start_as(command, "xterm", stdout)
    }

    /// The same on a terminal of another kind.
    pub(crate) fn start_as(mut command: Command, kind: &str, stdout: Option<File>) -> Terminal {
        let OpenptyResult { master, slave: line } = openpty(None, None).unwrap();
        let before = tcgetattr(&line).unwrap();
        let end = || File::from(line.try_clone().unwrap());
        command.env("TERM", kind).env_remove("NO_COLOR");
        command.stdin(end()).stdout(stdout.unwrap_or_else(end)).stderr(end());
        #[expect(unsafe_code, reason = "nothing safe makes a terminal the controlling one")]
        // SAFETY: between fork and exec only async-signal-safe calls are made, on a descriptor that is open there.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            });
        }
        let client = Running::start(&mut command);
        let mut display = File::from(master.try_clone().unwrap());
        let screen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = display.read(&mut buffer) {
                shared.0.lock().unwrap().extend_from_slice(&buffer[..n]);
                shared.1.notify_all();
            }
        });
        Terminal { keyboard: master.into(), line, screen, seen: 0, before, client }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown behind what was expected before. Returns what came in between.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let seen = self.seen;
        let find = |shown: &[u8]| memchr::memmem::find(&shown[seen..], text.as_bytes());
        let (screen, changed) = &*self.screen;
        let (shown, _) =
            changed.wait_timeout_while(screen.lock().unwrap(), DEADLINE / 2, |shown| find(shown).is_none()).unwrap();
        let Some(at) = find(&shown) else {
            panic!("{text:?} is not in {:?}", String::from_utf8_lossy(&shown[seen..]));
        };
        self.seen = seen + at + text.len();
        String::from_utf8_lossy(&shown[seen..seen + at]).into_owned()
    }

    /// Everything that has been shown.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.0.lock().unwrap()).into_owned()
    }

    /// Waits for the client to end, and checks that the terminal is as it was.
    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        let status = self.client.wait();
        assert_eq!(tcgetattr(&self.line).unwrap(), self.before, "the terminal was not restored");
        status
    }

    /// Whether keys come one at a time: a line is being edited.
    pub(crate) fn is_raw(&self) -> bool {
        !tcgetattr(&self.line).unwrap().local_flags.contains(nix::sys::termios::LocalFlags::ICANON)
    }
}
