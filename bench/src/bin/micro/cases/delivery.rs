//! From an input to the bytes that are to be written.

use std::io;

use upcall_engine::{EndpointId, InputTurn};
use upcall_wire::address::Transport;
use upcall_wire::frame::{self, Frame, Send};
use upcall_wire::text::{self, End, Framing};

use crate::cases::{check, counted};
use crate::harness::{MAX_MESSAGE, MESSAGE, World, peer};

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

/// Inputs of an endpoint that nobody else reads, as frames and in runs: from the bytes that were read to the log.
pub(crate) fn sends() -> io::Result<u64> {
    let mut decoder = frame::FrameDecoder::default();
    in_runs(
        |world| world.native(&[]),
        sends_of,
        |world, id, mut bytes| {
            let next = world.engine.next_message(id).unwrap_or(0);
            world.engine.input_sends(world.now, id, decoder.sends(&mut bytes, next, MAX_MESSAGE))
        },
    )
}

/// The same frame by frame.
pub(crate) fn frames_by_themselves() -> io::Result<u64> {
    let mut decoder = frame::FrameDecoder::default();
    in_runs(
        |world| world.native(&[]),
        sends_of,
        |world, id, mut bytes| {
            let mut taken = 0;
            while world.engine.request_input(world.now, id) == InputTurn::Granted
                && let Ok(Some(frame)) = decoder.next(&mut bytes, MAX_MESSAGE)
            {
                taken += u64::from(world.engine.handle_frame(world.now, id, &frame).is_some());
            }
            taken
        },
    )
}

/// The same as lines of text.
pub(crate) fn lines() -> io::Result<u64> {
    let mut decoder = text::TextDecoder::new(Framing::Line);
    let begins = decoder.next(&mut &b"\n"[..], End::Drained, MAX_MESSAGE).is_ok();
    check("begun", u64::from(begins), 1)?;
    in_runs(
        |world| world.text(Transport::Tcp, true),
        |_| MESSAGE.repeat(RUN as usize),
        |world, id, mut bytes| world.engine.input_lines(world.now, id, decoder.lines(&mut bytes, MAX_MESSAGE)),
    )
}

/// How many inputs come in one read.
const RUN: u64 = 256;

/// So many SENDs, from the one with that id on.
fn sends_of(first: u64) -> Vec<u8> {
    let send = |id| Frame::Send(Send { id, receipt: false, topic: "", payload: MESSAGE }).to_vec();
    (first..first + RUN).flat_map(send).collect()
}

/// Inputs that come from one endpoint in reads of many, and go back to it.
fn in_runs(
    join: impl FnOnce(&mut World) -> io::Result<EndpointId>,
    bytes: impl Fn(u64) -> Vec<u8>,
    mut take: impl FnMut(&mut World, EndpointId, &[u8]) -> u64,
) -> io::Result<u64> {
    const TURNS: u64 = 40;
    let mut world = World::new("{data}")?;
    let id = join(&mut world)?;
    world.turn();
    let reads: Vec<Vec<u8>> = (0..2 * TURNS).map(|turn| bytes(turn * RUN + 1)).collect();
    let mut taken = 0;
    counted(TURNS, |turn| {
        taken += take(&mut world, id, &reads[turn as usize]);
        world.turn();
    });
    check("taken", taken, 2 * TURNS * RUN)?;
    check("delivered", world.engine.counters().upcalls, 2 * TURNS * RUN)?;
    Ok(TURNS * RUN)
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
            if world.engine.request_input(world.now, sender) == InputTurn::Granted {
                world.engine.input(world.now, sender, MESSAGE);
            }
        }
        world.engine.note_received(world.now, sender, false);
        world.turn();
    });
    let flushes = turns * endpoints as u64;
    check("delivered", world.engine.counters().upcalls, 2 * flushes * inputs)?;
    Ok(flushes)
}
