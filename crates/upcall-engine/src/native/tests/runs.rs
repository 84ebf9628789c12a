//! Messages that are taken in runs: everything is as if each had come by itself.

use super::*;
use crate::InputTurn;
use upcall_wire::frame::Receipt;

/// What can be seen of what became of messages.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// What each of the others reads, and the sender.
    read: Vec<Vec<u8>>,
    next: u64,
    counters: String,
    inputs: Option<u64>,
    /// The messages that may be repeated: the answers, and the next one.
    answers: Vec<String>,
    next_message: Option<u64>,
}

/// Payloads of all sorts: without a newline and with one, empty, and so large that pages are displaced.
fn payloads() -> Vec<Vec<u8>> {
    let small = (0..300usize).map(|n| [vec![b'a' + (n % 26) as u8; n % 70], vec![b'\n'; n % 2]].concat());
    let large = (0..60usize).map(|n| vec![b'A' + (n % 26) as u8; 997 * n]);
    small.chain(large).chain((0..90).map(|n| vec![b'0'; n])).collect()
}

/// Sends them all, in runs or one by one; everybody reads whenever a turn is over.
fn outcome(runs: bool, settings: Settings, filters: &[&str], hears: bool) -> Outcome {
    let mut bench = Bench::new(settings);
    let text = bench.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    let (native, _) = bench.join(Transport::Tcp, &Hello::new(2), BOTH);
    let (picky, _) = bench.join(Transport::Tcp, &Hello { filters: filters.to_vec(), ..Hello::new(3) }, BOTH);
    let (sender, _) = bench.join(Transport::Tcp, &Hello::new(1), if hears { BOTH } else { INPUT });
    let everybody = [text, native, picky, sender];
    let mut read = vec![Vec::new(); everybody.len()];
    let payloads = payloads();
    let mut messages = payloads.iter().map(Vec::as_slice).peekable();
    while messages.peek().is_some() {
        if runs {
            // Each run ends somewhere else.
            let length = messages.len().min(1 + messages.len() % 97);
            let taken = bench.engine.input_sends(bench.now, sender, messages.by_ref().take(length));
            assert!(taken <= length as u64);
        }
        while (!runs || messages.len() % 5 == 0) && bench.engine.request_input(bench.now, sender) == InputTurn::Granted
        {
            let Some(payload) = messages.next() else { break };
            let id = bench.engine.next_message(sender).unwrap();
            let send = Send { id, receipt: false, topic: "", payload };
            assert!(bench.engine.handle_frame(bench.now, sender, &Frame::Send(send)).is_some());
        }
        everybody.iter().zip(&mut read).for_each(|(id, read)| read.extend(bench.read(*id)));
        bench.end_turn();
    }
    let next_message = bench.engine.next_message(sender);
    let inputs = bench.engine.endpoint(sender).map(|endpoint| endpoint.inputs);
    let (next, counters) = (bench.engine.next_sequence(), format!("{:?}", bench.engine.counters()));
    let last = payloads.len() as u64;
    let mut answers = Vec::new();
    for id in last - 70..=last {
        bench.send(sender, id, b"again");
        let bytes = bench.read(sender);
        answers.push(match Frame::take(&mut &bytes[..]).unwrap() {
            Frame::Receipt(Receipt { id, sequence, due, repeat }) => format!("{id}: {sequence} {due} {repeat}"),
            Frame::Error(error) => format!("{}: {}", error.reference, error.code),
            other => format!("{other:?}"),
        });
    }
    Outcome { read, next, counters, inputs, answers, next_message }
}

#[test]
fn a_run_is_what_its_messages_would_be_one_by_one() {
    for audience in [Audience::All, Audience::Others, Audience::Sender] {
        for format in ["{data}", "{seq} {from} {time}: {data}!"] {
            for (filters, hears) in [(&[][..], true), (&[], false), (&["a"], true)] {
                let settings = Settings { audience, format: Format::parse(format).unwrap(), ..settings() };
                let expected = outcome(false, settings.clone(), filters, hears);
                assert_eq!(expected.next, payloads().len() as u64 + 1);
                assert_eq!(expected.answers.iter().filter(|answer| answer.ends_with("true")).count(), 64);
                assert_eq!(expected.answers.iter().filter(|answer| answer.ends_with("stale")).count(), 7);
                let actual = outcome(true, settings, filters, hears);
                assert!(actual == expected, "{audience:?} {format} {filters:?} {hears}");
            }
        }
    }
}

#[test]
fn who_may_not_send_has_no_next_message_and_none_is_taken() {
    let mut bench = Bench::new(settings());
    let awaiting_hello = bench.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    let text = bench.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    let only_receives = Hello { role: Role::ReceiveOnly, ..Hello::new(1) };
    let (listener, _) = bench.join(Transport::Tcp, &only_receives, BOTH);
    let (leaving, _) = bench.join(Transport::Tcp, &Hello::new(2), BOTH);
    bench.engine.leave(bench.now, leaving, Reason::Closed);
    let (forbidden, _) = bench.join(Transport::Tcp, &Hello::new(3), BOTH);
    bench.engine.set_may_send(forbidden, false);
    for id in [awaiting_hello, text, listener, leaving, forbidden] {
        let mut messages = [&b"x"[..]; 3].into_iter();
        assert_eq!(bench.engine.next_message(id), None);
        assert_eq!(bench.engine.input_sends(bench.now, id, &mut messages), 0);
        assert_eq!(messages.len(), 3);
    }
    assert_eq!(bench.engine.next_sequence(), 1);
}
