//! What must not cost more where more endpoints are idle, or wait for something.

use std::io;
use std::time::Duration;

use upcall_wire::address::Transport;
use upcall_wire::frame::{Frame, Send};
use upcall_wire::reason::Reason;

use crate::cases::{check, counted};
use crate::harness::{MESSAGE, World};

/// How often what is counted is done.
const TIMES: u64 = 200;

/// An input on a topic to which nobody but its sender, who gets everything, has subscribed.
pub(crate) fn topics(endpoints: usize) -> io::Result<u64> {
    let mut world = World::new("{data}")?;
    let sender = world.native(&[])?;
    for n in 0..endpoints {
        world.native(&[&format!("idle/{n:05}"), &format!("idle/{n:05}/*")])?;
    }
    world.turn();
    // Many, since std's hash tables are seeded anew by each process: how long one topic is looked for is luck.
    let topics: Vec<String> = (0..2 * TIMES).map(|n| format!("none/{n:05}")).collect();
    counted(TIMES, |n| {
        let send = Send { id: n + 1, receipt: false, topic: &topics[n as usize], payload: MESSAGE };
        world.engine.handle_frame(world.now, sender, &Frame::Send(send));
        world.turn();
    });
    check("delivered", world.engine.counters().upcalls, 2 * TIMES)?;
    Ok(TIMES)
}

/// An input that is due to everybody; all but its sender have a full socket, and it costs each of them a look.
pub(crate) fn behind(endpoints: usize) -> io::Result<u64> {
    let mut world = World::new("{data}")?;
    let first = world.text(Transport::Tcp, false)?;
    for _ in 0..endpoints {
        world.text(Transport::Tcp, true)?;
    }
    world.engine.input(world.now, first, MESSAGE);
    world.block();
    let sender = world.text(Transport::Tcp, true)?;
    counted(TIMES, |_| {
        world.engine.input(world.now, sender, MESSAGE);
        world.turn();
    });
    check("behind", world.engine.behind() as u64, endpoints as u64)?;
    check("delivered", world.engine.counters().upcalls, 2 * TIMES)?;
    Ok(TIMES * endpoints as u64)
}

/// Nothing happens.
pub(crate) fn silence(endpoints: usize) -> io::Result<u64> {
    let mut world = World::new("{data}")?;
    for _ in 0..endpoints {
        world.text(Transport::Tcp, true)?;
    }
    counted(TIMES, |_| {
        world.pass(Duration::from_millis(1));
        world.turn();
    });
    check("registered", world.engine.registered() as u64, endpoints as u64)?;
    Ok(TIMES)
}

/// Nothing happens; everybody has begun a message, and has a while to end it.
pub(crate) fn unfinished(endpoints: usize) -> io::Result<u64> {
    let mut world = World::new("{data}")?;
    for _ in 0..endpoints {
        let id = world.text(Transport::Tcp, true)?;
        world.engine.note_received(world.now, id, true);
    }
    counted(TIMES, |_| {
        world.pass(Duration::from_millis(1));
        world.turn();
    });
    check("registered", world.engine.registered() as u64, endpoints as u64)?;
    check("deadlines", u64::from(world.engine.deadline().is_some()), 1)?;
    Ok(TIMES)
}

/// One lease of many is renewed.
pub(crate) fn leases(endpoints: usize) -> io::Result<u64> {
    let mut world = World::new("{data}")?;
    let join = |_| world.text(Transport::Udp, true);
    let all = (0..endpoints).map(join).collect::<io::Result<Vec<_>>>()?;
    counted(TIMES, |n| {
        world.pass(Duration::from_millis(1));
        world.engine.renew(world.now, all[n as usize % all.len()]);
        world.turn();
    });
    check("registered", world.engine.registered() as u64, endpoints as u64)?;
    let renewed = all.iter().filter(|id| world.engine.lease(**id) > world.engine.lease_deadline()).count();
    check("renewed", renewed as u64, 2 * TIMES)?;
    Ok(TIMES)
}

/// One comes and goes; others stay.
pub(crate) fn come_and_go(endpoints: usize) -> io::Result<u64> {
    let mut world = World::new("{data}")?;
    for _ in 0..endpoints {
        world.text(Transport::Tcp, true)?;
    }
    let mut refused = 0;
    counted(TIMES, |_| {
        match world.text(Transport::Tcp, true) {
            Ok(id) => world.engine.leave(world.now, id, Reason::Closed),
            Err(_) => refused += 1,
        }
        world.turn();
    });
    check("refused", refused, 0)?;
    check("left", world.left, 2 * TIMES)?;
    Ok(TIMES)
}
