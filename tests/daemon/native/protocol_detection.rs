//! Which protocol a client speaks: decided by its first byte, or by silence.

use std::time::{Duration, Instant};

use upcall_wire::frame::{Frame, Hello};

use super::{DATA, auto, lab};
use crate::support::{Daemon, Link, Native, Place, Received, Stream};

/// Nothing is sent to a connection before it has sent something, or a second has passed; then it is text for good, and
/// has lost nothing since it was accepted.
#[test]
fn a_silent_client_becomes_text() {
    for place in [Place::Tcp, Place::UnixPath] {
        let daemon = lab(place, "", DATA);
        let mut sender = Native::join(&daemon, "lab");
        let begin = Instant::now();
        let silent = daemon.join("lab");
        for text in ["one", "two"] {
            assert_eq!(sender.send_confirmed("", text).1, 1, "it is registered");
        }
        silent.expect("one\ntwo\n");
        assert!(begin.elapsed() >= Duration::from_secs(1), "after {:?}", begin.elapsed());
        // Too late: a HELLO is refused now, and is not an input either.
        silent.send(Frame::Hello(Hello::new(7)).to_vec());
        silent.expect_rest("upcalld: protocol\n");
        assert_eq!(sender.so_far().len(), 2, "its own");
    }
}

/// Its position in the log is that of the accept, whenever the HELLO comes.
#[test]
fn the_position_is_that_of_the_accept() {
    for place in [Place::Tcp, Place::UnixPath] {
        let daemon = lab(place, "", DATA);
        let mut sender = Native::join(&daemon, "lab");
        let stream = daemon.join("lab");
        let text = daemon.join("lab");
        assert_eq!(sender.send_confirmed("", "before the first byte").0, 1);
        let mut native = Native::over(Link::Stream(stream));
        let welcome = native.register(&Hello::new(0));
        assert_eq!((welcome.start, welcome.next), (1, 2));
        assert_eq!(native.upcall().payload, b"before the first byte");
        text.send("text\n");
        text.expect("before the first byte\ntext\n");
        assert_eq!(native.upcall().payload, b"text\n");
    }
}

/// A HELLO that comes in pieces is recognised by its first byte.
#[test]
fn the_first_byte_tells() {
    let daemon = lab(Place::Tcp, "", DATA);
    let mut sender = Native::join(&daemon, "lab");
    let stream = daemon.join("lab");
    let hello = Frame::Hello(Hello::new(7)).to_vec();
    stream.send(&hello[..1]);
    sender.send_confirmed("", "meanwhile");
    // Longer than the time after which a silent connection becomes text.
    assert!(sender.take_within(Duration::from_millis(1500), |item| matches!(item, Received::End(_))).is_none());
    stream.send(&hello[1..]);
    let welcome = stream.read_exactly(96);
    assert_eq!(welcome[..2], [0, 0x81]);
    assert_eq!(stream.read_exactly(32 + 9)[32..], *b"meanwhile");
}

/// `protocol = "native"` refuses text with a reason, at once.
#[test]
fn a_native_listener_refuses_text() {
    let config = auto(Place::Tcp, "lab", "protocol = \"native\"")
        + &auto(Place::UnixPath, "unix", "protocol = \"native\"")
        + &auto(Place::Udp, "udp", "protocol = \"native\"");
    let daemon = Daemon::start(&config);
    for listener in ["lab", "unix"] {
        let stream = daemon.connect(listener);
        stream.send("hello\n");
        stream.expect_rest("upcalld: protocol\n");
        assert_eq!(Native::join(&daemon, listener).welcome().next, 1, "it was no input");
    }
    let datagram = daemon.datagram("udp");
    datagram.send("hello\n");
    let mut native = Native::join(&daemon, "udp");
    assert_eq!(native.send_confirmed("", "1").0, 1);
    datagram.expect_nothing();
}

/// B4: where a HELLO is required, a client that sends nothing, or does not finish its HELLO, is disconnected after ten
/// seconds. In one test, because it takes that long.
#[test]
fn b4_silence_ends_after_ten_seconds() {
    let daemon = lab(Place::Tcp, "protocol = \"native\"", "");
    let begin = Instant::now();
    let silent = daemon.join("lab");
    let begun = daemon.join("lab");
    begun.send(&Frame::Hello(Hello::new(7)).to_vec()[..10]);
    silent.expect_rest("upcalld: silent\n");
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(9), "{took:?}");
    let rest = begun.read_until_eof();
    assert_eq!(rest, Frame::Bye("silent").to_vec(), "{}", rest.escape_ascii());
}

/// A listener for text takes a NUL for what it is there: a byte.
#[test]
fn a_text_listener_takes_frames_for_text() {
    let daemon = lab(Place::Tcp, "protocol = \"text\"", DATA);
    let stream: Stream = daemon.join("lab");
    let mut hello = Frame::Hello(Hello::new(7)).to_vec();
    hello.push(b'\n');
    stream.send(&hello);
    stream.expect(&hello);
}
