//! `upcall-client send`: sends inputs from arguments, files and standard input, each confirmed by a receipt.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use nix::poll::PollFlags;
use serde_json::json;
use upcall_client::{Client, Error, Item, Receipt, Role};
use upcall_wire::address::Address;

use super::builder::{LEAVE_TIMEOUT, builder};
use super::inputs::Inputs;
use crate::cli::SendOptions;
use crate::commands::failure::Failure;
use crate::commands::poll::wait;
use crate::commands::reconnect::OutageReport;
use crate::commands::terminal::output::{Output, notice};
use crate::exit::Status;

/// Sends everything, and waits for the receipts.
pub(in crate::commands) fn run(address: &Address, options: &SendOptions) -> Result<(), Failure> {
    // Mistakes on this side are found before anything is sent.
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
    // With another role, the daemon would send us upcalls, as to every endpoint.
    let client = builder(address, &options.credentials).role(Role::SendOnly).connect()?;
    let output = Output::stdout()?;
    let mut sender = InputSender { options, client, output, tally: Tally::default(), outage: OutageReport::default() };
    sender.send(inputs)?;
    let InputSender { client, tally, .. } = sender;
    // Everything is confirmed, so it is not a failure if the daemon does not answer the BYE.
    let _ = client.close(LEAVE_TIMEOUT);
    tally.outcome(options.require_receivers)
}

/// The results so far.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    answered: u64,
    /// The fewest receivers of an input.
    fewest: Option<u32>,
    /// How many inputs reached fewer receivers than required.
    below_required: u64,
    failed: u64,
    first_failure: Option<Error>,
}

struct InputSender<'a> {
    options: &'a SendOptions,
    client: Client,
    output: Output,
    tally: Tally,
    outage: OutageReport,
}

impl InputSender<'_> {
    fn send(&mut self, mut inputs: Inputs) -> Result<(), Failure> {
        let mut linger_until = None;
        loop {
            while self.client.has_room()
                && let Some(message) = inputs.next()
            {
                self.client.queue(self.options.topic.as_deref().unwrap_or_default(), &message)?;
                self.tally.sent += 1;
            }
            while let Some(item) = self.client.try_next().map_err(|error| self.ended(error))? {
                self.handle(item)?;
            }
            let done = inputs.is_exhausted();
            if done && self.tally.answered == self.tally.sent {
                return Ok(());
            }
            if done && linger_until.is_none() {
                linger_until = Instant::now().checked_add(self.options.linger);
            }
            if linger_until.is_some_and(|until| until <= Instant::now()) {
                return Err(self.unconfirmed());
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

    fn handle(&mut self, item: Item) -> Result<(), Failure> {
        match item {
            Item::SendResult { input, result } => {
                self.print(input, &result)?;
                self.tally.add(result, self.options.require_receivers);
            }
            Item::Disconnected { error, .. } => self.outage.lost(&error),
            Item::Reconnected { .. } => self.outage.restored(),
            Item::DaemonError(error) => notice(&error),
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
        // Inputs are still sent after the reader of the output is gone.
        self.output.print(line.as_bytes()).map(drop)
    }

    fn ended(&self, error: Error) -> Failure {
        Failure::from(error).with_note(&self.tally.outstanding())
    }

    fn unconfirmed(&self) -> Failure {
        let linger = humantime::format_duration(self.options.linger);
        let message = format!("the daemon did not confirm everything within {linger}");
        Failure::new(Status::TimedOut, message).with_note(&self.tally.outstanding())
    }
}

impl Tally {
    fn add(&mut self, result: Result<Receipt, Error>, required: Option<u32>) {
        self.answered += 1;
        match result {
            Ok(receipt) => {
                self.fewest = Some(self.fewest.unwrap_or(u32::MAX).min(receipt.receivers));
                self.below_required += u64::from(required.is_some_and(|required| receipt.receivers < required));
            }
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert(error);
            }
        }
    }

    fn outstanding(&self) -> String {
        format!("not confirmed, and perhaps delivered: {} of {} inputs", self.sent - self.answered, self.sent)
    }

    fn outcome(&self, required: Option<u32>) -> Result<(), Failure> {
        let Tally { failed, sent, below_required, .. } = self;
        if let Some(error) = &self.first_failure {
            let note = format!("not confirmed: {failed} of {sent} inputs");
            return Err(Failure::from(error.clone()).with_note(&note));
        }
        if let (Some(required), 1..) = (required, *below_required) {
            let fewest = self.fewest.unwrap_or(0);
            let message = format!(
                "{below_required} of {sent} inputs had fewer receivers than --require-receivers {required}; \
                 the lowest number was {fewest}"
            );
            return Err(Failure::new(Status::Refused, message));
        }
        Ok(())
    }
}
