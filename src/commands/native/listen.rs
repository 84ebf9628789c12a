//! `upcall-client listen`: prints upcalls as they arrive, and reconnects when the connection is lost. It never sends an
//! input.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::PollFlags;
use upcall_client::Client;
use upcall_wire::address::Address;

use super::render::UpcallStyle;
use super::subscriber::{Subscriber, UpcallOrGap, hold_while_connected, leave};
use crate::cli::ListenOptions;
use crate::commands::failure::Failure;
use crate::commands::poll::wait;
use crate::commands::reconnect::OutageReport;
use crate::commands::terminal::output::Output;
use crate::commands::terminal::signals::CaughtSignals;

/// At most this many bytes are written at once; a single upcall may be longer.
const BATCH: usize = 256 << 10;

/// Prints upcalls until `--count` or `--timeout` is reached, the reader of the output is gone, or no connection can be
/// made.
pub(in crate::commands) fn run(address: &Address, options: &ListenOptions) -> Result<(), Failure> {
    let style = UpcallStyle::new(options)?;
    let output = Output::stdout()?;
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let signals = CaughtSignals::catch_to_leave()?;
    let mut subscriber = Subscriber {
        address,
        credentials: &options.credentials,
        topics: &options.topics,
        since: options.since,
        again: options.again,
        deadline,
        output: Some(output.as_fd()),
        signals: &signals,
        outage: OutageReport::default(),
    };
    let Some(mut client) = subscriber.connect()? else { return Ok(()) };
    let mut remaining = options.count;
    let end = loop {
        hold_while_connected(&signals, &client);
        match print(&mut client, &mut subscriber, &style, &output, &mut remaining) {
            Ok(Printed::Everything) => {}
            Ok(Printed::Enough) => break Ok(()),
            Err(failure) => break Err(failure),
        }
        if deadline.is_some_and(|by| by <= Instant::now()) {
            break options.count.map_or(Ok(()), |count| Err(Failure::too_few_upcalls(count)));
        }
        let waits = [
            Some((client.as_fd(), PollFlags::POLLIN)),
            Some((signals.as_fd(), PollFlags::POLLIN)),
            Some((output.as_fd(), PollFlags::empty())),
        ];
        let [_, stop, reader_gone] = wait(waits, deadline);
        if stop || reader_gone {
            break Ok(());
        }
    };
    leave(client, Some(&signals));
    end
}

/// How much was printed.
enum Printed {
    /// Everything that has arrived.
    Everything,
    /// As many upcalls as requested, or as many as the reader of the output accepted before it was gone.
    Enough,
}

/// Prints the upcalls and gaps that have arrived.
fn print(
    client: &mut Client,
    subscriber: &mut Subscriber<'_>,
    style: &UpcallStyle,
    output: &Output,
    remaining: &mut Option<u64>,
) -> Result<Printed, Failure> {
    loop {
        let mut batch = Vec::new();
        let mut end = None;
        while batch.len() < BATCH && *remaining != Some(0) && end.is_none() {
            match client.try_next() {
                Ok(Some(item)) => match subscriber.handle(item) {
                    Some(UpcallOrGap::Upcall(upcall)) => {
                        style.upcall(&upcall, &mut batch);
                        *remaining = remaining.map(|remaining| remaining - 1);
                    }
                    Some(UpcallOrGap::Gap(gap)) => style.gap(&gap, &mut batch),
                    None => {}
                },
                Ok(None) => end = Some(Ok(Printed::Everything)),
                Err(error) => end = Some(Err(error.into())),
            }
        }
        if output.print(&batch)?.is_break() || *remaining == Some(0) {
            return Ok(Printed::Enough);
        }
        if let Some(end) = end {
            return end;
        }
    }
}
