//! The daemon ends while a client is slow, odd or late.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::load::config;
use crate::slow_consumer::lines;
use crate::support::{Daemon, Event, Place, Stream, figure, over};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";
const FAREWELL: &[u8] = b"upcalld: shutdown\n";

over!(streams: connections_not_yet_accepted_get_the_reason);

/// The kernel soon has everything, and the client reads it seconds later. What the client sends in the meantime must
/// not cause a reset.
#[test]
fn a_slow_reader_that_sends_gets_everything() {
    let mut daemon = Daemon::start(&(config(Place::Tcp, DATA) + "[daemon]\nshutdown_grace = \"20s\"\n"));
    let slow = Stream::connect_narrow(&daemon.url("lab"));
    daemon.wait_connected(1);
    let (probe, sender) = (daemon.join("lab"), daemon.connect("in"));
    let sent = lines(400, 1_000);
    sender.send(&sent);
    assert!(probe.read_exactly(sent.len()) == sent);
    daemon.signal(Signal::SIGTERM);
    probe.expect_rest(FAREWELL);
    drop((probe, sender));
    let (start, mut got, mut buffer, mut talks) = (Instant::now(), Vec::new(), vec![0; 4_096], 0);
    loop {
        talks += usize::from((&slow).write_all(b"talk\n").is_ok());
        match (&slow).read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error} after {:.1?}, behind {} of {} bytes", start.elapsed(), got.len(), sent.len()),
        }
        // This is how fast the reader reads, not a wait for a condition.
        let pace = Duration::from_millis(3_500) * got.len() as u32 / sent.len() as u32;
        thread::sleep(pace.saturating_sub(start.elapsed()));
    }
    figure("slow_drain", &format!("{} bytes in {:.1?}, talking {talks} times", got.len(), start.elapsed()));
    assert!(got == [&sent[..], FAREWELL].concat(), "{} of {} bytes, and the farewell", got.len(), sent.len());
    assert!(talks > 10, "it did talk: {talks}");
    drop(slow);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

/// A listener is closed when the drain begins. The line about the end of an endpoint names it all the same.
#[test]
fn the_end_of_an_endpoint_names_its_closed_listener() {
    let mut daemon = Daemon::start(&config(Place::Tcp, DATA));
    let reader = daemon.join("lab");
    daemon.signal(Signal::SIGTERM);
    reader.expect_rest(FAREWELL);
    daemon.wait(Event::Left.listener("lab").reason("shutdown"));
    drop(reader);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

/// Inputs wait for a reader that shuts its side down while the daemon drains: the daemon has nothing to do but wait.
#[test]
fn a_half_close_while_inputs_wait_does_not_spin() {
    const GRACE: Duration = Duration::from_secs(2);
    let rest = "[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"forever\"\n\
                [daemon]\nshutdown_grace = \"2s\"\nlog_level = \"debug\"\n";
    let mut daemon = Daemon::start(&(Place::Tcp.listener("lab", "") + DATA + rest));
    let stalled = Stream::connect_narrow(&daemon.url("lab"));
    daemon.wait_connected(1);
    let sender = daemon.join("lab");
    let (writer, reader) = (sender.again(), sender.again());
    // Bounded, so that discarding it is not what keeps the daemon busy.
    let sending = thread::spawn(move || drop((&writer).write_all(&lines(16_000, 1_000))));
    let reading = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while (&reader).read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    daemon.wait(Event::InputsHeld.endpoint(1));
    daemon.signal(Signal::SIGTERM);
    daemon.wait(Event::Draining);
    stalled.finish();
    let (start, before) = (Instant::now(), daemon.processor_time());
    daemon.wait(Event::Ended);
    // The process may have ended, but its figures are there until it is waited for.
    let (elapsed, used) = (start.elapsed(), daemon.processor_time() - before);
    figure("half_close", &format!("{used:.2?} of a processor in a drain of {elapsed:.1?}"));
    assert!(used < GRACE / 4, "it spins: {used:?} of {elapsed:?}");
    assert_eq!(daemon.wait_exit().code(), Some(0));
    drop((stalled, sender));
    sending.join().expect("the writer ends");
    reading.join().expect("the reader ends");
}

fn connections_not_yet_accepted_get_the_reason(place: Place) {
    const WAITING: usize = 300;
    let mut daemon = Daemon::start(&(place.listener("lab", "") + DATA + "[daemon]\nshutdown_grace = \"50s\"\n"));
    let url = daemon.url("lab");
    daemon.stop();
    let waiting: Vec<Stream> = (0..WAITING).map(|_| Stream::connect(&url)).collect();
    for stream in waiting.iter().step_by(2) {
        stream.send("said in haste\n");
    }
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    for stream in &waiting {
        stream.expect_rest(FAREWELL);
    }
    drop(waiting);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}
