//! Cases whose cost must not grow with the number of endpoints that are idle, behind or have a deadline.

use std::io;
use std::time::Duration;

use upcall_wire::address::Transport;
use upcall_wire::frame::{Frame, Send};
use upcall_wire::reason::Reason;

use crate::counting::{check, counted};
use crate::harness::{EngineHarness, MESSAGE};

/// How many units are counted.
const TIMES: u64 = 200;

/// An input on a topic that only its sender receives, since it has no filters. The others subscribe to other topics.
pub(crate) fn topics(endpoints: usize) -> io::Result<u64> {
    let mut harness = EngineHarness::new("{data}")?;
    let sender = harness.register_native(&[])?;
    for n in 0..endpoints {
        harness.register_native(&[&format!("idle/{n:05}"), &format!("idle/{n:05}/*")])?;
    }
    harness.end_turn();
    // Many topics: the hash tables of std are seeded by each process, so the cost of looking up one topic is random.
    let topics: Vec<String> = (0..2 * TIMES).map(|n| format!("none/{n:05}")).collect();
    counted(TIMES, |n| {
        let send = Send { id: n + 1, receipt: false, topic: &topics[n as usize], payload: MESSAGE };
        harness.engine.handle_frame(harness.now, sender, &Frame::Send(send));
        harness.end_turn();
    });
    check("delivered", harness.engine.counters().upcalls, 2 * TIMES)?;
    Ok(TIMES)
}

/// An input that is due to all endpoints, where all but its sender have a full socket: the turn visits each of them.
pub(crate) fn behind(endpoints: usize) -> io::Result<u64> {
    let mut harness = EngineHarness::new("{data}")?;
    let first = harness.register_text(Transport::Tcp, false)?;
    for _ in 0..endpoints {
        harness.register_text(Transport::Tcp, true)?;
    }
    harness.engine.input(harness.now, first, MESSAGE);
    harness.block_ready();
    let sender = harness.register_text(Transport::Tcp, true)?;
    counted(TIMES, |_| {
        harness.engine.input(harness.now, sender, MESSAGE);
        harness.end_turn();
    });
    check("behind", harness.engine.behind() as u64, endpoints as u64)?;
    check("delivered", harness.engine.counters().upcalls, 2 * TIMES)?;
    Ok(TIMES * endpoints as u64)
}

/// A turn in which nothing happens.
pub(crate) fn silence(endpoints: usize) -> io::Result<u64> {
    let mut harness = EngineHarness::new("{data}")?;
    for _ in 0..endpoints {
        harness.register_text(Transport::Tcp, true)?;
    }
    counted(TIMES, |_| {
        harness.advance_time(Duration::from_millis(1));
        harness.end_turn();
    });
    check("registered", harness.engine.registered() as u64, endpoints as u64)?;
    Ok(TIMES)
}

/// A turn in which nothing happens, while each endpoint has an unfinished message and so a deadline.
pub(crate) fn unfinished(endpoints: usize) -> io::Result<u64> {
    let mut harness = EngineHarness::new("{data}")?;
    for _ in 0..endpoints {
        let id = harness.register_text(Transport::Tcp, true)?;
        harness.engine.note_received(harness.now, id, true);
    }
    counted(TIMES, |_| {
        harness.advance_time(Duration::from_millis(1));
        harness.end_turn();
    });
    check("registered", harness.engine.registered() as u64, endpoints as u64)?;
    check("deadlines", u64::from(harness.engine.deadline().is_some()), 1)?;
    Ok(TIMES)
}

/// A turn in which one lease of many is renewed.
pub(crate) fn leases(endpoints: usize) -> io::Result<u64> {
    let mut harness = EngineHarness::new("{data}")?;
    let join = |_| harness.register_text(Transport::Udp, true);
    let all = (0..endpoints).map(join).collect::<io::Result<Vec<_>>>()?;
    counted(TIMES, |n| {
        harness.advance_time(Duration::from_millis(1));
        harness.engine.renew(harness.now, all[n as usize % all.len()]);
        harness.end_turn();
    });
    check("registered", harness.engine.registered() as u64, endpoints as u64)?;
    let renewed = all.iter().filter(|id| harness.engine.lease(**id) > harness.engine.lease_deadline()).count();
    check("renewed", renewed as u64, 2 * TIMES)?;
    Ok(TIMES)
}

/// One endpoint is registered and leaves; others stay.
pub(crate) fn register_and_leave(endpoints: usize) -> io::Result<u64> {
    let mut harness = EngineHarness::new("{data}")?;
    for _ in 0..endpoints {
        harness.register_text(Transport::Tcp, true)?;
    }
    let mut refused = 0;
    counted(TIMES, |_| {
        match harness.register_text(Transport::Tcp, true) {
            Ok(id) => harness.engine.leave(harness.now, id, Reason::Closed),
            Err(_) => refused += 1,
        }
        harness.end_turn();
    });
    check("refused", refused, 0)?;
    check("left", harness.left, 2 * TIMES)?;
    Ok(TIMES)
}
