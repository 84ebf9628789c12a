//! Limits that keep one client from harming the others. Each has a name, which the client receives.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::swarm::allow_files;
use crate::support::{Daemon, Event, Place, Setup, Stream, Swarm, figure, over};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

over!(streams: b2_endless_line, l12_one_more_than_the_listener_takes, messages_up_to_the_limit_pass);

fn b2_endless_line(place: Place) {
    let daemon = Daemon::start(&(place.listener("lab", "framing = \"line\"") + DATA));
    let witness = daemon.join("lab");
    let stream = daemon.join("lab");
    let before = daemon.memory();
    let writer = stream.again();
    let writing = thread::spawn(move || {
        let block = vec![b'x'; 1 << 20];
        // The daemon may close the connection at any byte.
        (0..100).take_while(|_| (&writer).write_all(&block).is_ok()).count()
    });
    stream.expect_rest("upcalld: message_too_large\n");
    drop(stream);
    writing.join().expect("the writer ends");
    daemon.wait(Event::Left.reason("message_too_large"));
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for one endless line");
    witness.send("ok\n");
    witness.expect("ok\n");
}

fn messages_up_to_the_limit_pass(place: Place) {
    let config = place.listener("lab", "framing = \"line\"") + DATA + "max_message = \"1KiB\"\n";
    let daemon = Daemon::start(&config);
    let largest = [&b"x".repeat(1023)[..], b"\n"].concat();
    let stream = daemon.join("lab");
    stream.send(&largest);
    stream.expect(&largest);
    stream.send(b"x".repeat(1025));
    stream.expect_rest("upcalld: message_too_large\n");
}

/// The same before the first newline, when the daemon does not know yet whether the stream has lines.
#[test]
fn b2_endless_line_before_the_first_newline() {
    let daemon = Daemon::start(&(Place::Tcp.listener("lab", "") + "[upcall]\ndeliver_to = \"others\"\n"));
    let before = daemon.memory();
    let stream = daemon.join("lab");
    let block = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        if (&stream).write_all(&block).is_err() {
            break;
        }
    }
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes: more than the ring");
    drop(stream);
    daemon.wait(Event::Left);
}

fn l12_one_more_than_the_listener_takes(place: Place) {
    let daemon =
        Daemon::start(&(place.listener("lab", "max_endpoints = 3") + &Place::Tcp.listener("other", "") + DATA));
    let endpoints: Vec<Stream> = (0..3).map(|_| daemon.join("lab")).collect();
    for _ in 0..2 {
        let start = Instant::now();
        daemon.connect("lab").expect_rest("upcalld: listener_max_endpoints\n");
        figure("l12", &format!("refused by name within {:.2?}", start.elapsed()));
    }
    daemon.wait_count(Event::Refused.reason("listener_max_endpoints"), 2);
    let elsewhere = daemon.join("other");
    elsewhere.send("hi\n");
    for endpoint in &endpoints {
        endpoint.expect("hi\n");
    }
    drop(endpoints);
    daemon.wait_count(Event::Left, 3);
    daemon.join("lab");
}

#[test]
fn l12_one_more_than_the_registry_takes() {
    let config = Place::Tcp.listener("lab", "") + &Place::UnixPath.listener("local", "");
    let daemon = Daemon::start(&(config + DATA + "[registry]\nmax_endpoints = 4\n"));
    let endpoints: Vec<Stream> = ["lab", "local", "lab", "local"].into_iter().map(|name| daemon.join(name)).collect();
    for name in ["lab", "local"] {
        let refused = daemon.connect(name);
        // Unread input must not turn the reason into a reset.
        let _ = (&refused).write_all(b"me too\n");
        refused.expect_rest("upcalld: max_endpoints\n");
    }
    endpoints[0].send("hi\n");
    for endpoint in &endpoints {
        endpoint.expect("hi\n");
    }
}

#[test]
fn max_per_source_counts_addresses() {
    let daemon = Daemon::start(&(Place::Tcp.listener("lab", "max_per_source = 2") + DATA));
    let url = daemon.url("lab");
    let kept: Vec<Stream> = (0..2).map(|_| daemon.join("lab")).collect();
    daemon.connect("lab").expect_rest("upcalld: max_per_source\n");
    let other = Stream::connect_from("127.0.0.2", &url);
    other.send("from another address\n");
    other.expect("from another address\n");
    kept[0].expect("from another address\n");
}

#[test]
fn b3_a_byte_at_a_time() {
    const SLOW: usize = 500;
    assert!(allow_files(2_000), "this test needs 2,000 descriptors");
    let config = Place::Tcp.listener("lab", "framing = \"line\"") + DATA + "message_timeout = \"1s\"\n";
    let daemon = Daemon::start(&config);
    let mut swarm = Swarm::join(&daemon, &["lab"], SLOW);
    let writers: Vec<Stream> = swarm.streams().iter().map(Stream::again).collect();
    let dripping = thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(30);
        let mut open: Vec<&Stream> = writers.iter().collect();
        while !open.is_empty() && Instant::now() < until {
            open.retain(|stream| (&mut &**stream).write_all(b"x").is_ok());
            thread::sleep(Duration::from_millis(100));
        }
        open.len()
    });
    let start = Instant::now();
    let fresh = daemon.join("lab");
    fresh.send("served at once\n");
    fresh.expect("served at once\n");
    figure("b3", &format!("a new client was served within {:.2?}", start.elapsed()));
    let farewell = "upcalld: message_timeout\n";
    swarm.expect_each(format!("served at once\n{farewell}").as_bytes(), |_, _| {});
    daemon.wait_count(Event::Left.reason("message_timeout"), SLOW);
    drop(swarm);
    assert_eq!(dripping.join().expect("the dripping ends"), 0, "connections still open");
    fresh.send("still here\n");
    fresh.expect("still here\n");
}

