//! `upcall-client send`: inputs from arguments, files and standard input, each confirmed by a receipt.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use nix::poll::PollFlags;
use serde_json::json;

use super::inputs::Inputs;
use super::losses::Losses;
use super::{PARTING, builder, wait};
use crate::cli::Send;
use crate::commands::failure::{Failure, say};
use crate::commands::output::Output;
use crate::exit::Status;
use upcall_client::{Client, Error, Item, Receipt, Role};
use upcall_wire::address::{Address, DEFAULT_PORT};

/// Sends everything, and waits for the receipts.
pub(in crate::commands) fn run(address: &Address, options: &Send) -> Result<(), Failure> {
    if let [first, ..] = options.messages.as_slice()
        && let Some(url) = first.to_str().filter(|first| Address::parse_url(first, Some(DEFAULT_PORT)).is_ok())
    {
        let message =
            format!("the URL goes before the command: upcall-client {url} send …; as a message, send it with -");
        return Err(Failure::new(Status::Usage, message));
    }
    // Whatever can be wrong on this side is found before anything is sent.
    let mut inputs = Inputs::default();
    for message in &options.messages {
        if message == OsStr::new("-") {
            inputs.add_stdin()?;
        } else {
            inputs.add(message.as_bytes());
        }
    }
    if let Some(file) = &options.file {
        inputs.add_file(file)?;
    }
    // The daemon calls us back like everybody else, if we let it.
    let client = builder(address, &options.credentials).role(Role::SendOnly).connect()?;
    let output = Output::stdout().map_err(|error| Failure::output(&error))?;
    let mut sender = Sender { options, client, output, tally: Tally::default(), losses: Losses::default() };
    sender.send(inputs)?;
    let Sender { client, tally, .. } = sender;
    // Everything is confirmed: a goodbye that nobody answers is no failure.
    let _ = client.close(PARTING);
    tally.verdict(options.require_receivers)
}

/// What became of the inputs.
#[derive(Debug, Default)]
struct Tally {
    posted: u64,
    answered: u64,
    fewest: Option<u32>,
    /// How many went to fewer than wanted.
    few: u64,
    failed: u64,
    first_failure: Option<Error>,
}

struct Sender<'a> {
    options: &'a Send,
    client: Client,
    output: Output,
    tally: Tally,
    losses: Losses,
}

impl Sender<'_> {
    fn send(&mut self, mut inputs: Inputs) -> Result<(), Failure> {
        let mut linger_until = None;
        loop {
            while self.client.has_room()
                && let Some(message) = inputs.next()
            {
                self.client.queue(self.options.topic.as_deref().unwrap_or_default(), &message)?;
                self.tally.posted += 1;
            }
            while let Some(item) = self.client.try_next().map_err(|error| self.lost(error))? {
                self.hear(item)?;
            }
            let done = inputs.is_exhausted();
            if done && self.tally.answered == self.tally.posted {
                return Ok(());
            }
            if done && linger_until.is_none() {
                linger_until = Instant::now().checked_add(self.options.linger);
            }
            if linger_until.is_some_and(|until| until <= Instant::now()) {
                return Err(self.lingered());
            }
            let has_room = self.client.has_room();
            if has_room && inputs.is_ready() {
                continue;
            }
            let wanted = inputs.wants().filter(|_| has_room).map(|fd| (fd, PollFlags::POLLIN));
            let [_, readable] = wait([Some((self.client.as_fd(), PollFlags::POLLIN)), wanted], linger_until);
            if readable {
                inputs.read()?;
            }
        }
    }

    fn hear(&mut self, item: Item) -> Result<(), Failure> {
        match item {
            Item::SendResult { input, result } => {
                self.print(input, &result)?;
                self.tally.take(result, self.options.require_receivers);
            }
            Item::Disconnected { error, .. } => self.losses.lost(&error),
            Item::Reconnected { .. } => self.losses.over(),
            Item::DaemonError(error) => say(&error),
            _ => {}
        }
        Ok(())
    }

    fn print(&self, input: u64, result: &Result<Receipt, Error>) -> Result<(), Failure> {
        let mut line = match (self.options.json, self.options.verbose, result) {
            (true, _, Ok(Receipt { sequence, receivers, repeat })) => {
                json!({ "input": input, "sequence": sequence, "receivers": receivers, "repeat": repeat }).to_string()
            }
            (true, _, Err(error)) => json!({ "input": input, "error": error.to_string() }).to_string(),
            (_, true, Ok(Receipt { sequence, receivers, .. })) => {
                format!("{sequence}: {receivers} {}", if *receivers == 1 { "receiver" } else { "receivers" })
            }
            _ => return Ok(()),
        };
        line.push('\n');
        match self.output.write_all(line.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::output(&error)),
            _ => Ok(()),
        }
    }

    fn lost(&self, error: Error) -> Failure {
        Failure::from(error).and(&self.tally.outstanding())
    }

    fn lingered(&self) -> Failure {
        let linger = humantime::format_duration(self.options.linger);
        let message = format!("the daemon has not confirmed everything within {linger}");
        Failure::new(Status::TimedOut, message).and(&self.tally.outstanding())
    }
}

impl Tally {
    fn take(&mut self, result: Result<Receipt, Error>, required: Option<u32>) {
        self.answered += 1;
        match result {
            Ok(receipt) => {
                self.fewest = Some(self.fewest.unwrap_or(u32::MAX).min(receipt.receivers));
                self.few += u64::from(required.is_some_and(|required| receipt.receivers < required));
            }
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert(error);
            }
        }
    }

    fn outstanding(&self) -> String {
        format!(
            "{} of {} inputs are not confirmed, and may have been delivered or not",
            self.posted - self.answered,
            self.posted
        )
    }

    fn verdict(&self, required: Option<u32>) -> Result<(), Failure> {
        if let Some(error) = &self.first_failure {
            let Tally { failed, posted, .. } = self;
            return Err(Failure::from(error.clone()).and(&format!("{failed} of {posted} inputs were not confirmed")));
        }
        if let (Some(required), 1..) = (required, self.few) {
            let (few, posted, fewest) = (self.few, self.posted, self.fewest.unwrap_or(0));
            let message = format!(
                "{few} of {posted} inputs reached fewer endpoints than the {required} of --require-receivers; the fewest: {fewest}"
            );
            return Err(Failure::new(Status::Refused, message));
        }
        Ok(())
    }
}
