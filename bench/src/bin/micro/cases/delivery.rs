//! Cases of delivery: from an input to the bytes to write.

use std::io;

use upcall_engine::{EndpointId, InputTurn};
use upcall_wire::address::Transport;
use upcall_wire::frame::{self, Frame, Send};
use upcall_wire::text::{self, End, Framing};

use crate::counting::{check, counted};
use crate::harness::{EngineHarness, MAX_MESSAGE, MESSAGE, peer};

/// The default of `upcall.format`.
pub(crate) const DEFAULT: &str = "Upcall event: Processing {data}";

/// Inputs from a source that is not registered, due to no endpoint. With a format, a text endpoint is registered, so
/// that inputs are rendered.
pub(crate) fn append(format: Option<&str>) -> io::Result<u64> {
    const TURNS: u64 = 80;
    const INPUTS: u64 = 256;
    let mut harness = EngineHarness::new(format.unwrap_or(DEFAULT))?;
    if format.is_some() {
        harness.register_text(Transport::Tcp, false)?;
    }
    counted(TURNS, |_| {
        for _ in 0..INPUTS {
            harness.engine.input_from(harness.now, Transport::Tcp, peer(), MESSAGE);
        }
        harness.end_turn();
    });
    check("appended", harness.engine.counters().inputs, 2 * TURNS * INPUTS)?;
    check("in the log", u64::from(harness.engine.log_memory().0 > 0), 1)?;
    Ok(TURNS * INPUTS)
}

/// Native inputs of the only endpoint, in runs: from the bytes read to the log.
pub(crate) fn sends() -> io::Result<u64> {
    let mut decoder = frame::FrameDecoder::default();
    in_runs(
        |harness| harness.register_native(&[]),
        sends_of,
        |harness, id, mut bytes| {
            let next = harness.engine.next_message(id).unwrap_or(0);
            harness.engine.input_sends(harness.now, id, false, decoder.sends(&mut bytes, next, MAX_MESSAGE))
        },
    )
}

/// As `sends`, frame by frame.
pub(crate) fn frames_by_themselves() -> io::Result<u64> {
    let mut decoder = frame::FrameDecoder::default();
    in_runs(
        |harness| harness.register_native(&[]),
        sends_of,
        |harness, id, mut bytes| {
            let mut accepted = 0;
            while harness.engine.request_input(harness.now, id) == InputTurn::Granted
                && let Ok(Some(frame)) = decoder.next(&mut bytes, MAX_MESSAGE)
            {
                accepted += u64::from(harness.engine.handle_frame(harness.now, id, &frame).is_some());
            }
            accepted
        },
    )
}

/// As `sends`, in lines of text.
pub(crate) fn lines() -> io::Result<u64> {
    let mut decoder = text::TextDecoder::new(Framing::Line);
    let line_mode = decoder.next(&mut &b"\n"[..], End::Drained, MAX_MESSAGE).is_ok();
    check("in line mode", u64::from(line_mode), 1)?;
    in_runs(
        |harness| harness.register_text(Transport::Tcp, true),
        |_| MESSAGE.repeat(RUN as usize),
        |harness, id, mut bytes| {
            harness.engine.input_lines(harness.now, id, false, decoder.lines(&mut bytes, MAX_MESSAGE))
        },
    )
}

/// Inputs in one read.
const RUN: u64 = 256;

/// A run of SEND frames, with ids from `first` on.
fn sends_of(first: u64) -> Vec<u8> {
    let send = |id| Frame::Send(Send { id, receipt: false, topic: "", payload: MESSAGE }).to_vec();
    (first..first + RUN).flat_map(send).collect()
}

/// Inputs that one endpoint sends in runs and receives itself. `bytes` encodes the run that begins with an id; `input`
/// passes it to the engine.
fn in_runs(
    join: impl FnOnce(&mut EngineHarness) -> io::Result<EndpointId>,
    bytes: impl Fn(u64) -> Vec<u8>,
    mut input: impl FnMut(&mut EngineHarness, EndpointId, &[u8]) -> u64,
) -> io::Result<u64> {
    const TURNS: u64 = 40;
    let mut harness = EngineHarness::new("{data}")?;
    let id = join(&mut harness)?;
    harness.end_turn();
    let reads: Vec<Vec<u8>> = (0..2 * TURNS).map(|turn| bytes(turn * RUN + 1)).collect();
    let mut accepted = 0;
    counted(TURNS, |turn| {
        accepted += input(&mut harness, id, &reads[turn as usize]);
        harness.end_turn();
    });
    check("accepted", accepted, 2 * TURNS * RUN)?;
    check("delivered", harness.engine.counters().upcalls, 2 * TURNS * RUN)?;
    Ok(TURNS * RUN)
}

/// A fan-out to text streams.
pub(crate) fn text(endpoints: usize, inputs: u64) -> io::Result<u64> {
    fan_out(endpoints, inputs, |harness| harness.register_text(Transport::Tcp, true))
}

/// A fan-out to native streams.
pub(crate) fn native(endpoints: usize, inputs: u64) -> io::Result<u64> {
    fan_out(endpoints, inputs, |harness| harness.register_native(&[]))
}

/// A fan-out to text datagram endpoints.
pub(crate) fn datagrams(endpoints: usize, inputs: u64) -> io::Result<u64> {
    fan_out(endpoints, inputs, |harness| harness.register_text(Transport::Udp, true))
}

/// One of the endpoints sends, all receive.
fn fan_out(endpoints: usize, inputs: u64, join: fn(&mut EngineHarness) -> io::Result<EndpointId>) -> io::Result<u64> {
    let turns = if inputs == 1 { 20 } else { 4 };
    let mut harness = EngineHarness::new("{data}")?;
    let all = (0..endpoints).map(|_| join(&mut harness)).collect::<io::Result<Vec<_>>>()?;
    harness.end_turn();
    let sender = all[0];
    counted(turns, |_| {
        for _ in 0..inputs {
            if harness.engine.request_input(harness.now, sender) == InputTurn::Granted {
                harness.engine.input(harness.now, sender, MESSAGE);
            }
        }
        harness.engine.note_received(harness.now, sender, false);
        harness.end_turn();
    });
    let flushes = turns * endpoints as u64;
    check("delivered", harness.engine.counters().upcalls, 2 * flushes * inputs)?;
    Ok(flushes)
}