#[test]
fn f6_connections_closed_with_a_reset() {
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    let warm = daemon.join("lab");
    let before = daemon.descriptors();
    for batch in 0..100 {
        let swarm: Vec<Stream> = (0..100).map(|_| daemon.connect("lab")).collect();
        swarm.into_iter().for_each(Stream::reset);
        // A reset may come before its connection is accepted, so the log does not tell when the batch is over.
        if batch % 10 == 9 {
            warm.send("x");
            warm.expect("Upcall event: Processing x");
        }
    }
    daemon.wait_descriptors(before);
}

/// No other event makes the daemon look at these connections.
#[test]
fn f6_resets_alone_are_noticed() {
    const CONNECTS: usize = 100;
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    let before = daemon.descriptors();
    let swarm: Vec<Stream> = (0..CONNECTS).map(|_| daemon.connect("lab")).collect();
    daemon.wait_connected(CONNECTS);
    swarm.into_iter().for_each(Stream::reset);
    daemon.wait_count(Event::Left.reason("reset"), CONNECTS);
    daemon.wait_descriptors(before);
}

#[test]
fn f7_out_of_descriptors() {
    const CONNECTS: usize = 200;
    let setup = Setup::new(&(Place::Tcp.listener("lab", "") + DATA)).after_shell("ulimit -n 64");
    let daemon = setup.start();
    let mut waiting: Vec<Stream> = (0..CONNECTS).map(|_| daemon.connect("lab")).collect();
    let (first, begun) = (waiting.remove(0), daemon.processor_time());
    first.send("before\n");
    first.expect("before\n");
    let window = Duration::from_secs(1);
    // What is measured is a rate, so it takes a while.
    thread::sleep(window);
    let share = (daemon.processor_time() - begun).as_secs_f64() / window.as_secs_f64();
    figure("f7", &format!("{:.1} % of a processor while out of descriptors", share * 100.0));
    assert!(share < 0.5, "it spins");
    let complaints = daemon.count(Event::AcceptPauses);
    assert!((1..=6).contains(&complaints), "logged, but not again and again: {complaints}");
    let registered = daemon.connected();
    assert!((20..64).contains(&registered), "{registered} are in");
    // The registered ones leave, and the waiting ones are accepted.
    let start = Instant::now();
    let late = waiting.split_off(registered - 1);
    drop(waiting);
    daemon.wait_connected(registered + 20);
    figure("f7", &format!("20 more were let in within {:.2?}", start.elapsed()));
    drop(late);
    first.send("after\n");
    first.expect("after\n");
}

#[test]
fn a_flood_of_connects_and_leaves_changes_nothing_for_others() {
    let daemon = Daemon::start(&(Place::Tcp.listener("lab", "") + DATA));
    let witness = daemon.join("lab");
    let before = daemon.descriptors();
    for round in 0..300 {
        let mut stream = &daemon.connect("lab");
        stream.write_all(format!("{round}\n").as_bytes()).expect("it is connected");
        let mut answer = vec![0; 16];
        let count = stream.read(&mut answer).expect("its own upcall");
        assert!(answer[..count].starts_with(format!("{round}\n").as_bytes()));
        witness.expect(format!("{round}\n"));
    }
    // Closed, or reset if the next one's upcall came before it was gone.
    daemon.wait_count(Event::Left, 300);
    daemon.wait_descriptors(before);
}

/// Clients that flood on after their farewell; the others are served in between.
#[test]
fn dismissed_flooders_do_not_delay_others() {
    const FLOODERS: usize = 10;
    let config = Place::Tcp.listener("lab", "framing = \"line\"") + &Place::UnixPath.listener("local", "") + DATA;
    let daemon = Daemon::start(&config);
    let healthy = daemon.join("local");
    let flooders: Vec<Stream> = (0..FLOODERS).map(|_| daemon.join("lab")).collect();
    let over = Arc::new(AtomicBool::new(false));
    let flooding = thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let (block, mut flood) = (vec![b'z'; 2 << 20], [0; FLOODERS]);
            for stream in &flooders {
                stream.socket().set_nonblocking(true).expect("the option exists");
            }
            while !over.load(Ordering::Relaxed) {
                for (mut stream, flood) in flooders.iter().zip(&mut flood) {
                    *flood += stream.write(&block).unwrap_or(0);
                }
            }
            flood
        }
    });
    daemon.wait_count(Event::Left.reason("message_too_large"), FLOODERS);
    let mut worst = Duration::ZERO;
    for round in 0..50 {
        let start = Instant::now();
        healthy.send(format!("{round}\n"));
        healthy.expect(format!("{round}\n"));
        worst = worst.max(start.elapsed());
    }
    over.store(true, Ordering::Relaxed);
    let flood = flooding.join().expect("the flood ends");
    figure("flooders", &format!("{} MB thrown away; worst round trip {worst:.2?}", flood.iter().sum::<usize>() >> 20));
    assert!(flood.iter().all(|flood| *flood > 64 << 10), "all of them did flood: {flood:?}");
    assert_eq!(daemon.disconnected(), FLOODERS);
}
