//! From an input to the bytes that are to be written.

use std::io;

use upcalld::address::Transport;
use upcalld::engine::{EndpointId, Turn};

use crate::cases::{check, counted};
use crate::world::{MESSAGE, World, peer};

/// How upcalls are rendered by default.
pub(crate) const DEFAULT: &str = "Upcall event: Processing {data}";

/// Inputs of somebody who is not registered, which are due to nobody; the format, if somebody reads text.
pub(crate) fn append(format: Option<&str>) -> io::Result<u64> {
    const TURNS: u64 = 80;
    const INPUTS: u64 = 256;
    let mut world = World::new(format.unwrap_or(DEFAULT))?;
    if format.is_some() {
        world.text(Transport::Tcp, false)?;
    }
    counted(TURNS, |_| {
        for _ in 0..INPUTS {
            world.engine.input_from(world.now, Transport::Tcp, peer(), MESSAGE);
        }
        world.turn();
    });
    check("appended", world.engine.counters().inputs, 2 * TURNS * INPUTS)?;
    check("in the log", u64::from(world.engine.log_memory().0 > 0), 1)?;
    Ok(TURNS * INPUTS)
}

/// To so many text streams.
pub(crate) fn text(endpoints: usize, inputs: u64) -> io::Result<u64> {
    fan_out(endpoints, inputs, |world| world.text(Transport::Tcp, true))
}

/// To so many native streams.
pub(crate) fn native(endpoints: usize, inputs: u64) -> io::Result<u64> {
    fan_out(endpoints, inputs, |world| world.native(&[]))
}

/// To so many text endpoints over datagrams.
pub(crate) fn datagrams(endpoints: usize, inputs: u64) -> io::Result<u64> {
    fan_out(endpoints, inputs, |world| world.text(Transport::Udp, true))
}

/// One of the endpoints sends, all of them get it.
fn fan_out(endpoints: usize, inputs: u64, join: fn(&mut World) -> io::Result<EndpointId>) -> io::Result<u64> {
    let turns = if inputs == 1 { 20 } else { 4 };
    let mut world = World::new("{data}")?;
    let all = (0..endpoints).map(|_| join(&mut world)).collect::<io::Result<Vec<_>>>()?;
    world.turn();
    let sender = all[0];
    counted(turns, |_| {
        for _ in 0..inputs {
            if world.engine.turn_of(world.now, sender) == Turn::Yes {
                world.engine.input(world.now, sender, MESSAGE);
            }
        }
        world.engine.heard(world.now, sender, false);
        world.turn();
    });
    let flushes = turns * endpoints as u64;
    check("delivered", world.engine.counters().upcalls, 2 * flushes * inputs)?;
    Ok(flushes)
}
