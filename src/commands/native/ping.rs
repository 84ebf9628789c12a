//! `upcall-client ping`: checks that the daemon can be reached, admits us and answers, and prints the round-trip times.

use std::time::{Duration, Instant};

use upcall_client::{Client, Error, Role};
use upcall_wire::address::Address;

use super::builder::{LEAVE_TIMEOUT, builder};
use crate::cli::PingOptions;
use crate::commands::failure::Failure;
use crate::commands::terminal::output::Output;

/// The time between two pings.
const INTERVAL: Duration = Duration::from_secs(1);

/// Pings as often as the options say; fails if an answer does not arrive in time.
pub(in crate::commands) fn run(address: &Address, options: &PingOptions) -> Result<(), Failure> {
    let output = Output::stdout()?;
    let builder = builder(address, &options.credentials).role(Role::SendOnly).no_reconnect();
    let mut client = builder.connect_timeout(options.timeout).connect()?;
    for turn in 0..options.count {
        let started = Instant::now();
        let round_trip = client.ping(options.timeout)?;
        let line = format!("{address} answered in {:.3} ms\n", round_trip.as_secs_f64() * 1e3);
        if output.print(line.as_bytes())?.is_break() {
            break;
        }
        if turn + 1 < options.count {
            wait_until(&mut client, started + INTERVAL)?;
        }
    }
    let _ = client.close(LEAVE_TIMEOUT);
    Ok(())
}

/// Waits, and keeps the client running meanwhile.
fn wait_until(client: &mut Client, until: Instant) -> Result<(), Error> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        client.next_timeout(left)?;
    }
}
