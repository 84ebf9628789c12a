//! Endpoints that do not read as fast as others send.

use std::io::{Read, Write};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::load::config;
use crate::support::swarm::allow_files;
use crate::support::{Daemon, Event, Place, Stream, Swarm, figure, over};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

over!(streams: f1_a_reader_stops, f13_everything_pending_arrives_before_the_end);

/// `count` lines of `size` bytes, numbered.
pub(crate) fn lines(count: usize, size: usize) -> Vec<u8> {
    (0..count).flat_map(|line| format!("{line:>width$}\n", width = size - 1).into_bytes()).collect()
}

fn f1_a_reader_stops(place: Place) {
    let limits = "[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"2s\"\n";
    let daemon = Daemon::start(&config(place, &(DATA.to_owned() + limits)));
    let stalled = daemon.join("lab");
    let mut others = Swarm::join(&daemon, &["lab"], 5);
    let sender = daemon.connect("in");
    let expected = lines(32_000, 1_000);
    let sent = expected.clone();
    let sending = thread::spawn(move || sender.send(sent));
    others.expect_each(&expected, |_, _| {});
    sending.join().expect("everything could be sent");
    // It reads at last, and in time: it gets some whole lines, and the reason why there are no more.
    let got = stalled.read_until_eof();
    let farewell = b"upcalld: slow_consumer\n";
    let upcalls = got.strip_suffix(farewell).unwrap_or_else(|| panic!("{}", got[got.len() - 60..].escape_ascii()));
    assert!(expected.starts_with(upcalls) && upcalls.len().is_multiple_of(1_000), "{} bytes", upcalls.len());
    assert!(upcalls.len() < expected.len());
    drop(stalled);
    daemon.wait(Event::Left.reason("slow_consumer"));
    assert_eq!(daemon.disconnected(), 1, "no other endpoint left");
}

#[test]
fn two_hundred_megabytes_past_a_stalled_reader() {
    let daemon = Daemon::start(&config(Place::Tcp, DATA));
    let stalled = daemon.join("lab");
    let mut healthy = Swarm::join(&daemon, &["lab"], 3);
    let sender = daemon.connect("in");
    let before = daemon.memory();
    let expected = lines(200_000, 1_000);
    let sent = expected.clone();
    let start = Instant::now();
    let sending = thread::spawn(move || sender.send(sent));
    let (mut most, mut reads) = (0, 0);
    healthy.expect_each(&expected, |_, _| {
        reads += 1;
        if reads % 100 == 0 {
            most = most.max(daemon.memory());
        }
    });
    sending.join().expect("everything could be sent");
    most = most.max(daemon.memory());
    let seconds = start.elapsed().as_secs_f64();
    figure(
        "stalled",
        &format!("200 MB in {seconds:.1} s, at most {} KiB more memory", most.saturating_sub(before) >> 10),
    );
    // The ring (log.size, 16 MiB) and a few buffers.
    assert!(most - before <= 24 << 20, "{} bytes more", most - before);
    daemon.wait(Event::Left.reason("slow_consumer"));
    assert_eq!(daemon.disconnected(), 1, "only the stalled one left");
    drop(stalled);
}

#[test]
fn f2_five_hundred_stalled_readers() {
    assert!(allow_files(2_000), "this test needs 2,000 descriptors");
    let daemon = Daemon::start(&config(Place::Tcp, DATA));
    let stalled: Vec<Stream> = (0..500).map(|_| Stream::connect_narrow(&daemon.url("lab"))).collect();
    daemon.wait_connected(500);
    let mut healthy = Swarm::join(&daemon, &["lab"], 2);
    let sender = daemon.connect("in");
    let before = daemon.memory();
    let expected = lines(24_000, 1_000);
    let sent = expected.clone();
    let sending = thread::spawn(move || sender.send(sent));
    healthy.expect_each(&expected, |_, _| {});
    sending.join().expect("everything could be sent");
    daemon.wait_count(Event::Left.reason("slow_consumer"), 500);
    let grown = daemon.memory().saturating_sub(before);
    figure("f2", &format!("{} KiB more memory with 500 stalled readers", grown >> 10));
    assert!(grown <= 24 << 20, "{grown} bytes more");
    drop(stalled);
}

