//! The warm-up before a measurement: publishes until every receiver has received a message, so that it is certainly
//! registered. If that does not happen, reports the likely reason.

use std::time::{Duration, Instant};

use super::progress::ProgressLine;
use super::swarm::Swarm;
use crate::commands::failure::Failure;
use crate::exit::Status;

/// The time between two messages. A connection that the daemon had not accepted yet gets the next one.
const INTERVAL: Duration = Duration::from_millis(100);

/// The longest wait at a time.
const TURN: Duration = Duration::from_millis(10);

/// Returns once every receiver (the publisher, if there are no others) has received everything that was published since
/// its first message. Fails if no further receiver has received one for `timeout`.
pub(super) fn warm_up(swarm: &mut Swarm, timeout: Duration, progress: &mut ProgressLine) -> Result<(), Failure> {
    let mut next = Instant::now();
    let mut last_news = next;
    let mut known = 0;
    loop {
        let now = Instant::now();
        if now >= next {
            swarm.publish(1)?;
            next = now + INTERVAL;
        }
        swarm.turn(TURN)?;
        let (receivers, begun) = swarm.receivers();
        if begun == receivers && (receivers > 0 || swarm.echoes()) {
            break;
        }
        progress.show(now, || format!("{begun} of {receivers} receivers are registered"));
        if begun > known {
            (known, last_news) = (begun, now);
        } else if now - last_news >= timeout {
            return Err(explain(swarm, timeout));
        }
    }
    // The publisher's own upcalls arrive together with those of the others, or never (deliver_to = "others").
    let until = Instant::now() + INTERVAL;
    while !swarm.echoes() && Instant::now() < until {
        swarm.turn(TURN)?;
    }
    while swarm.slowest() < swarm.sent() {
        swarm.turn(TURN)?;
    }
    Ok(())
}

fn explain(swarm: &Swarm, timeout: Duration) -> Failure {
    let (receivers, begun) = swarm.receivers();
    let reason = if receivers == 0 {
        "this connection does not receive its own messages: ping-pong needs deliver_to = \"all\" or \"sender\", a \
         format with {data}, and a listener whose role is \"both\""
            .to_owned()
    } else if begun > 0 {
        format!("only {begun} of {receivers} receivers have received an upcall")
    } else if swarm.echoes() {
        "only the publisher gets its upcalls: deliver_to is \"sender\", and this needs \"all\" or \"others\"".to_owned()
    } else {
        format!(
            "none of {receivers} receivers has received an upcall: is deliver_to \"sender\", the listener's role \
             \"input\", or the daemon stuck?"
        )
    };
    let reason = if swarm.has_only_foreign() && begun == 0 && !swarm.echoes() {
        "upcalls arrive, but without the data that was sent: the daemon's format must contain {data}".to_owned()
    } else {
        reason
    };
    let time = humantime::format_duration(timeout);
    Failure::new(Status::TimedOut, format!("{reason} (waited {time})"))
}
