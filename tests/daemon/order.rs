//! One total order on every transport, whichever endpoints send.

use std::collections::HashSet;
use std::thread;

use crate::support::{Daemon, Event, Place, Stream, Swarm};

/// Listeners on every transport that this machine has, and their names.
fn everywhere() -> (String, Vec<String>) {
    let places: Vec<Place> = Place::STREAMS.into_iter().filter(|place| place.is_available()).collect();
    let tables = places.iter().map(|place| place.listener(&format!("{place:?}"), "")).collect();
    (tables, places.iter().map(|place| format!("{place:?}")).collect())
}

#[test]
fn two_hundred_clients_on_all_transports_see_one_order() {
    const CLIENTS: usize = 200;
    const EACH: usize = 20;
    let (tables, names) = everywhere();
    let daemon = Daemon::start(&(tables + "[upcall]\nformat = \"{seq} {data}\"\n"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut swarm = Swarm::join(&daemon, &names, CLIENTS);
    let senders: Vec<Stream> = swarm.streams().iter().map(Stream::again).collect();
    let sending = thread::spawn(move || {
        for message in 0..EACH {
            for (client, sender) in senders.iter().enumerate() {
                sender.send(format!("c{client} m{message}\n"));
            }
        }
    });
    // Nonblocking for the reader is nonblocking for the writer too; what each client sends fits into its socket.
    let length = (1..=CLIENTS * EACH).map(|sequence| sequence.to_string().len() + 1).sum::<usize>()
        + EACH * (0..CLIENTS).map(|client| format!("c{client} m0\n").len()).sum::<usize>()
        + (EACH - 10) * CLIENTS;
    let streams = swarm.collect(length);
    sending.join().expect("everything could be sent");

    let first = String::from_utf8(streams[0].clone()).expect("text");
    let mut next = vec![0; CLIENTS];
    for (index, line) in first.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], (index + 1).to_string(), "sequences rise by one");
        let client: usize = words[1][1..].parse().expect("a client");
        assert_eq!(words[2], format!("m{}", next[client]), "client {client}'s own order");
        next[client] += 1;
    }
    assert_eq!(next, [EACH; CLIENTS]);
    for (index, stream) in streams.iter().enumerate() {
        assert!(*stream == streams[0], "endpoint {index} saw another order");
    }
}

#[test]
fn an_input_crosses_to_every_listener() {
    let (tables, names) = everywhere();
    let daemon = Daemon::start(&(tables + "[upcall]\nformat = \"{data}\"\n"));
    let endpoints: Vec<Stream> = names.iter().map(|name| daemon.join(name)).collect();
    for (sender, name) in endpoints.iter().zip(&names) {
        sender.send(format!("from {name}\n"));
        for endpoint in &endpoints {
            endpoint.expect(format!("from {name}\n"));
        }
    }
}

#[test]
fn a_new_endpoint_gets_nothing_from_before_it_registered() {
    let daemon = Daemon::start(&(Place::Tcp.listener("lab", "") + "[upcall]\nformat = \"{data}\"\n"));
    let first = daemon.join("lab");
    first.send("before\n");
    first.expect("before\n");
    let second = daemon.join("lab");
    first.send("after\n");
    second.expect("after\n");
}

#[test]
fn ids_are_never_reused_for_another_endpoint() {
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    for round in 0..50 {
        let stream = daemon.join("lab");
        drop(stream);
        daemon.wait_count(Event::Left, round + 1);
    }
    let lines = daemon.log().entries(Event::Connected);
    let ids: HashSet<u64> = lines.iter().filter_map(|entry| entry.endpoint).collect();
    assert_eq!(ids.len(), 50, "{ids:?}");
}
