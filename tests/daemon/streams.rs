//! What goes over a text stream, on every transport.

use std::mem::MaybeUninit;

use crate::support::{Daemon, Event, Place, Setup, Stream, over};

/// All that a client sends comes back to that client only, so that clients do not disturb each other.
const ECHO: &str = "[upcall]\nformat = \"{data}\"\ndeliver_to = \"sender\"\n";

over!(streams:
    a_message_without_newline_is_answered_exactly,
    the_first_newline_latches_into_lines,
    line_framing_waits_for_newlines,
    chunk_framing_never_waits,
    b7_every_byte_value,
    b8_split_at_every_byte,
    b12_everything_due_arrives_after_a_half_close,
    f19_a_reset_in_the_middle_of_a_line_harms_no_other,
    s20_http_is_refused_and_not_delivered,
    s13_what_clients_send_cannot_forge_log_lines,
    roles,
    deliver_to_others_and_to_the_sender,
    the_format_shows_sequence_and_sender,
);

fn start(place: Place, listener: &str, rest: &str) -> Daemon {
    Daemon::start(&(place.listener("lab", listener) + rest))
}

fn a_message_without_newline_is_answered_exactly(place: Place) {
    let daemon = start(place, "", "");
    let (first, second) = (daemon.join("lab"), daemon.join("lab"));
    for message in ["haii", "how are you?", " bye "] {
        first.send(message);
        first.expect(format!("Upcall event: Processing {message}"));
        second.expect(format!("Upcall event: Processing {message}"));
    }
    first.finish();
    first.expect_eof();
    second.send("still here");
    second.expect("Upcall event: Processing still here");
}

/// Sends something through another endpoint and waits for it: by then, the daemon has read what was sent before.
fn pass_through(prober: &Stream) {
    prober.send("probe\n");
    prober.expect("probe\n");
}

fn the_first_newline_latches_into_lines(place: Place) {
    let daemon = start(place, "", ECHO);
    let (stream, prober) = (daemon.join("lab"), daemon.join("lab"));
    stream.send("chunk");
    stream.expect("chunk");
    stream.send("line\nun");
    stream.expect("line\n");
    pass_through(&prober);
    stream.send("finished\nlast");
    stream.finish();
    stream.expect_rest("unfinished\nlast");
    assert_eq!(inputs(&daemon), 4 + 1);
}

fn line_framing_waits_for_newlines(place: Place) {
    let daemon = start(place, "framing = \"line\"", ECHO);
    let (stream, prober) = (daemon.join("lab"), daemon.join("lab"));
    for piece in ["a", "b", "c\nd"] {
        stream.send(piece);
        pass_through(&prober);
    }
    stream.expect("abc\n");
    stream.finish();
    stream.expect_rest("d");
    assert_eq!(inputs(&daemon), 2 + 3);
}

fn chunk_framing_never_waits(place: Place) {
    let daemon = start(place, "framing = \"chunk\"", ECHO);
    let stream = daemon.join("lab");
    for piece in ["a", "b\n", "c"] {
        stream.send(piece);
        stream.expect(piece);
    }
    assert_eq!(inputs(&daemon), 3);
}

/// How many inputs there were: the sequence of one more input tells.
fn inputs(daemon: &Daemon) -> u64 {
    let sequences = daemon.setup().scratch().join("upcalld.toml");
    let config = std::fs::read_to_string(sequences).expect("the configuration is there");
    daemon.reload(&config.replace("format = \"{data}\"", "format = \"{seq} {data}\""));
    let stream = daemon.join("lab");
    stream.send("\n");
    stream.finish();
    let answer = String::from_utf8(stream.read_until_eof()).expect("digits");
    answer.trim_end().parse::<u64>().expect("a sequence") - 1
}

fn b7_every_byte_value(place: Place) {
    let bytes: Vec<u8> = (0..=255).collect();
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    for framing in ["auto", "line", "chunk"] {
        let daemon = start(place, &format!("protocol = \"text\"\nframing = \"{framing}\""), ECHO);
        for bytes in [&bytes, &reversed] {
            let stream = daemon.join("lab");
            stream.send(bytes);
            stream.finish();
            stream.expect_rest(bytes);
        }
    }
}

fn b8_split_at_every_byte(place: Place) {
    let text = b"\xc3\xa4 first line\n\nx\r\n\0 second\nand a tail";
    let mut wrong = Vec::new();
    let daemon = start(place, "protocol = \"text\"\nframing = \"line\"", &ECHO.replace("{data}", "<{data}>"));
    let prober = daemon.join("lab");
    for at in 0..=text.len() {
        let stream = daemon.join("lab");
        let (a, b) = text.split_at(at);
        stream.send(a);
        prober.send("probe\n");
        prober.expect("<probe\n>");
        stream.send(b);
        stream.finish();
        let expected = b"<\xc3\xa4 first line\n><\n><x\r\n><\0 second\n><and a tail>";
        if stream.read_until_eof() != expected {
            wrong.push(at);
        }
    }
    assert!(wrong.is_empty(), "another result when split at {wrong:?}");
}

fn b12_everything_due_arrives_after_a_half_close(place: Place) {
    let input = place.listener("in", "role = \"input\"");
    let daemon = start(place, "", &(input + "[upcall]\nformat = \"{data}\"\n"));
    let (stream, sender, probe) = (daemon.join("lab"), daemon.connect("in"), daemon.join("lab"));
    // More than the socket takes at once, and less than a slow consumer has.
    let line = [&b"x".repeat(999)[..], b"\n"].concat();
    let sent = line.repeat(1500);
    sender.send(&sent);
    assert_eq!(probe.read_exactly(sent.len()), sent);
    stream.send("and mine\n");
    stream.finish();
    probe.expect("and mine\n");
    let got = stream.read_until_eof();
    assert_eq!(got.len(), sent.len() + 9);
    assert!(got.starts_with(&sent) && got.ends_with(b"and mine\n"));
    daemon.wait(Event::Left.reason("closed"));
}

