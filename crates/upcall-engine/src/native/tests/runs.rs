//! Messages that are handled in runs: the outcome is the same as if each had arrived by itself.

use upcall_wire::frame::Receipt;

use super::*;

/// Everything that can be observed of how messages were handled.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// What each endpoint reads, the sender last.
    read: Vec<Vec<u8>>,
    next: u64,
    counters: String,
    inputs: Option<u64>,
    /// The answers to messages that are repeated, and the next one.
    answers: Vec<String>,
    next_message: Option<u64>,
}

/// Payloads of all kinds: with and without a newline, empty, and so large that pages are displaced.
fn payloads() -> Vec<Vec<u8>> {
    let small = (0..300usize).map(|n| [vec![b'a' + (n % 26) as u8; n % 70], vec![b'\n'; n % 2]].concat());
    let large = (0..60usize).map(|n| vec![b'A' + (n % 26) as u8; 997 * n]);
    small.chain(large).chain((0..90).map(|n| vec![b'0'; n])).collect()
}

/// Sends them all, in runs or one at a time. Every endpoint reads at the end of each turn.
fn outcome(runs: bool, settings: Settings, filters: &[&str], receives: bool) -> Outcome {
    let mut world = World::new(settings);
    let text = world.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    let (native, _) = world.join(Transport::Tcp, &Hello::new(2), BOTH);
    let (picky, _) = world.join(Transport::Tcp, &Hello { filters: filters.to_vec(), ..Hello::new(3) }, BOTH);
    let (sender, _) = world.join(Transport::Tcp, &Hello::new(1), if receives { BOTH } else { INPUT });
    let endpoints = [text, native, picky, sender];
    let mut read = vec![Vec::new(); endpoints.len()];
    let payloads = payloads();
    let mut messages = payloads.iter().map(Vec::as_slice).peekable();
    while messages.peek().is_some() {
        if runs {
            // Each run ends somewhere else.
            let length = messages.len().min(1 + messages.len() % 97);
            let taken = world.engine.input_sends(world.now, sender, false, messages.by_ref().take(length));
            assert!(taken <= length as u64);
        }
        while (!runs || messages.len() % 5 == 0) && world.engine.request_input(world.now, sender) == InputTurn::Granted
        {
            let Some(payload) = messages.next() else { break };
            let id = world.engine.next_message(sender).unwrap();
            let send = Send { id, receipt: false, topic: "", payload };
            assert!(world.engine.handle_frame(world.now, sender, &Frame::Send(send)).is_some());
        }
        endpoints.iter().zip(&mut read).for_each(|(id, read)| read.extend(world.read(*id)));
        world.end_turn();
    }
    let next_message = world.engine.next_message(sender);
    let inputs = world.engine.endpoint(sender).map(|endpoint| endpoint.inputs);
    let (next, counters) = (world.engine.next_sequence(), format!("{:?}", world.engine.counters()));
    let last = payloads.len() as u64;
    let mut answers = Vec::new();
    for id in last - 70..=last {
        world.send(sender, id, b"again");
        let bytes = world.read(sender);
        answers.push(match Frame::take(&mut &bytes[..]).unwrap() {
            Frame::Receipt(Receipt { id, sequence, due, repeat }) => format!("{id}: {sequence} {due} {repeat}"),
            Frame::Error(error) => format!("{}: {}", error.reference, error.code),
            other => format!("{other:?}"),
        });
    }
    Outcome { read, next, counters, inputs, answers, next_message }
}

#[test]
fn a_run_has_the_same_outcome_as_its_single_messages() {
    for audience in [Audience::All, Audience::Others, Audience::Sender] {
        for format in ["{data}", "{seq} {from} {time}: {data}!"] {
            for (filters, receives) in [(&[][..], true), (&[], false), (&["a"], true)] {
                let settings = Settings { audience, format: Format::parse(format).unwrap(), ..settings() };
                let expected = outcome(false, settings.clone(), filters, receives);
                assert_eq!(expected.next, payloads().len() as u64 + 1);
                assert_eq!(expected.answers.iter().filter(|answer| answer.ends_with("true")).count(), 64);
                assert_eq!(expected.answers.iter().filter(|answer| answer.ends_with("stale")).count(), 7);
                let actual = outcome(true, settings, filters, receives);
                assert!(actual == expected, "{audience:?} {format} {filters:?} {receives}");
            }
        }
    }
}

#[test]
fn an_endpoint_that_may_not_send_has_no_next_message() {
    let mut world = World::new(settings());
    let awaiting_hello = world.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    let text = world.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    let only_receives = Hello { role: Role::ReceiveOnly, ..Hello::new(1) };
    let (listener, _) = world.join(Transport::Tcp, &only_receives, BOTH);
    let (leaving, _) = world.join(Transport::Tcp, &Hello::new(2), BOTH);
    world.engine.leave(world.now, leaving, Reason::Closed);
    let (forbidden, _) = world.join(Transport::Tcp, &Hello::new(3), BOTH);
    world.engine.set_may_send(forbidden, false);
    for id in [awaiting_hello, text, listener, leaving, forbidden] {
        let mut messages = [&b"x"[..]; 3].into_iter();
        assert_eq!(world.engine.next_message(id), None);
        assert_eq!(world.engine.input_sends(world.now, id, false, &mut messages), 0);
        assert_eq!(messages.len(), 3);
    }
    assert_eq!(world.engine.next_sequence(), 1);
}
