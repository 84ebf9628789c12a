//! Datagrams with a forged source, and sessions that move.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use upcall_wire::frame::datagram::Envelope;
use upcall_wire::frame::{Ack, Filters, Frame, Hello, Send};

use super::{auto, lab};
use crate::forged::{FORGE, forge, in_a_network};
use crate::support::{
    DEADLINE, Daemon, Datagram, Event, Link, Native, Place, Received, figure, retry, skip, skip_without,
};

/// S1, S2: 10,000 HELLOs from forged sources, of 1 to 1,200 bytes: none is registered, and no more goes out than came
/// in.
#[test]
fn s1_s2_forged_hellos() {
    let Some(daemon) = in_a_network("native s1_s2_forged_hellos", &auto(Place::Udp, "lab", "")) else { return };
    let item = forge(&daemon, &["native", &daemon.port("lab").to_string(), "10000"]);
    let numbers: Vec<u64> = item.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [sent, answered, answers] = numbers[..] else { panic!("{item}") };
    assert!(sent > 10_000 * 29 && answers > 100, "{item}");
    assert_eq!(answered, answers * 52, "each answer is one RETRY: {item}");
    assert!(answered <= sent, "no more than came in: {item}");
    assert_eq!(daemon.count_now(Event::Joined), 0);
    figure("s1 native", &format!("{item:?}, ratio {:.3}", answered as f64 / sent as f64));
}

/// S2: whatever the size of a request, its answer is not larger.
#[test]
fn s2_no_answer_is_longer_than_its_request() {
    let daemon = lab(Place::Udp, "trusted = []", "");
    let mut largest = 0.0f64;
    for size in (1..=60).chain([100, 500, 1199, 1200]) {
        let datagram = from_elsewhere(&daemon, size as u8);
        let hello = Frame::Hello(Hello { padding: 1200, ..Hello::new(7) }).to_vec();
        let mut request = hello[..size.min(hello.len())].to_vec();
        if size >= 24 {
            request = Frame::Hello(Hello { padding: size - 24, ..Hello::new(7) }).to_vec();
            request.resize(size, 0);
            let length = (size - 8) as u32;
            request[4..8].copy_from_slice(&length.to_be_bytes());
            if size == 24 {
                request[20..].copy_from_slice(&[7, 0, 0, 0]);
            } else {
                let padding = (size - 24) as u16;
                request[20..24].copy_from_slice(&[7, 0, (padding >> 8) as u8, padding as u8]);
            }
        }
        datagram.send(&request);
        if size < 24 {
            // When the daemon has answered another client, it has handled this datagram.
            let other = from_elsewhere(&daemon, 200 + size as u8);
            other.send(Frame::Hello(Hello { padding: 24, ..Hello::new(8) }).to_vec());
            other.receive();
            assert_eq!(datagram.receive_now(), None, "{size} bytes");
            continue;
        }
        let answer = datagram.receive().len() + 28;
        largest = largest.max(answer as f64 / (size + 28) as f64);
    }
    figure("s2 native", &format!("largest ratio {largest:.3}"));
    assert!(largest <= 1.0);
}

/// A socket at another loopback address, so that no source exceeds its rate limit.
fn from_elsewhere(daemon: &Daemon, number: u8) -> Datagram {
    let url = daemon.url("lab");
    let to: std::net::SocketAddr = url.trim_start_matches("udp://").parse().expect("an address");
    Datagram::open_from(std::net::Ipv4Addr::new(127, 0, 1, number).into(), to)
}

