//! `upcall-client ping`: is the daemon there, does it let us in, does it answer, and how soon.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::{PARTING, builder};
use crate::cli::Ping;
use crate::commands::failure::Failure;
use crate::commands::terminal::output::Output;
use upcall_client::{Error, Role};
use upcall_wire::address::Address;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);

/// Asks as often as the options say; fails where an answer does not come.
pub(in crate::commands) fn run(address: &Address, options: &Ping) -> Result<(), Failure> {
    let output = Output::stdout().map_err(|error| Failure::output(&error))?;
    let builder = builder(address, &options.credentials).role(Role::SendOnly).no_reconnect();
    let mut client = builder.connect_timeout(options.timeout).connect()?;
    for turn in 0..options.count {
        let begun = Instant::now();
        let round_trip = client.ping(options.timeout)?;
        let line = format!("{address} answered in {:.3} ms\n", round_trip.as_secs_f64() * 1e3);
        match output.write_all(line.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => return Err(Failure::output(&error)),
            Ok(()) => {}
        }
        if turn + 1 < options.count {
            rest(&mut client, begun + INTERVAL)?;
        }
    }
    let _ = client.close(PARTING);
    Ok(())
}

/// Passes the time until then, listening.
fn rest(client: &mut upcall_client::Client, until: Instant) -> Result<(), Error> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        client.next_timeout(left)?;
    }
}
