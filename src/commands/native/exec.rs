//! `upcall-client exec`: runs a command for every upcall. The upcall in the textbook's sense: the server runs something in
//! the client.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::poll::PollFlags;
use signal_hook::consts::SIGCHLD;
use signal_hook::low_level::pipe;

use super::job::Job;
use super::subscriber::{Wish, follow, part, signals};
use super::wait;
use crate::cli::Exec;
use crate::commands::failure::{Failure, say};
use crate::commands::reconnect::Losses;
use crate::commands::terminal::signals::Signals;
use crate::exit::Status;
use upcall_client::{Client, Upcall};
use upcall_wire::address::Address;

/// Runs the command for one upcall after the other, until there were enough, a signal ends it, or the connection cannot be
/// had.
pub(in crate::commands) fn run(address: &Address, options: &Exec) -> Result<(), Failure> {
    // Commands get three descriptors. Everything that we open ourselves is closed for them by itself.
    close_inherited();
    let children =
        Children::watch().map_err(|error| Failure::new(Status::Io, format!("cannot watch commands: {error}")))?;
    let signals = signals()?;
    let mut wish = Wish {
        address,
        credentials: &options.credentials,
        topics: &options.topics,
        since: options.since,
        again: options.again,
        deadline: None,
        output: None,
        signals: &signals,
        losses: Losses::default(),
    };
    let Some(client) = wish.connect()? else { return Ok(()) };
    let mut runner = Runner {
        options,
        wish,
        client,
        signals: &signals,
        children,
        job: None,
        left: options.count,
        ran: 0,
        failed: 0,
    };
    let end = runner.run();
    let Runner { client, ran, failed, .. } = runner;
    let verdict = match failed {
        0 => end,
        _ => {
            if let Err(failure) = &end {
                say(failure);
            }
            Err(Failure::new(Status::JobFailed, format!("{failed} of {ran} commands failed")))
        }
    };
    // A signal ends the program as it always does, unless there is more to say.
    part(client, Some(&signals).filter(|_| verdict.is_ok()));
    verdict
}

struct Runner<'a> {
    options: &'a Exec,
    wish: Wish<'a>,
    client: Client,
    signals: &'a Signals,
    children: Children,
    job: Option<Job>,
    left: Option<u64>,
    ran: u64,
    failed: u64,
}

impl Runner<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        loop {
            if self.job.is_none() {
                follow(self.signals, &self.client);
                while self.job.is_none() && self.left != Some(0) && self.begin()? {}
            }
            if self.job.is_none() && self.left == Some(0) {
                return Ok(());
            }
            if self.wait() {
                return self.stop();
            }
        }
    }

    /// Takes what comes next; says whether there may be more at hand.
    fn begin(&mut self) -> Result<bool, Failure> {
        let Some(item) = self.client.try_next()? else { return Ok(false) };
        if let Some(Ok(upcall)) = self.wish.sort(item) {
            self.left = self.left.map(|left| left - 1);
            self.start(upcall);
        }
        Ok(true)
    }

    fn start(&mut self, upcall: Upcall) {
        let sequence = upcall.sequence;
        self.ran += 1;
        // With a child to be ended, no signal may end us at once.
        self.signals.hold();
        match Job::start(&self.options.command, upcall, self.options.job_timeout) {
            Ok(job) => self.job = Some(job),
            Err(error) => self.complain(&format!("cannot be run for upcall {sequence}: {error}")),
        }
    }

    fn complain(&mut self, what: &str) {
        self.failed += 1;
        let program = self.options.command.first().map_or("", |word| word.to_str().unwrap_or("the command"));
        say(&format!("{} {what}", upcall_wire::escape::Escaped(program.as_bytes())));
    }

    /// Waits for whatever comes first, and deals with it; says whether a signal asks us to end.
    fn wait(&mut self) -> bool {
        // While the command runs, what comes is kept, and we stay registered.
        let listens = self.job.is_none() || self.client.absorb();
        let waits = [
            listens.then(|| (self.client.as_fd(), PollFlags::POLLIN)),
            Some((self.signals.as_fd(), PollFlags::POLLIN)),
            Some((self.children.wake.as_fd(), PollFlags::POLLIN)),
            self.job.as_ref().and_then(Job::wants).map(|fd| (fd, PollFlags::POLLOUT)),
        ];
        let [_, stop, child, room] = wait(waits, self.job.as_ref().and_then(Job::due));
        if child {
            self.children.quiet();
        }
        if let Some(job) = &mut self.job {
            if room {
                job.feed();
            }
            job.expire(Instant::now());
            if let Some(result) = job.ended() {
                self.job = None;
                if let Err(what) = result {
                    self.complain(&what);
                }
            }
        }
        stop
    }

    /// Ends the command, if one runs.
    fn stop(&mut self) -> Result<(), Failure> {
        if let Some(mut job) = self.job.take() {
            job.stop();
            while job.ended().is_none() {
                wait([Some((self.children.wake.as_fd(), PollFlags::POLLIN))], job.due());
                self.children.quiet();
                job.expire(Instant::now());
            }
        }
        Ok(())
    }
}

/// Tells when a child has ended.
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

    fn quiet(&mut self) {
        // However often it was told: once is enough.
        while matches!(self.wake.read(&mut [0; 64]), Ok(1..)) {}
    }
}

/// Closes what whoever started us left open beyond the standard streams. Nothing of ours is open yet.
fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let numbers: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        // One of them was the directory's, and is closed already.
        let _ = nix::unistd::close(number);
    }
}
