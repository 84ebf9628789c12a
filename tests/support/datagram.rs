//! A socket for datagrams to and from the daemon, with a deadline on everything.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::poll::PollFlags;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use super::retry::ready_within;
use super::{DEADLINE, Daemon, Event, retry};

/// A bound socket. It is not connected, so that datagrams from elsewhere arrive, too, and fail the test.
#[derive(Debug)]
pub(crate) struct Datagram {
    socket: Socket,
    /// The same socket, if it is a UDP socket: only this type reports the sender.
    udp: Option<UdpSocket>,
    /// The daemon.
    to: SockAddr,
    /// Where its socket file is.
    directory: Option<TempDir>,
}

impl Datagram {
    /// A socket for the URL of a listener, of the same kind: a path for a path, an abstract name for an abstract one.
    pub(crate) fn open(url: &str) -> Datagram {
        let (transport, place) = url.split_once("://").expect("a URL");
        match (transport, place.strip_prefix('@')) {
            ("udp", _) => {
                let to: SocketAddr = place.parse().expect("a literal address");
                Datagram::open_from(to.ip(), to)
            }
            (_, Some(name)) => {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                let own = format!("upcalld-test-peer-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                let address = |name: &str| SockAddr::unix(OsStr::from_bytes(&[b"\0", name.as_bytes()].concat()));
                Datagram::bind(address(&own).expect("short"), address(name).expect("short"))
            }
            (_, None) => {
                let directory = tempfile::tempdir().expect("a scratch directory");
                let own = SockAddr::unix(directory.path().join("peer")).expect("short");
                let datagram = Datagram::bind(own, SockAddr::unix(place).expect("short"));
                Datagram { directory: Some(directory), ..datagram }
            }
        }
    }

    /// A UDP socket at an address of this machine.
    pub(crate) fn open_from(from: IpAddr, to: SocketAddr) -> Datagram {
        Datagram::bind(SocketAddr::new(from, 0).into(), to.into())
    }

    fn bind(own: SockAddr, to: SockAddr) -> Datagram {
        let socket = Socket::new(Domain::from(i32::from(own.family())), Type::DGRAM, None).expect("a socket");
        socket.bind(&own).expect("the address is free");
        socket.set_read_timeout(Some(DEADLINE)).expect("the option exists");
        socket.set_write_timeout(Some(DEADLINE)).expect("the option exists");
        let udp = to.as_socket().map(|_| socket.try_clone().expect("a descriptor").into());
        Datagram { socket, udp, to, directory: None }
    }

    /// Its address, where it is a UDP socket.
    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).expect("a UDP socket")
    }

    /// The path of its socket file, where it has one.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.directory.as_ref().expect("it is at a path").path().join("peer")
    }

    /// From now on, takes only datagrams of the address that it sends to.
    pub(crate) fn connect(&self) {
        self.socket.connect(&self.to).expect("the daemon is there");
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        assert_eq!(retry(|| self.socket.send_to(bytes, &self.to)).expect("the daemon is there"), bytes.len());
    }

    /// The next datagram; over UDP, from where it has sent to.
    #[track_caller]
    pub(crate) fn receive(&self) -> Vec<u8> {
        match self.try_receive() {
            Ok(bytes) => bytes,
            Err(error) => panic!("no datagram came: {error}"),
        }
    }

    fn try_receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        let length = match &self.udp {
            Some(udp) => {
                let (length, from) = retry(|| udp.recv_from(&mut buffer))?;
                assert_eq!(Some(from), self.to.as_socket(), "it comes from somewhere else");
                length
            }
            None => retry(|| (&self.socket).read(&mut buffer))?,
        };
        buffer.truncate(length);
        Ok(buffer)
    }

    /// A datagram that is there already.
    pub(crate) fn receive_now(&self) -> Option<Vec<u8>> {
        ready_within(self, PollFlags::POLLIN, Duration::ZERO).then(|| self.try_receive().ok()).flatten()
    }

    /// The next datagram is this one.
    #[track_caller]
    pub(crate) fn expect(&self, bytes: impl AsRef<[u8]>) {
        let came = self.receive();
        assert_eq!(came.escape_ascii().to_string(), bytes.as_ref().escape_ascii().to_string());
    }

    /// Nothing has come. The test must know by other means that the daemon is done: what it has sent arrives at once.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        self.socket.set_nonblocking(true).expect("the option exists");
        match self.try_receive() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
            Ok(bytes) => panic!("there is \"{}\"", bytes.escape_ascii()),
        }
        self.socket.set_nonblocking(false).expect("the option exists");
    }

    /// Nothing comes for this long.
    #[track_caller]
    pub(crate) fn expect_nothing_for(&self, time: Duration) {
        assert!(!ready_within(self, PollFlags::POLLIN, time), "something has come");
    }
}

impl AsFd for Datagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Daemon {
    /// A socket for datagrams to and from a listener, which does not know it yet.
    pub(crate) fn datagram(&self, listener: &str) -> Datagram {
        Datagram::open(&self.url(listener))
    }

    /// The same, registered. The listener must trust its address.
    #[track_caller]
    pub(crate) fn join_datagram(&self, listener: &str) -> Datagram {
        let before = self.count(Event::Joined);
        let datagram = self.datagram(listener);
        datagram.send("join\n");
        self.wait_count(Event::Joined, before + 1);
        datagram
    }
}
