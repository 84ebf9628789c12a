//! Load, in sizes for every run; `soak` has the long ones.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Event, Place, Stream, Swarm, figure, over, percentile};

/// Senders are on a listener of their own, so that they need not read.
pub(crate) fn config(place: Place, rest: &str) -> String {
    place.listener("lab", "") + &place.listener("in", "role = \"input\"") + rest
}

/// A million deliveries.
#[test]
fn l2_burst_to_a_hundred() {
    burst(100, 10_000);
}

fn burst(endpoints: usize, inputs: usize) {
    let daemon = Daemon::start(&config(Place::Tcp, "[upcall]\nformat = \"{seq} {data}\"\n"));
    let mut swarm = Swarm::join(&daemon, &["lab"], endpoints);
    let sender = daemon.connect("in");
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for input in 1..=inputs {
        writeln!(sent, "burst {input}").expect("a Vec takes it");
        writeln!(expected, "{input} burst {input}").expect("a Vec takes it");
    }
    let start = Instant::now();
    let sending = thread::spawn(move || sender.send(sent));
    swarm.expect_each(&expected, |_, _| {});
    sending.join().expect("everything could be sent");
    figure("l2", &format!("{endpoints} endpoints × {inputs} inputs in {:.2?}", start.elapsed()));
}

#[test]
fn l3_a_thousand_connects_at_once() {
    let daemon = Daemon::start(&config(Place::Tcp, ""));
    assert!(crate::support::swarm::allow_files(2_000), "this test needs 2,000 descriptors");
    let url = daemon.url("lab");
    let start = Instant::now();
    let connecting: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            thread::spawn(move || (0..250).map(|_| Stream::connect(&url)).collect::<Vec<_>>())
        })
        .collect();
    let streams = connecting.into_iter().flat_map(|thread| thread.join().expect("all connect")).collect();
    daemon.wait_connected(1_000);
    figure("l3", &format!("1,000 registered in {:.2?}", start.elapsed()));
    assert_eq!(daemon.count(Event::Refused), 0);
    let mut swarm = Swarm::of(streams);
    swarm.streams()[0].send("to all\n");
    swarm.expect_each(b"Upcall event: Processing to all\n", |_, _| {});
}

/// L1 and L7 for every run: fewer endpoints, for a second.
fn l1_steady_inputs(place: Place) {
    steady(place, 100, 50, Duration::from_secs(1));
}
over!(streams: l1_steady_inputs);

/// `rate` inputs a second of 256 bytes to each of `endpoints`, for `time`.
pub(crate) fn steady(place: Place, endpoints: usize, rate: usize, time: Duration) {
    const SIZE: usize = 256;
    let daemon = Daemon::start(&config(place, "[upcall]\nformat = \"{data}\"\n"));
    let mut swarm = Swarm::join(&daemon, &["lab"], endpoints);
    let sender = daemon.connect("in");
    let inputs = rate * time.as_secs() as usize;
    let expected: Vec<u8> =
        (0..inputs).flat_map(|input| format!("{input:>width$}\n", width = SIZE - 1).into_bytes()).collect();
    let sent = expected.clone();
    let start = Instant::now();
    let due = move |input: usize| start + Duration::from_secs(1) * input as u32 / rate as u32;
    let sending = thread::spawn(move || {
        for (input, line) in sent.chunks(SIZE).enumerate() {
            // This is the rate of the load, not a wait for a condition.
            thread::sleep(due(input).saturating_duration_since(Instant::now()));
            sender.send(line);
        }
    });
    let mut whole = vec![0; endpoints];
    let mut delays = Vec::with_capacity(endpoints * inputs);
    swarm.expect_each(&expected, |endpoint, length| {
        for input in whole[endpoint]..length / SIZE {
            delays.push(due(input).elapsed());
        }
        whole[endpoint] = length / SIZE;
    });
    sending.join().expect("everything could be sent");
    assert_eq!(delays.len(), endpoints * inputs);
    let (p50, p99) = (percentile(&mut delays, 0.5), percentile(&mut delays, 0.99));
    figure("l1", &format!("{place:?}: {} deliveries, p50 {p50:.2?}, p99 {p99:.2?}", endpoints * inputs));
}