/// S4: frames in the name of a registered peer, without its key.
#[test]
fn s4_forged_frames_change_nothing() {
    if !geteuid().is_root() {
        return skip("native s4_forged_frames_change_nothing", "only root may forge datagrams");
    }
    if Command::new("python3").arg("--version").output().is_err() {
        return skip_without("native s4_forged_frames_change_nothing", "python3");
    }
    let daemon = lab(Place::Udp, "trusted = []", "[registry]\nlease = \"3s\"\n");
    let mut witness = Native::join(&daemon, "lab");
    let mut victim = Native::join_as(&daemon, "lab", &Hello { filters: vec!["mine"], ..Hello::new(0) });
    let key = victim.welcome().key;
    let Link::Datagrams(socket) = &victim.link else { unreachable!() };
    let from = socket.local().port().to_string();
    let to = daemon.port("lab").to_string();
    let frames = [
        Frame::Ack(Ack { largest: 1, bitmap: 0 }),
        Frame::Subscribe(Filters { request: 1, filters: vec!["*"] }),
        Frame::Unsubscribe(Filters { request: 1, filters: vec!["mine"] }),
        Frame::Send(Send { id: 1, receipt: true, topic: "", payload: b"forged" }),
        Frame::Ping { nonce: 7, cookie: None },
        Frame::Ping { nonce: 7, cookie: Some(7) },
        Frame::Bye(""),
    ];
    // No key, a guessed one, one that is nearly right, and that of another session.
    let keys = [0, 0x1234_5678_9abc_def0, key ^ 1, key ^ 1 << 63, witness.welcome().key];
    let mut datagrams = vec![Frame::Hello(Hello { padding: 16, ..Hello::new(3) }).to_vec(), b"bye".to_vec()];
    for key in keys {
        for frame in &frames {
            let mut bytes = Vec::new();
            Envelope { key, number: 0 }.write(&mut bytes);
            frame.write(&mut bytes);
            datagrams.push(bytes);
        }
    }
    let hex: Vec<String> =
        datagrams.iter().map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let begin = Instant::now();
    let mut rounds = 0;
    while daemon.count(Event::Left.reason("lease_expired")) == 0 {
        assert!(begin.elapsed() < DEADLINE, "its lease does not end");
        let forged = Command::new("python3").args([FORGE, "as", &from, &to]).args(&hex).status();
        assert!(forged.is_ok_and(|status| status.success()), "the forger works");
        rounds += 1;
        assert_eq!(witness.so_far().iter().filter(|item| !matches!(item, Received::Retry(_))).count(), 0);
        if daemon.count(Event::Left.reason("lease_expired")) == 0 && rounds == 1 {
            assert_eq!(witness.send_confirmed("mine", "for it").1, 1, "it is there, with its filters");
            assert_eq!(witness.send_confirmed("other", "not for it").1, 0);
            witness.upcall();
            witness.upcall();
        }
    }
    assert!(rounds > 1, "they came while it was registered");
    let took = begin.elapsed();
    figure("s4 native", &format!("{rounds} rounds of {}, the lease of 3 s ended after {took:?}", hex.len()));
    assert_eq!(victim.upcall().payload, b"for it");
    while victim.pump(Duration::ZERO) {}
    let rest = &victim.inbox.received;
    assert!(rest.iter().all(|item| matches!(item, Received::Retry(_) | Received::Error { .. })), "{rest:?}");
    assert!(daemon.counted("bad_key") > 30, "they were looked at");
}