/// An unfinished line is no message: only an orderly end of the stream ends it.
fn f19_a_reset_in_the_middle_of_a_line_harms_no_other(place: Place) {
    let daemon = start(place, "framing = \"line\"", "[upcall]\nformat = \"{seq} {data}\"\n");
    let witness = daemon.join("lab");
    let mut sequence = 0;
    for round in 0..20 {
        let victim = daemon.join("lab");
        victim.send(format!("whole {round}\nhalf"));
        sequence += 1;
        witness.expect(format!("{sequence} whole {round}\n"));
        // Unread upcalls in its socket make this a reset on Unix sockets too: so one has to be there.
        let there = victim.socket().peek(&mut [MaybeUninit::uninit()]).expect("its own upcall");
        assert_eq!(there, 1);
        victim.reset();
        daemon.wait_count(Event::Left.reason("reset"), round + 1);
        witness.send(format!("after {round}\n"));
        sequence += 1;
        witness.expect(format!("{sequence} after {round}\n"));
    }
}

fn s20_http_is_refused_and_not_delivered(place: Place) {
    let daemon = start(place, "", "");
    let witness = daemon.join("lab");
    for request in ["POST /x HTTP/1.1\r\nHost: localhost\r\n\r\nmessage=rm\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let page = daemon.join("lab");
        page.send(request);
        page.expect_rest("upcalld: http\n");
    }
    daemon.wait_count(Event::Left.reason("http"), 2);
    witness.send("mine\n");
    witness.expect("Upcall event: Processing mine\n");
}

fn s13_what_clients_send_cannot_forge_log_lines(place: Place) {
    let setup = Setup::new(&(place.listener("lab", "") + ECHO));
    let daemon = setup.args(&["--log-inputs", "always", "--log-format", "text"]).start();
    let stream = daemon.join("lab");
    let forged = "\x1b[2J\r2026-01-01T00:00:00.000Z info ready \u{9b}31m\u{202e}\u{2066}\x07\x7f\0";
    stream.send(format!("{forged}\n"));
    stream.expect(format!("{forged}\n"));
    stream.send("second\n");
    stream.expect("second\n");
    daemon.log().wait_words("Received from client: second");
    let received: Vec<_> =
        daemon.log().all().into_iter().filter(|entry| entry.message.starts_with("Received from client: ")).collect();
    assert_eq!(received.len(), 2, "one line an input");
    assert!(received[0].message.contains("2026-01-01T00:00:00.000Z info ready"), "{}", received[0].message);
    assert!(
        received[1].message.contains("Received from client: second -- #"),
        "the newline is not shown: {}",
        received[1].message
    );
    let log = daemon.log().raw().text();
    let raw: Vec<char> = log.chars().filter(|c| *c != '\n' && (c.is_control() || is_bidi(*c))).collect();
    assert!(raw.is_empty(), "raw control characters in the log: {raw:?}");
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

fn roles(place: Place) {
    let more = place.listener("in", "role = \"input\"") + &place.listener("out", "role = \"output\"");
    let daemon = start(place, "", &(more + "[upcall]\nformat = \"{data}\"\n"));
    let (both, output, input) = (daemon.join("lab"), daemon.join("out"), daemon.connect("in"));
    input.send("from input\n");
    both.expect("from input\n");
    output.expect("from input\n");
    both.send("from both\n");
    both.expect("from both\n");
    output.expect("from both\n");
    input.finish();
    input.expect_eof();
    output.send("from output\n");
    output.expect_rest("upcalld: output_only\n");
    both.send("last\n");
    both.expect("last\n");
}

fn deliver_to_others_and_to_the_sender(place: Place) {
    for deliver_to in ["others", "sender"] {
        let rest = format!("[upcall]\nformat = \"{{data}}\"\ndeliver_to = \"{deliver_to}\"\n");
        let daemon = start(place, "", &rest);
        let (first, second) = (daemon.join("lab"), daemon.join("lab"));
        let (due_from_first, due_from_second) =
            if deliver_to == "others" { (&second, &first) } else { (&first, &second) };
        first.send("1\n");
        due_from_first.expect("1\n");
        second.send("2\n");
        due_from_second.expect("2\n");
        for stream in [&first, &second] {
            stream.finish();
            stream.expect_eof();
        }
    }
}

fn the_format_shows_sequence_and_sender(place: Place) {
    let daemon = start(place, "", "[upcall]\nformat = \"{seq} {from} {{{data}}}\\n\"\n");
    let (first, second) = (daemon.join("lab"), daemon.join("lab"));
    for sequence in 1..=3 {
        first.send("hi");
        let lines: Vec<Vec<u8>> = [&first, &second].map(line).into();
        assert_eq!(lines[0], lines[1]);
        let text = String::from_utf8(lines[0].clone()).expect("text");
        let words: Vec<&str> = text.trim_end().split(' ').collect();
        assert_eq!((words[0], words[2]), (sequence.to_string().as_str(), "{hi}"), "{text}");
        match place {
            Place::Tcp | Place::Tcp6 => assert_eq!(words[1], format!("tcp://{}", first.local())),
            _ => assert!(words[1].starts_with("unix"), "{text}"),
        }
    }
}

/// The next line, read byte by byte.
fn line(stream: &Stream) -> Vec<u8> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(stream.read_exactly(1));
    }
    line
}
