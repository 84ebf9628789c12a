//! `upcall-client send --protocol text`: sends inputs from arguments, files and standard input, each at most once.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_wire::address::Address;

use super::connect::{catch_signals, connect};
use super::datagram_commands;
use super::exchange::{Exchange, ExchangeEnd};
use super::lines::ByeLine;
use super::link::{LinkEnd, LinkOptions};
use super::sink::Discard;
use super::source::LineSource;
use crate::cli::SendOptions;
use crate::commands::failure::Failure;
use crate::exit::Status;

/// Nothing is sent on a second connection, since the inputs of the first may already have been delivered.
const NO_RETRY: &str = "not retried, because inputs could be sent twice";

/// Sends everything. On a stream, waits until the daemon has accepted it; datagram transports have no confirmation.
pub(in crate::commands) fn run(address: &Address, options: &SendOptions) -> Result<(), Failure> {
    // Mistakes on this side are found before anything is sent.
    let source = gather(address, options)?;
    let link_options = LinkOptions { timeout: CONNECT_TIMEOUT, linger: options.linger, echo: false };
    let mut link = connect(address, link_options)?;
    let signals = catch_signals(address)?;
    let exchange = Exchange {
        link: &mut *link,
        source: Some(source),
        // The daemon sends us upcalls as it does to every endpoint. They must be read: otherwise both sides would
        // block.
        sink: &mut Discard,
        deadline: None,
        stop: signals.as_ref().map(AsFd::as_fd),
        output: None,
    };
    let end = exchange.run()?;
    if let Some(signals) = &signals {
        signals.release();
    }
    match end {
        ExchangeEnd::Link(end) => outcome(end, address, options),
        // A signal would have ended the program, and nothing was set up that could cause the others.
        ExchangeEnd::Enough | ExchangeEnd::OutputClosed | ExchangeEnd::TimedOut | ExchangeEnd::Stopped => Ok(()),
    }
}

fn outcome(end: LinkEnd, address: &Address, options: &SendOptions) -> Result<(), Failure> {
    let failure = match end {
        LinkEnd::Closed { farewell: Some(farewell), .. } => Failure::from(&farewell),
        LinkEnd::Closed { complete: true, .. } | LinkEnd::Sent => return Ok(()),
        LinkEnd::Failed(failure) if failure.status() == Status::BadData => return Err(failure),
        LinkEnd::Failed(failure) => failure,
        LinkEnd::Closed { .. } => Failure::new(
            Status::Refused,
            "the daemon closed the connection before everything was sent, and gave no reason",
        ),
        LinkEnd::Broken(error) => Failure::new(Status::Io, format!("the connection to {address} broke: {error}")),
        LinkEnd::Lingered { unsent } => {
            let what = if unsent { "did not accept everything" } else { "did not confirm that it accepted everything" };
            let linger = humantime::format_duration(options.linger);
            Failure::new(Status::TimedOut, format!("the daemon {what} within {linger}"))
        }
    };
    Err(failure.with_note(NO_RETRY))
}

fn gather(address: &Address, options: &SendOptions) -> Result<LineSource, Failure> {
    let mut source = LineSource::default();
    for message in &options.messages {
        if message == OsStr::new("-") {
            source.add_stdin(ByeLine::Sent)?;
        } else {
            let message = line(message.as_bytes())?;
            if address.transport().is_datagram() {
                datagram_commands::refuse(&message, !address.is_local())?;
            }
            source.add_bytes(message);
        }
    }
    if let Some(file) = &options.file {
        source.add_file(file)?;
    }
    Ok(source)
}

/// A message as a line of the text protocol.
fn line(message: &[u8]) -> Result<Vec<u8>, Failure> {
    let complaint = match message {
        b"" => "is empty",
        _ if message.contains(&b'\n') => "contains a newline",
        _ => return Ok([message, b"\n"].concat()),
    };
    let advice = "each message is a line; send other bytes as separate messages, or their lines with - or --file";
    Err(Failure::new(Status::BadData, format!("a message {complaint}, which cannot be sent: {advice}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_lines_of_any_bytes() {
        assert_eq!(line(b"a b\xff").unwrap(), b"a b\xff\n");
        for message in [&b""[..], b"a\nb", b"\n"] {
            assert_eq!(line(message).unwrap_err().status(), Status::BadData);
        }
    }
}
