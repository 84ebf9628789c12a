//! `upcall-client listen`: prints upcalls as they come, and comes back when the connection is lost. It sends no input, ever.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::PollFlags;

use super::render::Look;
use super::subscriber::{Wish, follow, part, signals};
use super::wait;
use crate::cli::Listen;
use crate::commands::failure::Failure;
use crate::commands::reconnect::Losses;
use crate::commands::terminal::output::Output;
use crate::exit::Status;
use upcall_client::Client;
use upcall_wire::address::Address;

/// Written at once at most, in bytes; a single upcall may be longer.
const BATCH: usize = 256 << 10;

/// Prints upcalls until there were enough, the time is over, nobody reads them, or the connection cannot be had.
pub(in crate::commands) fn run(address: &Address, options: &Listen) -> Result<(), Failure> {
    let look = Look::new(options)?;
    let output = Output::stdout().map_err(|error| Failure::output(&error))?;
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let signals = signals()?;
    let mut wish = Wish {
        address,
        credentials: &options.credentials,
        topics: &options.topics,
        since: options.since,
        again: options.again,
        deadline,
        output: Some(output.as_fd()),
        signals: &signals,
        losses: Losses::default(),
    };
    let Some(mut client) = wish.connect()? else { return Ok(()) };
    let mut left = options.count;
    let end = loop {
        follow(&signals, &client);
        match print(&mut client, &mut wish, &look, &output, &mut left) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(failure) => break Err(failure),
        }
        if deadline.is_some_and(|by| by <= Instant::now()) {
            break options.count.map_or(Ok(()), |count| {
                let message = format!("fewer than {count} upcalls came within the time allowed");
                Err(Failure::new(Status::TimedOut, message))
            });
        }
        let waits = [
            Some((client.as_fd(), PollFlags::POLLIN)),
            Some((signals.as_fd(), PollFlags::POLLIN)),
            Some((output.as_fd(), PollFlags::empty())),
        ];
        let [_, stop, gone] = wait(waits, deadline);
        if stop || gone {
            break Ok(());
        }
    };
    part(client, Some(&signals));
    end
}

/// Prints what has come; says whether more is wanted.
fn print(
    client: &mut Client,
    wish: &mut Wish<'_>,
    look: &Look,
    output: &Output,
    left: &mut Option<u64>,
) -> Result<bool, Failure> {
    loop {
        let mut batch = Vec::new();
        let mut end = None;
        while batch.len() < BATCH && *left != Some(0) && end.is_none() {
            match client.try_next() {
                Ok(Some(item)) => match wish.sort(item) {
                    Some(Ok(upcall)) => {
                        look.upcall(&upcall, &mut batch);
                        *left = left.map(|left| left - 1);
                    }
                    Some(Err(gap)) => look.gap(&gap, &mut batch),
                    None => {}
                },
                Ok(None) => end = Some(Ok(true)),
                Err(error) => end = Some(Err(error.into())),
            }
        }
        match output.write_all(&batch) {
            // Whoever has read enough of us is content.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(Failure::output(&error)),
            Ok(()) if *left == Some(0) => return Ok(false),
            Ok(()) => {}
        }
        if let Some(end) = end {
            return end;
        }
    }
}
