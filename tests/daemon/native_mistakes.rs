//! Mistakes of native clients: what the daemon answers, and how it goes on.

use std::time::Duration;

use upcall_wire::frame::datagram::Envelope;
use upcall_wire::frame::{Code, ErrorFrame, Frame, Hello};

use crate::support::{Daemon, Datagram, Event, Place, Setup, listener};

const AUTO: &str = "protocol = \"auto\"";

/// One frame, whatever it is.
fn one(mut datagram: &[u8]) -> Frame<'_> {
    Frame::take(&mut datagram).expect("a frame")
}

/// Registers a native datagram client; its key.
fn join(client: &Datagram) -> u64 {
    client.send(Frame::Hello(Hello { padding: 32, ..Hello::new(7) }).to_vec());
    match one(&client.receive()) {
        Frame::Welcome(welcome) => welcome.key,
        other => panic!("{other:?}"),
    }
}

fn send(client: &Datagram, key: u64, frame: &Frame<'_>) {
    let mut bytes = Vec::new();
    Envelope { key, number: 0 }.write(&mut bytes);
    frame.write(&mut bytes);
    client.send(bytes);
}

/// What comes in an envelope: its number, and the first frame.
fn receive(client: &Datagram) -> (u64, Vec<u8>) {
    let bytes = client.receive();
    let (envelope, frames) = Envelope::split(&bytes).expect("an envelope");
    (envelope.number, frames.to_vec())
}

#[test]
fn a_text_client_gets_the_refusal_as_text() {
    let setup = Setup::new("");
    let file = setup.scratch().join("token");
    std::fs::write(&file, "hunter2").expect("the scratch directory can be written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("the scratch directory can be written");
    setup.write_config(&listener("lab", "tcp", "127.0.0.1:0", "protocol = \"auto\"\ntoken_file = \"SCRATCH/token\""));
    let daemon = setup.start();
    let client = daemon.connect("lab");
    client.send(b"hello\n");
    client.expect(b"upcalld: credentials_required\n");
    client.expect_eof();
}

#[test]
fn native_after_a_second_of_silence_is_too_late() {
    let daemon = Daemon::start(&listener("lab", "tcp", "127.0.0.1:0", AUTO));
    let reader = daemon.connect("lab");
    let late = daemon.connect("lab");
    let sender = daemon.connect("lab");
    sender.send(b"hello\n");
    // It receives text, so the daemon takes it for a text client.
    late.expect(b"Upcall event: Processing hello\n");
    late.send(Frame::Hello(Hello::new(1)).to_vec());
    late.expect(b"upcalld: protocol\n");
    late.expect_eof();
    sender.send(b"again\n");
    reader.expect(b"Upcall event: Processing hello\nUpcall event: Processing again\n");
}

#[test]
fn a_malformed_hello_is_answered_and_an_answer_is_not() {
    let daemon = Daemon::start(&listener("lab", "udp", "127.0.0.1:0", AUTO));
    let client = daemon.datagram("lab");
    let mut hello = Frame::Hello(Hello { padding: 60, ..Hello::new(7) }).to_vec();
    hello[10] = 9;
    client.send(&hello);
    let answer = client.receive();
    assert!(answer.len() <= hello.len());
    let Frame::Error(ErrorFrame { code: Code::Malformed, reference: 7, .. }) = one(&answer) else {
        panic!("{answer:?}")
    };
    let key = join(&client);
    let error = ErrorFrame { code: Code::Unexpected, about: 0, reference: 0, text: "" };
    send(&client, key, &Frame::Error(error));
    send(&client, key, &Frame::Ping { nonce: 9, cookie: None });
    assert_eq!(receive(&client), (0, Frame::Pong { nonce: 9 }.to_vec()));
}

#[test]
fn a_listener_that_becomes_output_only_refuses_inputs_of_registered_endpoints() {
    let config = |more| listener("lab", "udp", "127.0.0.1:0", &format!("{AUTO}\n{more}"));
    let daemon = Daemon::start(&config(""));
    let client = daemon.datagram("lab");
    let key = join(&client);
    daemon.reload(&config("role = \"output\""));
    let input = upcall_wire::frame::Send { id: 1, receipt: true, topic: "", payload: b"x" };
    send(&client, key, &Frame::Send(input));
    let (_, frames) = receive(&client);
    let Frame::Error(ErrorFrame { code: Code::NotPermitted, reference: 1, .. }) = one(&frames) else {
        panic!("{frames:?}")
    };
}

/// A peer that acknowledges nothing holds back all inputs. The daemon does not spin in the meantime, and goes on when
/// the peer has left.
#[test]
fn while_inputs_wait_for_a_datagram_peer_nothing_spins() {
    let config = Place::Tcp.listener("lab", "role = \"input\"")
        + &listener("displays", "udp", "127.0.0.1:0", AUTO)
        + "[slow_consumer]\npatience = \"forever\"\nmax_behind = \"256KiB\"\n[daemon]\nlog_level = \"debug\"\n";
    let daemon = Daemon::start(&config);
    let sender = daemon.join("lab");
    let silent = daemon.datagram("displays");
    let key = join(&silent);
    let writer = std::thread::spawn(move || {
        (0..500).for_each(|_| sender.send([&[b'x'; 9_999][..], b"\n"].concat()));
        sender.finish();
    });
    daemon.wait(Event::InputsHeld.endpoint(2));
    let used = daemon.processor_time();
    daemon.datagram("displays").expect_nothing_for(Duration::from_millis(500));
    let used = daemon.processor_time() - used;
    assert!(used < Duration::from_millis(150), "{used:?} of 500 ms");
    send(&silent, key, &Frame::Bye("enough"));
    writer.join().expect("it could write everything");
    daemon.wait(Event::Left.with(", 500 inputs, "));
}
