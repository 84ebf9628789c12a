//! Before anything is measured: publishes until every receiver has got a message, and so is registered; where that does
//! not happen, says what may be the reason.

use std::time::{Duration, Instant};

use super::progress::Progress;
use super::swarm::Swarm;
use crate::commands::failure::Failure;
use crate::exit::Status;

/// Between two attempts. Whoever the daemon had not accepted yet gets the next one.
const INTERVAL: Duration = Duration::from_millis(100);

/// Waited at a time.
const TURN: Duration = Duration::from_millis(10);

/// Returns when every receiver, or the publisher where it is alone, has got all that was published since its first message.
/// Fails where nobody new has been heard of for `timeout`.
pub(super) fn warm_up(swarm: &mut Swarm, timeout: Duration, progress: &mut Progress) -> Result<(), Failure> {
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
    // The publisher's own upcalls are with those of the others, or never come (deliver_to = "others").
    let patience = Instant::now() + INTERVAL;
    while !swarm.echoes() && Instant::now() < patience {
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
        "what this connection says does not come back: ping-pong needs deliver_to = \"all\" or \"sender\", a format with \
         {data}, and a listener whose role is \"both\""
            .to_owned()
    } else if begun > 0 {
        format!("only {begun} of {receivers} receivers have got an upcall")
    } else if swarm.echoes() {
        "only the publisher gets its upcalls: deliver_to is \"sender\", and this needs \"all\" or \"others\"".to_owned()
    } else {
        format!(
            "none of {receivers} receivers has got an upcall: is deliver_to \"sender\", the listener's role \"input\", \
             or the daemon stuck?"
        )
    };
    let reason = if swarm.heard_others() && begun == 0 && !swarm.echoes() {
        "upcalls come, but not with what was sent: the daemon's format has to contain {data}".to_owned()
    } else {
        reason
    };
    let time = humantime::format_duration(timeout);
    Failure::new(Status::TimedOut, format!("{reason} (waited {time})"))
}
