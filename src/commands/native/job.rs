//! A command that runs for an upcall: fed on its standard input, killed with all it has started.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::render as show;
use upcall_client::Upcall;

/// How long a command that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A running command.
#[derive(Debug)]
pub(super) struct Job {
    child: Child,
    group: Pid,
    stdin: Option<ChildStdin>,
    payload: Vec<u8>,
    /// This much of it is in the pipe.
    written: usize,
    timeout: Option<Duration>,
    /// When to ask it to end, and, once it was asked, when to kill it.
    kill_at: Option<Instant>,
    asked: bool,
}

impl Job {
    /// Runs the command for an upcall.
    pub(super) fn start(command: &[OsString], upcall: Upcall, timeout: Option<Duration>) -> io::Result<Job> {
        let [program, arguments @ ..] = command else { return Err(ErrorKind::InvalidInput.into()) };
        let from = if upcall.source == 0 { String::new() } else { upcall.source.to_string() };
        let mut child = Command::new(program)
            .args(arguments)
            .env("UPCALL_SEQUENCE", upcall.sequence.to_string())
            .env("UPCALL_TOPIC", &upcall.topic)
            .env("UPCALL_FROM", from)
            .env("UPCALL_TIME", show::time(&upcall))
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(|_| ErrorKind::Other)?);
        let stdin = child.stdin.take();
        if let Some(stdin) = &stdin {
            // A command that does not read must not stop us.
            fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let kill_at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let payload = upcall.payload;
        let mut job = Job { child, group, stdin, payload, written: 0, timeout, kill_at, asked: false };
        job.feed();
        Ok(job)
    }

    /// The pipe that waits for room.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().map(AsFd::as_fd)
    }

    /// Writes what fits of the payload, and closes the pipe behind it, or when nobody reads it.
    pub(super) fn feed(&mut self) {
        while let Some(stdin) = &mut self.stdin {
            let rest = &self.payload[self.written..];
            let result = if rest.is_empty() { Ok(0) } else { stdin.write(rest) };
            match result {
                Ok(0) => self.stdin = None,
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It has seen enough: that is its own business.
                Err(_) => self.stdin = None,
            }
        }
    }

    /// When to call [`Job::expire`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.kill_at
    }

    /// Asks the command to end when its time is over, and kills it when it does not.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.kill_at.is_none_or(|at| at > now) {
            return;
        }
        let signal = if self.asked { Signal::SIGKILL } else { Signal::SIGTERM };
        self.kill_at = (!self.asked).then(|| now + GRACE);
        self.asked = true;
        self.signal(signal);
    }

    /// Asks the command to end, because we do.
    pub(super) fn stop(&mut self) {
        self.timeout = None;
        self.asked = false;
        self.kill_at = Some(Instant::now());
        self.expire(Instant::now());
    }

    fn signal(&self, signal: Signal) {
        // Until the child is waited for, nobody else can have its number.
        let _ = killpg(self.group, signal);
    }

    /// Whether the command has ended: well, or with a complaint. Whatever it left behind is killed.
    pub(super) fn ended(&mut self) -> Option<Result<(), String>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.group), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return None,
            _ => self.signal(Signal::SIGKILL),
        }
        Some(match (self.child.wait(), self.asked.then_some(self.timeout).flatten()) {
            (_, Some(timeout)) => Err(format!("took longer than {}", humantime::format_duration(timeout))),
            (Ok(status), _) if status.success() => Ok(()),
            (Ok(status), _) => Err(match (status.code(), status.signal()) {
                (Some(code), _) => format!("failed with exit status {code}"),
                (_, Some(signal)) => format!("was killed by signal {signal}"),
                _ => "failed".into(),
            }),
            (Err(error), _) => Err(format!("cannot be waited for: {error}")),
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Where it has been waited for, there is nothing left to be killed, and nobody to be hit instead.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
