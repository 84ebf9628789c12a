//! SIGHUP, where a listener replaces another at its address: the endpoints of the old one get a farewell.

use std::net::TcpListener;

use crate::support::{Daemon, Datagram, Event, Place, Stream, listener};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";
const GONE: &str = "upcalld: listener_removed\n";

fn config_of(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.setup().config_path()).expect("it is there")
}

/// UDP: one address becomes all of them, on the same port, and one again.
#[test]
fn udp_widens_and_narrows() {
    let daemon = Daemon::start(&(listener("lab", "udp", "127.0.0.1:0", "open = true") + DATA));
    let port = daemon.port("lab");
    let mut config = config_of(&daemon);
    let mut before = daemon.join_datagram("lab");
    let mut old = "address = \"127.0.0.1:0\"\n".to_owned();
    let both = if Place::Udp6.is_available() { "[::]" } else { "127.0.0.1" };
    for (round, new) in ["0.0.0.0", both, "0.0.0.0", "127.0.0.1"].into_iter().enumerate() {
        let dual = if new == "[::]" { "dual_stack = true\n" } else { "" };
        let address = format!("address = \"{new}:{port}\"\n{dual}");
        config = config.replace(&old, &address);
        old = address;
        // Sent before the reload, and perhaps not read yet: still an input.
        before.send(format!("{round}"));
        daemon.reload(&config);
        before.expect(format!("{round}"));
        before.expect(GONE);
        before.expect_nothing();
        assert_eq!(daemon.url("lab"), format!("udp://{new}:{port}"));
        let next = Datagram::open(&format!("udp://127.0.0.1:{port}"));
        next.send("new");
        next.expect("new");
        before = next;
    }
    // A thread writes the log, later than the event.
    daemon.wait_count(Event::Left.reason("listener_removed"), 4);
    assert_eq!(daemon.count(Event::ReloadRefused), 0);
}

/// No other process can take the port of a listener, neither before nor after a reload that let a second socket share
/// it.
#[test]
fn a_udp_port_is_shared_no_longer_than_it_takes() {
    let daemon = Daemon::start(&(listener("lab", "udp", "127.0.0.1:0", "open = true") + DATA));
    let port = daemon.port("lab");
    let config = config_of(&daemon).replace("\"127.0.0.1:0\"", &format!("\"0.0.0.0:{port}\""));
    daemon.reload(&config);
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
    other.set_reuse_port(true).expect("the option exists");
    other.set_reuse_address(true).expect("the option exists");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert!(other.bind(&address.into()).is_err(), "the port is the daemon's");
}

/// One path, first a socket for datagrams, then for streams, then for datagrams again.
#[test]
fn a_path_changes_its_kind() {
    let datagrams = Place::DatagramPath.listener("local", "");
    let streams = datagrams.replace("unix-datagram", "unix");
    let daemon = Daemon::start(&(datagrams.clone() + DATA));
    let peer = daemon.join_datagram("local");
    daemon.reload(&(streams + DATA));
    peer.expect(GONE);
    peer.expect_nothing();
    let stream = daemon.join("local");
    stream.send("x\n");
    stream.expect("x\n");
    daemon.reload(&(datagrams + DATA));
    stream.expect_rest(GONE);
    let peer = daemon.join_datagram("local");
    peer.send("y");
    peer.expect("y");
}

/// A path was given to a new kind of socket, and then another listener cannot be bound: the old socket comes back.
#[test]
fn a_path_comes_back_when_the_reload_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener("taken", "tcp", &taken.local_addr().expect("bound").to_string(), "");
    for (place, before, after) in
        [(Place::DatagramPath, "unix-datagram", "unix"), (Place::UnixPath, "unix", "unix-datagram")]
    {
        let local = place.listener("local", "");
        let changed = local.replace(&format!("\"{before}\""), &format!("\"{after}\""));
        let udp = Place::Udp.listener("udp", "");
        let daemon = Daemon::start(&(local.clone() + &udp + DATA));
        let url = daemon.url("local");
        let witness = daemon.join_datagram("udp");
        let peer = (place == Place::DatagramPath).then(|| daemon.join_datagram("local"));
        daemon.reload_refused(&(changed + &udp + &taken + DATA));
        let refused = daemon.log().entries(Event::ReloadRefused);
        assert!(refused[0].message.ends_with("the old configuration stays"), "{refused:?}");
        match &peer {
            Some(peer) => {
                peer.send("still here");
                peer.expect("still here");
            }
            None => Stream::connect(&url).send("still here"),
        }
        witness.expect("still here");
        assert_eq!(daemon.count(Event::Left.reason("listener_removed")), 0);
    }
}
