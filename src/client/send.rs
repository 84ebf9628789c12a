//! `upcall-client send`: inputs from arguments, files and standard input, each sent once.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::connection::{CONNECT_TIMEOUT, Connection};
use super::exchange::{End, Exchange};
use super::failure::Failure;
use super::output::Discard;
use super::source::Source;
use crate::address::Address;
use crate::cli::Send;
use crate::exit::Status;

/// A connection is never made twice: what it carried may have been delivered already.
const NO_RETRY: &str = "not tried again, because inputs could be sent twice";

/// Sends everything, and waits until the daemon has taken it.
pub(super) fn run(address: &Address, options: &Send) -> Result<(), Failure> {
    // Whatever can be wrong on this side is found before anything is sent.
    let source = gather(options)?;
    let mut connection = Connection::open(address, CONNECT_TIMEOUT)?;
    let exchange = Exchange {
        connection: &mut connection,
        source: Some(source),
        // The daemon calls us back like everybody else; unread, that would block it and us.
        sink: &mut Discard,
        linger: options.linger,
        deadline: None,
        stop: None,
        output: None,
    };
    match exchange.run()? {
        End::Closed { farewell: Some(farewell), .. } => Err(farewell.failure().and(NO_RETRY)),
        End::Closed { complete: true, .. } => Ok(()),
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
        // Nothing that could cause these was set up.
        End::Enough | End::OutputClosed | End::TimedOut | End::Stopped => Ok(()),
    }
}

fn gather(options: &Send) -> Result<Source, Failure> {
    let mut source = Source::default();
    for message in &options.messages {
        if message == OsStr::new("-") {
            source.add_stdin(false)?;
        } else {
            source.add_bytes(line(message.as_bytes())?);
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
