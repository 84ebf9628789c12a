//! Sockets that a service manager hands over.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::support::{Daemon, Datagram, Event, Setup, Stream, figure, listener};

/// Each client gets its own inputs only, so that tests with several clients stay simple.
const OWN: &str = "[upcall]\nformat = \"{data}\"\ndeliver_to = \"sender\"\n";

/// A socket that the test, as the service manager, has bound.
struct Held {
    socket: Socket,
    transport: &'static str,
    address: String,
    _scratch: TempDir,
}

impl Held {
    fn new(transport: &'static str, abstract_name: bool) -> Held {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let kind = if ["tcp", "unix"].contains(&transport) { Type::STREAM } else { Type::DGRAM };
        let inet = ["tcp", "udp"].contains(&transport);
        let socket = Socket::new(if inet { Domain::IPV4 } else { Domain::UNIX }, kind, None).expect("a socket");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = if inet {
            socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
            socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address").to_string()
        } else if abstract_name {
            let name = format!("upcalld-held-{}-{number}", std::process::id());
            socket.bind(&SockAddr::unix(format!("\0{name}")).expect("short")).expect("the name is free");
            format!("@{name}")
        } else {
            let path = scratch.path().join("held.sock");
            socket.bind(&SockAddr::unix(&path).expect("short")).expect("the path is free");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is there");
            path.display().to_string()
        };
        if kind == Type::STREAM {
            socket.listen(64).expect("it can listen");
        }
        if transport == "unix-datagram" {
            // PassCredentials=yes
            socket.set_passcred(true).expect("the option exists");
        }
        Held { socket, transport, address, _scratch: scratch }
    }

    fn listener(&self, name: &str) -> String {
        listener(name, self.transport, &self.address, "")
    }

    fn url(&self) -> String {
        format!("{}://{}", self.transport, self.address)
    }

    fn descriptor(&self) -> OwnedFd {
        self.socket.try_clone().expect("a descriptor").into()
    }

    fn setup(&self, names: &str, config: &str) -> Setup {
        Setup::new(config).hand_over(names, vec![self.descriptor()], "")
    }
}

/// A client over either kind of socket.
enum Client {
    Stream(Stream),
    Datagram(Datagram),
}

impl Client {
    fn open(held: &Held) -> Client {
        if ["tcp", "unix"].contains(&held.transport) {
            Client::Stream(Stream::connect(&held.url()))
        } else {
            Client::Datagram(Datagram::open(&held.url()))
        }
    }

    fn send(&self, text: &str) {
        match self {
            Client::Stream(stream) => stream.send(format!("{text}\n")),
            Client::Datagram(datagram) => datagram.send(text),
        }
    }

    fn expect(&self, text: &str) {
        match self {
            Client::Stream(stream) => stream.expect(format!("{text}\n")),
            Client::Datagram(datagram) => datagram.expect(text),
        }
    }
}

/// On every transport: the daemon uses the socket instead of binding one, leaves it as it was, and the next daemon
/// serves clients that came in between.
#[test]
fn f14_a_socket_outlives_its_daemons() {
    for (transport, abstract_name) in [
        ("tcp", false),
        ("udp", false),
        ("unix", false),
        ("unix", true),
        ("unix-datagram", false),
        ("unix-datagram", true),
    ] {
        let held = Held::new(transport, abstract_name);
        let mut setup = held.setup("lab", &(held.listener("lab") + OWN));
        let mut waiting = Client::open(&held);
        waiting.send("0");
        for round in 0..3 {
            let mut daemon = setup.start();
            assert_eq!(daemon.url("lab"), held.url());
            waiting.expect(&round.to_string());
            let another = Client::open(&held);
            another.send("me too");
            another.expect("me too");
            drop((waiting, another));
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.wait_exit().code(), Some(0));
            waiting = Client::open(&held);
            waiting.send(&(round + 1).to_string());
            if held.address.starts_with('/') {
                let mode = fs::metadata(&held.address).expect("it is not removed").permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "nor changed");
                assert!(!Path::new(&format!("{}.lock", held.address)).exists());
            }
            setup = daemon.crash();
        }
    }
}

/// No connection is refused while one daemon follows another.
#[test]
fn f14_restarts_refuse_no_connection() {
    let held = Held::new("tcp", false);
    let mut daemon = held.setup("lab", &(held.listener("lab") + OWN)).start();
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let stream = Stream::try_connect(&held.url()).expect("no connection is refused");
                        stream.send("x\n");
                        // The daemon may end at this moment; the connection ends with a reason then, not with a reset.
                        if stream.read_exactly(2) == b"x\n" {
                            served.fetch_add(1, Ordering::Relaxed);
                        } else {
                            stream.expect_rest("calld: shutdown\n");
                        }
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            let before = served.load(Ordering::Relaxed);
            while served.load(Ordering::Relaxed) < before + 20 {
                assert!(!clients.iter().any(|client| client.is_finished()), "a client has failed");
                thread::yield_now();
            }
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.wait_exit().code(), Some(0));
            daemon = daemon.crash().start();
        }
        over.store(true, Ordering::Relaxed);
        // The last daemon has to outlive the clients.
        clients.into_iter().for_each(|client| client.join().expect("no connection was refused"));
    });
    figure("f14", &format!("10 restarts, {} served, 0 refused", served.into_inner()));
}

