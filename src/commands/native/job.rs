//! A command that runs for an upcall. It reads the payload from its standard input, and is killed together with all
//! processes that it started.

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
use upcall_client::Upcall;

use super::render;

/// The time that a command has to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A running command.
#[derive(Debug)]
pub(super) struct Job {
    child: Child,
    group: Pid,
    stdin: Option<ChildStdin>,
    payload: Vec<u8>,
    /// How many bytes of the payload were written to the pipe.
    written: usize,
    timeout: Option<Duration>,
    stage: Stage,
}

/// Which signals were sent to the command.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// None yet. SIGTERM follows at this time, if there is a timeout.
    Running { term_at: Option<Instant> },
    /// SIGTERM. SIGKILL follows.
    Terminating { cause: EndCause, kill_at: Instant },
    /// SIGKILL.
    Killed { cause: EndCause },
}

/// Why the command was terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndCause {
    /// It ran longer than its timeout.
    Timeout,
    /// This program ends.
    Stopped,
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
            .env("UPCALL_TIME", render::time(&upcall))
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(|_| ErrorKind::Other)?);
        let stdin = child.stdin.take();
        if let Some(stdin) = &stdin {
            // A command that does not read its input must not block us.
            fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let term_at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let payload = upcall.payload;
        let mut job = Job { child, group, stdin, payload, written: 0, timeout, stage: Stage::Running { term_at } };
        job.feed();
        Ok(job)
    }

    /// The pipe to poll for room, while a part of the payload is left.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().map(AsFd::as_fd)
    }

    /// Writes as much of the payload as fits, and closes the pipe at its end, or when its reader is gone.
    pub(super) fn feed(&mut self) {
        while let Some(stdin) = &mut self.stdin {
            let rest = &self.payload[self.written..];
            let result = if rest.is_empty() { Ok(0) } else { stdin.write(rest) };
            match result {
                Ok(0) => self.stdin = None,
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The command has closed its input, which is not an error.
                Err(_) => self.stdin = None,
            }
        }
    }

    /// When to call [`Job::expire`].
    pub(super) fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Running { term_at } => term_at,
            Stage::Terminating { kill_at, .. } => Some(kill_at),
            Stage::Killed { .. } => None,
        }
    }

    /// Sends SIGTERM once the timeout is over, and SIGKILL if the command is still running after the grace time.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.due().is_none_or(|at| at > now) {
            return;
        }
        match self.stage {
            Stage::Running { .. } => self.terminate(EndCause::Timeout, now),
            Stage::Terminating { cause, .. } | Stage::Killed { cause } => {
                self.stage = Stage::Killed { cause };
                self.signal(Signal::SIGKILL);
            }
        }
    }

    /// Terminates the command because this program ends.
    pub(super) fn stop(&mut self) {
        self.terminate(EndCause::Stopped, Instant::now());
    }

    fn terminate(&mut self, cause: EndCause, now: Instant) {
        self.stage = Stage::Terminating { cause, kill_at: now + GRACE };
        self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) {
        // Until the child is waited for, no other process can have its id.
        let _ = killpg(self.group, signal);
    }

    /// The result of the command, with a message if it failed; `None` while it runs. Kills processes that it left
    /// running.
    pub(super) fn reap(&mut self) -> Option<Result<(), String>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.group), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return None,
            _ => self.signal(Signal::SIGKILL),
        }
        let overtime = match self.stage {
            Stage::Terminating { cause: EndCause::Timeout, .. } | Stage::Killed { cause: EndCause::Timeout } => {
                self.timeout
            }
            _ => None,
        };
        Some(match (self.child.wait(), overtime) {
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
        // After the child was waited for, its id may belong to another process, which must not be killed.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