/// The ring bounds the memory, however much is delivered.
#[test]
fn l10_large_messages() {
    const SIZE: usize = 64 << 10;
    let daemon = Daemon::start(&config(Place::Tcp, "[upcall]\nformat = \"{data}\"\nmax_message = \"64KiB\"\n"));
    let mut swarm = Swarm::join(&daemon, &["lab"], 100);
    let sender = daemon.connect("in");
    let expected: Vec<u8> =
        (0..100).flat_map(|input| format!("{input:>width$}\n", width = SIZE - 1).into_bytes()).collect();
    let sent = expected.clone();
    let sending = thread::spawn(move || sender.send(sent));
    let mut most = 0;
    swarm.expect_each(&expected, |endpoint, _| {
        if endpoint == 0 {
            most = most.max(daemon.memory());
        }
    });
    sending.join().expect("everything could be sent");
    most = most.max(daemon.memory());
    figure("l10", &format!("{} KiB of memory", most >> 10));
    // The ring of frames and the rendition share log.size, 16 MiB.
    assert!(most <= (16 + 32) << 20, "{most} bytes");
}

/// One client that floods does not keep the other 99 from being served.
#[test]
fn l11_a_flooder_among_ordinary_senders() {
    const SENDERS: usize = 99;
    const ROUNDS: usize = 3;
    let config = Place::Tcp.listener("lab", "") + "[upcall]\nformat = \"{data}\"\ndeliver_to = \"sender\"\n";
    let daemon = Daemon::start(&config);
    let swarm = Swarm::join(&daemon, &["lab"], SENDERS + 1);
    let flooder = swarm.streams()[SENDERS].again();
    let reader = flooder.again();
    let reading = thread::spawn(move || {
        let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            match (&reader).read(&mut buffer) {
                Ok(0) => return total,
                Ok(count) => total += count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return total,
                Err(error) => panic!("the flooder's reader: {error}"),
            }
        }
    });
    let flooding = thread::spawn(move || {
        let flood = b"flood flood flood flood flood flood flood flood flood flood 64\n".repeat(16);
        // Ends when the connection is shut down.
        while (&flooder).write_all(&flood).is_ok() {}
    });
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        for sender in 0..SENDERS {
            let stream = &swarm.streams()[sender];
            let start = Instant::now();
            stream.send(format!("{sender} {round}\n"));
            stream.expect(format!("{sender} {round}\n"));
            delays.push(start.elapsed());
            thread::sleep((Duration::from_secs(1) / SENDERS as u32).saturating_sub(start.elapsed()));
        }
    }
    swarm.streams()[SENDERS].socket().shutdown(std::net::Shutdown::Both).expect("it is connected");
    flooding.join().expect("the flooder ends");
    let flood = reading.join().expect("its reader ends");
    assert!(flood > 1 << 20, "the flooder did flood: {flood} bytes");
    let (p50, p99) = (percentile(&mut delays, 0.5), percentile(&mut delays, 0.99));
    figure("l11", &format!("beside a flood of {} MB: p50 {p50:.2?}, p99 {p99:.2?}", flood / 1_000_000));
}

/// Inputs wait for readers: a sender that is faster than all of them causes no disconnect.
#[test]
fn l13_one_sender_as_fast_as_it_can() {
    const READERS: usize = 20;
    let daemon = Daemon::start(&config(Place::Tcp, "[upcall]\nformat = \"{data}\"\n"));
    let mut swarm = Swarm::join(&daemon, &["lab"], READERS);
    let sender = daemon.connect("in");
    let expected: Vec<u8> = (0..80_000).flat_map(|input| format!("{input:>99}\n").into_bytes()).collect();
    let sent = expected.clone();
    let start = Instant::now();
    let sending = thread::spawn(move || sender.send(sent));
    swarm.expect_each(&expected, |_, _| {});
    sending.join().expect("everything could be sent");
    let rate = (expected.len() * READERS) as f64 / start.elapsed().as_secs_f64() / 1e6;
    figure("l13", &format!("{rate:.0} MB/s to {READERS} readers"));
    assert_eq!(daemon.disconnected(), 0, "no endpoint was disconnected");
}