/// A sender never reads its own upcalls, and patience has no end: the others lose nothing, and there is no deadlock.
#[test]
fn f4_patience_for_ever() {
    let limits = "[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"forever\"\n";
    let rest = "[upcall]\nformat = \"{seq} {data}\"\n".to_owned() + limits;
    let daemon = Daemon::start(&(Place::Tcp.listener("lab", "") + &rest));
    let readers: Vec<Stream> = (0..3).map(|_| daemon.join("lab")).collect();
    let selfish = daemon.join("lab");
    let sent = lines(16_000, 1_000);
    let writer = selfish.again();
    // It is disconnected on the way, because it is slow itself: its own lag does not hold back its inputs.
    let sending = thread::spawn(move || drop((&writer).write_all(&sent)));
    let reading: Vec<_> =
        readers.iter().map(Stream::again).map(|stream| thread::spawn(move || until_last(&stream))).collect();
    sending.join().expect("the sender is not held for ever");
    let last = daemon.join("lab");
    last.send("the last one\n");
    let streams: Vec<Vec<u8>> = reading.into_iter().map(|thread| thread.join().expect("readers read")).collect();
    assert!(streams.iter().all(|stream| *stream == streams[0]), "all readers got the same");
    let text = String::from_utf8_lossy(&streams[0]);
    let (mut count, mut wrong) = (0, 0);
    for (index, line) in text.lines().enumerate() {
        count += 1;
        wrong += usize::from(!line.starts_with(&format!("{} ", index + 1)));
    }
    assert_eq!(wrong, 0, "no holes in {count}");
    assert!(count > 1_000, "its inputs were read until it was disconnected: {count}");
    let own = selfish.read_until_eof();
    assert!(own.ends_with(b"\nupcalld: slow_consumer\n"), "{}", own[own.len().saturating_sub(60)..].escape_ascii());
}

/// Reads until the line that is sent last.
fn until_last(mut stream: &Stream) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while !bytes.ends_with(b"the last one\n") {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("disconnected behind {} bytes", bytes.len()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error} behind {} bytes", bytes.len()),
        }
    }
    bytes
}

/// Patience has no end, and a reader stops and reads on later: it gets everything.
#[test]
fn f4_a_reader_that_comes_back_has_lost_nothing() {
    let limits = "[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"forever\"\n";
    let daemon = Daemon::start(&config(Place::UnixPath, &(DATA.to_owned() + limits)));
    let (stalled, mut healthy) = (daemon.join("lab"), Swarm::join(&daemon, &["lab"], 1));
    let sender = daemon.connect("in");
    let expected = lines(8_000, 1_000);
    let sent = expected.clone();
    let sending = thread::spawn(move || sender.send(sent));
    // The healthy one gets that much before inputs are held back for the other: less than half of max_behind.
    let held = healthy.collect(256 << 10).remove(0);
    let mut got = [Vec::new(), held];
    Swarm::of(vec![stalled, healthy.streams()[0].again()]).read(|index, bytes| {
        got[index].extend_from_slice(bytes);
        got[index].len() >= expected.len()
    });
    sending.join().expect("everything could be sent");
    assert!(got.iter().all(|got| *got == expected));
    assert_eq!(daemon.disconnected(), 0);
}

fn f13_everything_pending_arrives_before_the_end(place: Place) {
    let rest = DATA.to_owned() + "[daemon]\nshutdown_grace = \"60s\"\n";
    let mut daemon = Daemon::start(&config(place, &rest));
    let behind: Vec<Stream> = (0..10).map(|_| daemon.join("lab")).collect();
    let mut probe = Swarm::join(&daemon, &["lab"], 1);
    let sender = daemon.connect("in");
    // More than the sockets take, so that most is still in the log; and not half of max_behind.
    let expected = lines(1_500, 1_000);
    sender.send(&expected);
    probe.expect_each(&expected, |_, _| {});
    daemon.signal(Signal::SIGTERM);
    let due = [&expected[..], b"upcalld: shutdown\n"].concat();
    let reading: Vec<_> = behind.into_iter().map(|stream| thread::spawn(move || stream.read_until_eof())).collect();
    for thread in reading {
        assert!(thread.join().expect("it ends") == due, "everything, the reason, and the end");
    }
    probe.streams()[0].expect_rest("upcalld: shutdown\n");
    sender.expect_rest("upcalld: shutdown\n");
    drop((probe, sender));
    assert_eq!(daemon.wait_exit().code(), Some(0));
    daemon.wait(Event::Ended);
}
