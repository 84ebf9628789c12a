//! `upcall-client send`: inputs from arguments, files and standard input, each sent once.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use super::datagram_commands as commands;
use super::exchange::Exchange;
use super::link::{self, End, Manner};
use super::source::Source;
use crate::cli::Send;
use crate::commands::failure::Failure;
use crate::commands::terminal::output::Discard;
use crate::commands::terminal::signals::Signals;
use crate::exit::Status;
use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_wire::address::{Address, DEFAULT_PORT};

/// Nothing is ever sent on a second connection: what the first carried may have been delivered already.
const NO_RETRY: &str = "not tried again, because inputs could be sent twice";

/// Sends everything, and waits until the daemon has taken it, where the transport can tell.
pub(in crate::commands) fn run(address: &Address, options: &Send) -> Result<(), Failure> {
    if let [first, ..] = options.messages.as_slice()
        && let Some(url) = first.to_str().filter(|first| Address::parse_url(first, Some(DEFAULT_PORT)).is_ok())
    {
        let message =
            format!("the URL goes before the command: upcall-client {url} send …; as a message, send it with -");
        return Err(Failure::new(Status::Usage, message));
    }
    // Whatever can be wrong on this side is found before anything is sent.
    let source = gather(address, options)?;
    let manner = Manner { timeout: CONNECT_TIMEOUT, linger: options.linger, echo: false };
    let mut link = link::open(address, manner)?;
    let signals = Signals::catch_for(address)?;
    let exchange = Exchange {
        link: &mut *link,
        source: Some(source),
        // The daemon calls us back like everybody else; unread, that would block it and us.
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
        End::Closed { farewell: Some(farewell), .. } => Err(Failure::from(&farewell).and(NO_RETRY)),
        End::Closed { complete: true, .. } | End::Sent => Ok(()),
        End::Failed(failure) if failure.status() == Status::BadData => Err(failure),
        End::Failed(failure) => Err(failure.and(NO_RETRY)),
        End::Closed { .. } => Err(Failure::new(
            Status::Refused,
            "the daemon closed the connection before everything was sent, and did not say why",
        )
        .and(NO_RETRY)),
        End::Broken(error) => {
            Err(Failure::new(Status::Io, format!("the connection to {address} broke: {error}")).and(NO_RETRY))
        }
        End::Lingered { unsent } => {
            let what = if unsent { "did not take everything" } else { "did not confirm that it has taken everything" };
            let linger = humantime::format_duration(options.linger);
            Err(Failure::new(Status::TimedOut, format!("the daemon {what} within {linger}")).and(NO_RETRY))
        }
        // A signal has ended the program by now, and nothing that could cause the others was set up.
        End::Enough | End::OutputClosed | End::TimedOut | End::Stopped => Ok(()),
    }
}

fn gather(address: &Address, options: &Send) -> Result<Source, Failure> {
    let mut source = Source::default();
    for message in &options.messages {
        if message == OsStr::new("-") {
            source.add_stdin(false)?;
        } else {
            let message = line(message.as_bytes())?;
            if address.transport().is_datagram() {
                commands::check(&message, !address.is_local())?;
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
    let advice = "a line carries each message; send other bytes as separate messages, or their lines with - or --file";
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