/// A PING moves a session to a new address, once that is proved; the old address is not registered then.
#[test]
fn a_session_moves() {
    for trusted in ["", "trusted = []"] {
        let daemon = lab(Place::Udp, trusted, "");
        let mut other = Native::join(&daemon, "lab");
        let mut native = Native::join(&daemon, "lab");
        other.send_confirmed("", "1");
        assert_eq!(native.upcall().payload, b"1");
        let new = Link::Datagrams(Datagram::open(&daemon.url("lab")));
        let old = std::mem::replace(&mut native.link, new);
        // From the new address, nothing counts but PING.
        native.send("", "from nowhere");
        native.send_frame(&Frame::Ping { nonce: 77, cookie: None });
        let Received::Retry(cookie) = native.take(|item| matches!(item, Received::Retry(_))) else { unreachable!() };
        native.send_frame(&Frame::Ping { nonce: 78, cookie: Some(cookie ^ 1) });
        let Received::Retry(again) = native.take(|item| matches!(item, Received::Retry(_))) else { unreachable!() };
        assert_eq!(again, cookie);
        other.send_confirmed("", "2");
        assert!(native.take_within(Duration::from_millis(100), |item| matches!(item, Received::Upcall(_))).is_none());
        native.send_frame(&Frame::Ping { nonce: 79, cookie: Some(cookie) });
        native.take(|item| matches!(item, Received::Pong(79)));
        assert_eq!(native.upcall().payload, b"2", "what went to the old address is sent again");
        other.send_confirmed("", "3");
        assert_eq!(native.upcall().payload, b"3");
        assert_eq!(native.message, 1);
        native.send_again(1, "", b"4");
        assert!(
            matches!(native.take(|item| matches!(item, Received::Receipt(_))), Received::Receipt(r) if r.sequence == 4)
        );
        // Late datagrams from the old address are ignored.
        let new = std::mem::replace(&mut native.link, old);
        native.send("", "from the past");
        native.send_frame(&Frame::Bye(""));
        native.link = new;
        native.message -= 1;
        assert_eq!(native.send_confirmed("", "5"), (5, 1), "it is still here");
        assert_eq!(daemon.count_now(Event::Left), 0);
    }
}

/// As another user, by this name: sends each datagram to that one, and prints what comes back.
const HEIR: &str = r#"
import os, socket, sys
os.setgid(65534), os.setuid(65534)
heir = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heir.bind("\0" + sys.argv[1])
heir.settimeout(0.2)
for datagram in sys.argv[3:]:
    heir.sendto(bytes.fromhex(datagram), "\0" + sys.argv[2])
    try:
        print(heir.recv(2048).hex())
    except socket.timeout:
        print("nothing")
"#;

/// S18: another user has taken the name of a client, and even has its key and its nonce.
#[test]
fn s18_a_name_that_is_another_users_by_now() {
    const TEST: &str = "native s18_a_name_that_is_another_users_by_now";
    if !geteuid().is_root() {
        return skip(TEST, "only root can become another user");
    }
    if Command::new("python3").arg("--version").output().is_err() {
        return skip_without(TEST, "python3");
    }
    for asks_first in [false, true] {
        let daemon = lab(Place::DatagramAbstract, "", "");
        let to = daemon.url("lab").split_once('@').expect("an abstract name").1.to_owned();
        let name = format!("{to}-heir");
        let address = |name: &str| SocketAddr::from_abstract_name(name).expect("it is short");
        let former = UnixDatagram::bind_addr(&address(&name)).expect("a free name");
        former.set_read_timeout(Some(DEADLINE)).expect("the option exists");
        let hello = Frame::Hello(Hello::new(77)).to_vec();
        former.send_to_addr(&hello, &address(&to)).expect("it is there");
        let mut bytes = [0; 2048];
        let length = retry(|| former.recv(&mut bytes)).expect("an answer");
        let Ok(Frame::Welcome(welcome)) = Frame::take(&mut &bytes[..length]) else { panic!("no WELCOME") };
        drop(former);
        let mut ping = Vec::new();
        Envelope { key: welcome.key, number: 0 }.write(&mut ping);
        Frame::Ping { nonce: 1, cookie: None }.write(&mut ping);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let datagrams = if asks_first { vec![&ping, &hello] } else { vec![&hello, &ping] };
        let mut heir = Command::new("python3");
        heir.args(["-c", HEIR, &name, &to]).args(datagrams.into_iter().map(|datagram| hex(datagram)));
        let output = heir.output().expect("Python runs");
        let item = String::from_utf8(output.stdout).expect("text");
        let answers: Vec<&str> = item.lines().collect();
        let (pong, welcomed) = if asks_first { (answers[0], answers[1]) } else { (answers[1], answers[0]) };
        assert_eq!(pong, "nothing", "{item}");
        assert!(welcomed.starts_with("0081") && !welcomed.contains(&hex(&welcome.key.to_be_bytes())), "{item}");
        daemon.wait(Event::Left.endpoint(1).reason("reset"));
        assert_eq!(daemon.counted("bad_key"), 1);
    }
}
