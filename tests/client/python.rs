//! The Python client, which was written from upcall-protocol(7) alone, against a stand-in for the daemon: for what the
//! daemon does not do on request. The tests of the daemon run the same client against the daemon itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use upcall_wire::frame::datagram::{Arrivals, Envelope};
use upcall_wire::frame::{Code, ErrorFrame, Frame, FrameDecoder, Gap, GapReason, Hello, Receipt, Upcall, Welcome};

use crate::support::{retry, skip_without};

const SECRET: [u8; 16] = *b"0123456789abcdef";
const KEY: u64 = 0xfeed_beef;

/// Runs the client; `None` where there is no Python.
fn client(arguments: &[&str]) -> Option<Child> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/native_client.py");
    let started = Command::new("python3").arg(script).args(arguments).stdout(Stdio::piped()).spawn();
    if started.is_err() {
        skip_without("native_client", "python3");
    }
    started.ok()
}

/// What the client printed, without its first line, the welcome.
fn output(child: Child) -> Vec<String> {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let lines = text.lines().map(String::from);
    lines.skip(1).collect()
}

fn welcome(hello: &Hello<'_>, start: u64, last_message: u64, key: u64) -> Frame<'static> {
    let (resumed, lease) = (hello.resume.is_some(), if key == 0 { 0 } else { 60_000 });
    let id = hello.resume.map_or(7, |resume| resume.id);
    let (secret, nonce, next, max_message) = (SECRET, hello.nonce, start + 3, 1000);
    let (version, log) = (1, 5);
    Frame::Welcome(Welcome {
        version,
        resumed,
        lease,
        id,
        secret,
        key,
        log,
        start,
        next,
        nonce,
        last_message,
        max_message,
    })
}

fn upcall(sequence: u64, prev: u32, payload: &'static [u8]) -> Frame<'static> {
    Frame::Upcall(Upcall { sequence, source: 9, time: 1, prev, topic: "door/1", payload })
}

/// A connection of the client, and what it sends on it.
struct Connection(TcpStream, FrameDecoder);

impl Connection {
    fn accept(listener: &TcpListener) -> Connection {
        let (stream, _) = retry(|| listener.accept()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Connection(stream, FrameDecoder::default())
    }

    /// The next frame, as bytes; empty at the end.
    fn read(&mut self) -> Vec<u8> {
        loop {
            let mut byte = [0];
            if retry(|| self.0.read(&mut byte)).unwrap() == 0 {
                return Vec::new();
            }
            if let Some(frame) = self.1.next(&mut &byte[..], 1000).unwrap() {
                return frame.to_vec();
            }
        }
    }

    fn write(&mut self, frames: &[Frame<'_>]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_vec).collect();
        // In two pieces, so that the client has to wait for the rest of a frame.
        let (first, rest) = bytes.split_at(bytes.len() - 5);
        self.0.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        self.0.write_all(rest).unwrap();
    }
}

fn parse(bytes: &[u8]) -> Frame<'_> {
    Frame::take(&mut &bytes[..]).unwrap()
}

#[test]
fn on_a_stream_it_registers_resumes_sees_a_gap_and_sends() {
    let directory = tempfile::tempdir().unwrap();
    let [state, token] = ["state", "token"].map(|name| directory.path().join(name));
    std::fs::write(&token, "hunter2\n").unwrap();
    let state = format!("state={}", state.display());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());

    let token = format!("token={}", token.display());
    let Some(child) = client(&[&state, &token, "name=lab", "filter=door/*", &url, "listen", "2"]) else { return };
    let mut connection = Connection::accept(&listener);
    let bytes = connection.read();
    let Frame::Hello(hello) = parse(&bytes) else { panic!("{bytes:?}") };
    assert_eq!((hello.name, hello.token, &hello.filters[..]), ("lab", Some(&b"hunter2"[..]), &["door/*"][..]));
    let ping = Frame::Ping { nonce: 3, cookie: None };
    connection.write(&[welcome(&hello, 41, 0, 0), upcall(41, 40, b"one"), Frame::Skippable(0xc7), ping]);
    assert_eq!(parse(&connection.read()), Frame::Pong { nonce: 3 });
    connection.write(&[upcall(43, 41, b"two")]);
    let lines = output(child);
    assert!(lines.len() == 2 && lines[0].contains("\"upcall\": 41") && lines[1].contains("\"two\""), "{lines:?}");
    assert_eq!(connection.read(), b"", "it leaves without BYE");

    let child = client(&[&state, &url, "listen", "2"]).unwrap();
    let mut connection = Connection::accept(&listener);
    let bytes = connection.read();
    let Frame::Hello(hello) = parse(&bytes) else { panic!("{bytes:?}") };
    let resume = hello.resume.unwrap();
    assert_eq!((resume.id, resume.secret, resume.last), (7, SECRET, 43));
    let gap = Frame::Gap(Gap { first: 44, last: 99, reason: GapReason::Evicted });
    connection.write(&[welcome(&hello, 44, 0, 0), gap, upcall(120, 99, b"three")]);
    let lines = output(child);
    assert!(lines[0].contains("\"gap\": [44, 99], \"reason\": \"evicted\""), "{lines:?}");
    assert!(lines[1].contains("\"upcall\": 120"), "{lines:?}");

    let child = client(&["topic=lamp", &url, "send", "on"]).unwrap();
    let mut connection = Connection::accept(&listener);
    let bytes = connection.read();
    let Frame::Hello(hello) = parse(&bytes) else { panic!("{bytes:?}") };
    connection.write(&[welcome(&hello, 121, 0, 0)]);
    let bytes = connection.read();
    let Frame::Send(send) = parse(&bytes) else { panic!("{bytes:?}") };
    assert_eq!((send.id, send.receipt, send.topic, send.payload), (1, true, "lamp", &b"on"[..]));
    connection.write(&[Frame::Receipt(Receipt { id: 1, sequence: 121, due: 3, repeat: false })]);
    assert_eq!(parse(&connection.read()), Frame::Bye(""));
    connection.write(&[Frame::Bye("closed")]);
    assert_eq!(output(child), ["{\"receipt\": 1, \"sequence\": 121, \"due\": 3, \"repeat\": 0}"]);
}

#[test]
fn a_refusal_in_text_or_as_an_error_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let refused = ErrorFrame { code: Code::UnknownSession, about: 1, reference: 0, text: "no such session" };
    for (text, words) in [(true, "upcalld: max_endpoints"), (false, "unknown_session")] {
        let Some(child) = client(&[&url, "listen"]) else { return };
        let mut connection = Connection::accept(&listener);
        let bytes = connection.read();
        let Frame::Hello(hello) = parse(&bytes) else { panic!("{bytes:?}") };
        let frame = Frame::Error(ErrorFrame { reference: hello.nonce, ..refused });
        let answer = if text { b"upcalld: max_endpoints\n".to_vec() } else { frame.to_vec() };
        connection.0.write_all(&answer).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stdout).unwrap().contains(words));
    }
}