#[test]
fn two_sockets_and_a_listener_without_one() {
    let (tcp, local) = (Held::new("tcp", false), Held::new("unix", false));
    let config = listener("own", "tcp", "127.0.0.1:0", "") + &tcp.listener("lab") + &local.listener("local") + OWN;
    let sockets = vec![local.descriptor(), tcp.descriptor()];
    let daemon = Setup::new(&config).hand_over("local:lab", sockets, "").start();
    for name in ["own", "lab", "local"] {
        let stream = daemon.join(name);
        stream.send("hi\n");
        stream.expect("hi\n");
    }
}

#[test]
fn what_does_not_belong_together_is_a_wrong_configuration() {
    let (tcp, udp) = (Held::new("tcp", false), Held::new("udp", false));
    let unbound = Held::new("unix", false);
    let connection = {
        let client = Stream::connect(&tcp.url());
        let (socket, _) = tcp.socket.accept().expect("a client has connected");
        (client, socket)
    };
    let lab = tcp.listener("lab") + &listener("more", "tcp", "127.0.0.1:0", "");
    for (socket, names, words) in [
        (tcp.descriptor(), "lap", &["socket \"lap\", ", "\"lab\", \"more\"", "FileDescriptorName="][..]),
        (udp.descriptor(), "lab", &["socket \"lab\", udp://", "the listener is tcp://"]),
        (unbound.descriptor(), "lab", &["socket \"lab\", unix://"]),
        (connection.1.into(), "lab", &["\"lab\"", "Accept=no"]),
        (tcp.descriptor(), "lab:lab", &["another one has the same name"]),
        (fs::File::open("/dev/null").expect("it is there").into(), "lab", &["file descriptor 3, \"lab\""]),
    ] {
        let ended = Setup::new(&lab).hand_over(names, vec![socket], "").run();
        assert_eq!(ended.code(), 78, "{}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "no {word} in {}", ended.stderr);
        }
    }
}

#[test]
fn a_socket_without_credentials_is_reported() {
    for (asked, warnings) in [(true, 0), (false, 1)] {
        let held = Held::new("unix-datagram", true);
        held.socket.set_passcred(asked).expect("the option exists");
        let daemon = held.setup("lab", &(held.listener("lab") + OWN)).start();
        assert_eq!(daemon.log().count_words("write PassCredentials=yes"), warnings);
        assert_eq!(daemon.count(Event::Listening.with("(lab, handed over)")), 1);
        let client = Client::open(&held);
        client.send("x");
        client.expect("x");
    }
}

#[test]
fn what_is_meant_for_another_process_is_ignored() {
    let held = Held::new("tcp", false);
    let config = listener("own", "tcp", "127.0.0.1:0", "") + OWN;
    let daemon = Setup::new(&config).hand_over("lab", vec![held.descriptor()], "export LISTEN_PID=1").start();
    daemon.join("own");
}

/// A socket is kept while its listener stays, given up but not lost when it goes, and used again when it comes back.
#[test]
fn a_reload_keeps_gives_up_and_takes_back() {
    let held = Held::new("tcp", false);
    let own = listener("own", "tcp", "127.0.0.1:0", "") + OWN;
    let config = own.clone() + &held.listener("lab");
    let daemon = held.setup("lab", &config).start();
    let first = daemon.join("lab");
    daemon.reload(&config.replace("{data}", "new {data}"));
    first.send("hi\n");
    first.expect("new hi\n");
    assert_eq!(daemon.log().count_words("the next start will fail"), 0);

    daemon.reload(&own);
    first.expect_rest("upcalld: listener_removed\n");
    daemon.log().wait_words("the next start will fail: socket \"lab\"");
    let patient = Stream::connect(&held.url());
    patient.send("early\n");
    daemon.reload(&config);
    patient.expect("early\n");

    // The same name at another address; and then at one where it cannot be, because the daemon cannot unbind the
    // socket.
    daemon.reload(&(listener("lab", "tcp", "127.0.0.2:0", "") + OWN));
    assert!(daemon.url("lab").starts_with("tcp://127.0.0.2:"));
    let port = held.address.rsplit(':').next().expect("a port");
    let wide = listener("wide", "tcp", &format!("0.0.0.0:{port}"), "open = true");
    let here = daemon.join("lab");
    daemon.reload_refused(&(wide + OWN));
    let refusals = daemon.log().entries(Event::ReloadRefused);
    assert!(refusals[0].message.contains("the service manager holds the socket \"lab\""), "{refusals:?}");
    here.send("still here\n");
    here.expect("still here\n");
}

/// Connections to a socket that the daemon has given up do not wake it.
#[test]
fn a_socket_that_was_given_up_is_not_watched() {
    let held = Held::new("unix", true);
    let own = listener("own", "tcp", "127.0.0.1:0", "") + OWN;
    let daemon: Daemon = held.setup("lab", &(own.clone() + &held.listener("lab"))).start();
    daemon.reload(&own);
    let probe = daemon.join("own");
    probe.send("x\n");
    probe.expect("x\n");
    let before = daemon.wakeups();
    let _waiting: Vec<Stream> = (0..50).map(|_| Stream::connect(&held.url())).collect();
    probe.send("x\n");
    probe.expect("x\n");
    assert!(daemon.wakeups() < before + 25, "{} to {}", before, daemon.wakeups());
}
