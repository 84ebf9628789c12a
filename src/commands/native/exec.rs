//! `upcall-client exec`: runs a command for every upcall. This is an upcall in the sense of textbooks: the server
//! causes code to run in the client.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::poll::PollFlags;
use signal_hook::consts::SIGCHLD;
use signal_hook::low_level::pipe;
use upcall_client::{Client, Upcall};
use upcall_wire::address::Address;
use upcall_wire::escape::Escaped;

use super::job::Job;
use super::subscriber::{Subscriber, UpcallOrGap, hold_while_connected, leave};
use crate::cli::ExecOptions;
use crate::commands::failure::Failure;
use crate::commands::poll::wait;
use crate::commands::reconnect::OutageReport;
use crate::commands::terminal::output::notice;
use crate::commands::terminal::signals::CaughtSignals;
use crate::exit::Status;

/// Runs the command for one upcall after the other, until `--count` is reached, a signal ends it, or no connection can
/// be made.
pub(in crate::commands) fn run(address: &Address, options: &ExecOptions) -> Result<(), Failure> {
    // Commands get only the three standard descriptors. Those that we open ourselves are close-on-exec.
    close_inherited();
    let children =
        Children::watch().map_err(|error| Failure::new(Status::Io, format!("cannot watch commands: {error}")))?;
    let signals = CaughtSignals::catch_to_leave()?;
    let mut subscriber = Subscriber {
        address,
        credentials: &options.credentials,
        topics: &options.topics,
        since: options.since,
        again: options.again,
        deadline: None,
        output: None,
        signals: &signals,
        outage: OutageReport::default(),
    };
    let Some(client) = subscriber.connect()? else { return Ok(()) };
    let mut runner = Runner {
        options,
        subscriber,
        client,
        signals: &signals,
        children,
        job: None,
        remaining: options.count,
        ran: 0,
        failed: 0,
    };
    let end = runner.run();
    let Runner { client, ran, failed, .. } = runner;
    let outcome = match failed {
        0 => end,
        _ => {
            if let Err(failure) = &end {
                notice(failure);
            }
            Err(Failure::new(Status::JobFailed, format!("{failed} of {ran} commands failed")))
        }
    };
    // A signal has its default effect, unless there is a failure to report.
    leave(client, Some(&signals).filter(|_| outcome.is_ok()));
    outcome
}

struct Runner<'a> {
    options: &'a ExecOptions,
    subscriber: Subscriber<'a>,
    client: Client,
    signals: &'a CaughtSignals,
    children: Children,
    job: Option<Job>,
    remaining: Option<u64>,
    ran: u64,
    failed: u64,
}

impl Runner<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        loop {
            if self.job.is_none() {
                hold_while_connected(self.signals, &self.client);
                while self.job.is_none() && self.remaining != Some(0) && self.handle_next()? {}
            }
            if self.job.is_none() && self.remaining == Some(0) {
                return Ok(());
            }
            if self.wait() {
                self.stop();
                return Ok(());
            }
        }
    }

    /// Handles the next item. Returns whether there may be another one.
    fn handle_next(&mut self) -> Result<bool, Failure> {
        let Some(item) = self.client.try_next()? else { return Ok(false) };
        if let Some(UpcallOrGap::Upcall(upcall)) = self.subscriber.handle(item) {
            self.remaining = self.remaining.map(|remaining| remaining - 1);
            self.start(upcall);
        }
        Ok(true)
    }

    fn start(&mut self, upcall: Upcall) {
        let sequence = upcall.sequence;
        self.ran += 1;
        // While a child runs, signals must not end this program before the child.
        self.signals.hold();
        match Job::start(&self.options.command, upcall, self.options.job_timeout) {
            Ok(job) => self.job = Some(job),
            Err(error) => self.report_failed(&format!("cannot be run for upcall {sequence}: {error}")),
        }
    }

    fn report_failed(&mut self, what: &str) {
        self.failed += 1;
        let program = self.options.command.first().map_or("", |word| word.to_str().unwrap_or("the command"));
        notice(&format!("{} {what}", Escaped(program.as_bytes())));
    }

    /// Waits for the next event and handles it. Returns whether a signal asks us to end.
    fn wait(&mut self) -> bool {
        // While the command runs, the client stays registered, and keeps the upcalls that arrive.
        let reads = self.job.is_none() || self.client.absorb();
        let waits = [
            reads.then(|| (self.client.as_fd(), PollFlags::POLLIN)),
            Some((self.signals.as_fd(), PollFlags::POLLIN)),
            Some((self.children.wake.as_fd(), PollFlags::POLLIN)),
            self.job.as_ref().and_then(Job::wants).map(|fd| (fd, PollFlags::POLLOUT)),
        ];
        let [_, stop, child, room] = wait(waits, self.job.as_ref().and_then(Job::due));
        if child {
            self.children.clear();
        }
        if let Some(job) = &mut self.job {
            if room {
                job.feed();
            }
            job.expire(Instant::now());
            if let Some(result) = job.reap() {
                self.job = None;
                if let Err(what) = result {
                    self.report_failed(&what);
                }
            }
        }
        stop
    }

    /// Stops the command, if one runs, and waits for its end.
    fn stop(&mut self) {
        if let Some(mut job) = self.job.take() {
            job.stop();
            while job.reap().is_none() {
                wait([Some((self.children.wake.as_fd(), PollFlags::POLLIN))], job.due());
                self.children.clear();
                job.expire(Instant::now());
            }
        }
    }
}

/// Its descriptor is readable once a child has ended.
struct Children {
    wake: UnixStream,
}

impl Children {
    fn watch() -> io::Result<Children> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        pipe::register(SIGCHLD, write)?;
        Ok(Children { wake })
    }

    fn clear(&mut self) {
        // Several children, or several signals, need only one wakeup.
        while matches!(self.wake.read(&mut [0; 64]), Ok(1..)) {}
    }
}

/// Closes the descriptors beyond the standard streams that this program inherited. It has not opened any itself yet.
fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let numbers: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        // One of them belonged to the directory, and is already closed.
        let _ = nix::unistd::close(number);
    }
}