/// A datagram socket of the stand-in, and the last peer that wrote to it.
enum Socket {
    Udp(UdpSocket, Option<SocketAddr>),
    Unix(UnixDatagram, Option<UnixAddr>),
}

impl Socket {
    fn read(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        let length = match self {
            Socket::Udp(socket, peer) => {
                retry(|| socket.recv_from(&mut buffer)).map(|(n, from)| (n, *peer = Some(from)).0)
            }
            Socket::Unix(socket, peer) => {
                retry(|| socket.recv_from(&mut buffer)).map(|(n, from)| (n, *peer = Some(from)).0)
            }
        };
        buffer.truncate(length.expect("the client sends something"));
        buffer
    }

    fn write(&self, bytes: &[u8]) {
        let sent = match self {
            Socket::Udp(socket, peer) => socket.send_to(bytes, peer.unwrap()),
            Socket::Unix(socket, peer) => socket.send_to_addr(bytes, peer.as_ref().unwrap()),
        };
        assert_eq!(sent.unwrap(), bytes.len());
    }

    fn write_numbered(&self, key: u64, number: u64, frame: &Frame<'_>) {
        let mut bytes = Vec::new();
        Envelope { key, number }.write(&mut bytes);
        frame.write(&mut bytes);
        self.write(&bytes);
    }

    /// The next datagram's only frame, as bytes.
    fn read_keyed(&mut self) -> Vec<u8> {
        let bytes = self.read();
        let (envelope, frames) = Envelope::split(&bytes).expect("an envelope");
        assert_eq!(envelope, Envelope { key: KEY, number: 0 });
        frames.to_vec()
    }
}

/// Registers, receives two upcalls that come in the wrong order and twice, and acknowledges them.
fn listens(mut socket: Socket, url: &str) {
    let Some(child) = client(&[url, "listen", "2"]) else { return };
    let bytes = socket.read();
    let Frame::Hello(hello) = parse(&bytes) else { panic!("{bytes:?}") };
    assert!(bytes.len() >= 24, "a RETRY would be longer");
    socket.write(&Frame::Retry { nonce: hello.nonce ^ 1, cookie: 1 }.to_vec());
    socket.write(&Frame::Retry { nonce: hello.nonce, cookie: 77 }.to_vec());
    let bytes = socket.read();
    let Frame::Hello(again) = parse(&bytes) else { panic!("{bytes:?}") };
    assert_eq!((again.nonce, again.cookie), (hello.nonce, Some(77)));
    socket.write(&welcome(&hello, 41, 0, KEY).to_vec());
    socket.write_numbered(KEY ^ 1, 3, &upcall(41, 40, b"forged"));
    socket.write_numbered(KEY, 2, &upcall(43, 41, b"two"));
    let mut acknowledged = Arrivals::default();
    acknowledged.add(2);
    assert_eq!(parse(&socket.read_keyed()), Frame::Ack(acknowledged.ack().unwrap()));
    socket.write_numbered(KEY, 2, &upcall(43, 41, b"two"));
    assert_eq!(parse(&socket.read_keyed()), Frame::Ack(acknowledged.ack().unwrap()), "duplicates too");
    socket.write_numbered(KEY, 1, &upcall(41, 40, b"one"));
    acknowledged.add(1);
    assert_eq!(parse(&socket.read_keyed()), Frame::Ack(acknowledged.ack().unwrap()));
    assert_eq!(parse(&socket.read_keyed()), Frame::Bye(""));
    socket.write_numbered(KEY, 0, &Frame::Bye("closed"));
    let lines = output(child);
    assert!(lines.len() == 2 && lines[0].contains("\"one\"") && lines[1].contains("\"two\""), "{lines:?}");
}

#[test]
fn over_udp_it_proves_its_address_and_acknowledges() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    listens(Socket::Udp(socket, None), &url);
}

#[test]
fn over_unix_datagrams_it_does_the_same() {
    let name = format!("upcalld-native-client-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    listens(Socket::Unix(socket, None), &format!("unix-datagram://@{name}"));
}
