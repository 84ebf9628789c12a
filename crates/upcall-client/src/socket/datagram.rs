//! A nonblocking datagram socket for one daemon. Opening it checks that the daemon can be reached.
//!
//! It returns only datagrams of the daemon. This module knows nothing about the protocol.

use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use socket2::{Domain, SockAddr, Socket, Type};
use upcall_wire::address::{Address, Host, UnixName};

use super::owner::{ForeignSender, SocketOwner};
use super::stream::{cannot_connect, no_address, resolve, unix_address};
use crate::Error;

/// The size of the receive buffer that is requested from the kernel, in bytes. The kernel may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How far away the daemon is, which decides how long to wait for its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A Unix socket: datagrams are neither lost nor reordered, and a full queue blocks the sender.
    Unix,
    /// UDP on this machine. With a forwarded port, the daemon may still see an unknown address and send a challenge.
    Loopback,
    /// UDP to another machine.
    Network,
}

impl Reach {
    /// How long to wait for a challenge or a refusal before assuming that there is none.
    pub fn quiet(self) -> Duration {
        Duration::from_millis(match self {
            Reach::Unix => 0,
            Reach::Loopback => 50,
            Reach::Network => 200,
        })
    }

    /// How long a datagram may be delayed behind later ones.
    pub fn disorder(self) -> Duration {
        Duration::from_millis(if self == Reach::Network { 50 } else { 0 })
    }
}

/// A nonblocking datagram socket, and the daemon's address.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    peer: DaemonPeer,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a client has one of it")]
enum DaemonPeer {
    /// The socket is connected, so the kernel drops other senders' datagrams, and reports when nothing listens.
    Inet { is_loopback: bool },
    /// The socket is not connected. When this client is slow, the daemon continues to send from a socket without a
    /// name, and a connected socket would not receive from that one.
    Unix { daemon: SockAddr, owner: SocketOwner },
}

impl DatagramSocket {
    /// Opens a socket, sends `hello`, and waits until something arrives or [`Reach::quiet`] has passed. Blocks for at
    /// most `timeout` on each of the host's addresses, apart from the resolution of its name.
    ///
    /// # Errors
    ///
    /// The reason why the daemon cannot be reached, if the kernel reports one.
    pub fn open(address: &Address, timeout: Duration, hello: &[u8]) -> Result<DatagramSocket, Error> {
        let opened = match address {
            Address::Inet { host, port, .. } => open_inet(host, *port, timeout, hello)?,
            Address::Unix { name, .. } => {
                open_unix(name, timeout, hello).map_err(|error| cannot_connect(name, &error))?
            }
        };
        // A smaller buffer is no reason to fail.
        let _ = opened.socket.set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(opened)
    }

    /// How far away the daemon is.
    pub fn reach(&self) -> Reach {
        match self.peer {
            DaemonPeer::Inet { is_loopback: false } => Reach::Network,
            DaemonPeer::Inet { is_loopback: true } => Reach::Loopback,
            DaemonPeer::Unix { .. } => Reach::Unix,
        }
    }

    /// Waits until something arrives. Fails if that is an error, such as an ICMP message that refuses the datagram.
    fn check_refusal(&self, time: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        // It does not matter if the wait is interrupted: a later refusal is still reported.
        let _ = poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    /// Sends a datagram to the daemon.
    ///
    /// # Errors
    ///
    /// Those of send(2). [`is_full`] tells which of them are temporary.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match &self.peer {
            DaemonPeer::Inet { .. } => self.socket.send(datagram),
            DaemonPeer::Unix { daemon, .. } => self.socket.send_to(datagram, daemon),
        }
        .map(drop)
    }

    /// Sends a last datagram. Blocks for at most `timeout` while there is no room. The socket is blocking afterwards.
    ///
    /// # Errors
    ///
    /// Those of send(2).
    pub fn send_last(&self, datagram: &[u8], timeout: Duration) -> io::Result<()> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_write_timeout(Some(timeout))?;
        self.send(datagram)
    }

    /// Receives a datagram and returns its length, or `None` if it was not from the daemon and is dropped.
    ///
    /// # Errors
    ///
    /// Those of recv(2), among them [`ErrorKind::WouldBlock`].
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.peer {
            DaemonPeer::Inet { .. } => (&self.socket).read(buffer).map(Some),
            DaemonPeer::Unix { owner, .. } => {
                let (length, uid) = receive_from(&self.socket, buffer)?;
                Ok(owner.admit(uid).then_some(length))
            }
        }
    }

    /// The first sender that is not the daemon, so that its datagrams were dropped. Returned once.
    pub fn take_foreign(&mut self) -> Option<ForeignSender> {
        match &mut self.peer {
            DaemonPeer::Inet { .. } => None,
            DaemonPeer::Unix { owner, .. } => owner.take_foreign(),
        }
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Tries every address of the host until one does not refuse.
fn open_inet(host: &Host, port: u16, timeout: Duration, hello: &[u8]) -> Result<DatagramSocket, Error> {
    let mut last = None;
    for candidate in resolve(host, port)? {
        let is_loopback = candidate.ip().to_canonical().is_loopback();
        let attempt = try_inet(candidate, hello).and_then(|socket| {
            let opened = DatagramSocket { socket, peer: DaemonPeer::Inet { is_loopback } };
            opened.check_refusal(opened.reach().quiet().min(timeout))?;
            Ok(opened)
        });
        match attempt {
            Ok(opened) => return Ok(opened),
            Err(error) => last = Some(cannot_connect(&candidate, &error)),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

fn try_inet(address: SocketAddr, hello: &[u8]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.connect(&address.into())?;
    // If nothing listens on a local port in the ephemeral range, the kernel may have given this socket that very port.
    if socket.local_addr()?.as_socket() == Some(address) {
        return Err(Errno::ECONNREFUSED.into());
    }
    socket.set_nonblocking(true)?;
    socket.send(hello)?;
    Ok(socket)
}

fn open_unix(name: &UnixName, timeout: Duration, hello: &[u8]) -> io::Result<DatagramSocket> {
    let daemon = unix_address(name)?;
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // This must happen before the socket has a name: a datagram that arrived earlier would carry no credentials.
    socket.set_passcred(true)?;
    // The daemon sends to abstract names, and to paths only if the sender owns them. This name identifies the client in
    // its log and in ss(8). It is no secret: all names are in /proc/net/unix.
    let own = format!("upcall-client.{}.{:016x}", std::process::id(), fastrand::u64(..));
    socket.bind(&unix_address(&UnixName::Abstract(own.into_bytes()))?)?;
    // While the daemon's queue is full, sending blocks for at most the send timeout (unix(7)).
    socket.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    socket.send_to(hello, &daemon)?;
    socket.set_nonblocking(true)?;
    Ok(DatagramSocket { socket, peer: DaemonPeer::Unix { daemon, owner: SocketOwner::of(name) } })
}

/// Receives a datagram. Returns its length and the user id of its sender, which the kernel guarantees.
fn receive_from(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<u32>)> {
    // Room for the credentials only: file descriptors that a sender attaches do not fit, and the kernel closes them.
    let mut control = nix::cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let uid = message.cmsgs().ok().and_then(|mut messages| {
        messages.find_map(|message| match message {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.uid()),
            _ => None,
        })
    });
    Ok((message.bytes, uid))
}

/// Whether a send failed only because a queue or buffer is full, so that it may succeed a little later.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn open(url: &str) -> Result<DatagramSocket, Error> {
        DatagramSocket::open(&Address::parse_url(url, None).unwrap(), Duration::from_millis(100), b"hello")
    }

    #[test]
    fn a_missing_daemon_is_detected_immediately() {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (directory, stream) = (tempfile::tempdir().unwrap(), "stream");
        let stream = directory.path().join(stream);
        let _stream = UnixListener::bind(&stream).unwrap();
        for (url, unknown) in [
            (format!("udp://127.0.0.1:{port}"), false),
            (format!("udp://localhost:{port}"), false),
            ("udp://no-such-host.invalid:1".into(), true),
            ("unix-datagram:///nonexistent/socket".into(), false),
            ("unix-datagram://@upcalld-nothing-listens-here".into(), false),
            (format!("unix-datagram://{}", stream.display()), false),
        ] {
            let error = open(&url).unwrap_err();
            assert_eq!(matches!(error, Error::UnknownHost(_)), unknown, "{url}: {error}");
            assert_eq!(matches!(error, Error::Unreachable(_)), !unknown, "{url}: {error}");
        }
    }

    #[test]
    fn the_first_address_that_does_not_refuse_is_used() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let opened = open(&format!("udp://localhost:{}", daemon.local_addr().unwrap().port())).unwrap();
        let mut buffer = [0; 16];
        let (n, client) = daemon.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], opened.reach()), (&b"hello"[..], Reach::Loopback));
        assert_eq!(opened.socket.local_addr().unwrap().as_socket(), Some(client));
    }

    #[test]
    fn a_full_queue_times_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _daemon = UnixDatagram::bind(&path).unwrap();
        let url = format!("unix-datagram://{}", path.display());
        let error = loop {
            if let Err(error) = open(&url) {
                break error;
            }
        };
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
    }

    #[test]
    fn datagrams_of_the_daemon_are_received_from_any_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut opened = open(&format!("unix-datagram://{}", path.display())).unwrap();
        let mut buffer = [0; 16];
        let (_, client) = daemon.recv_from(&mut buffer).unwrap();
        daemon.send_to_addr(b"upcall", &client).unwrap();
        assert_eq!(opened.receive(&mut buffer).unwrap(), Some(6));
        // From a socket without a name.
        UnixDatagram::unbound().unwrap().send_to_addr(b"again", &client).unwrap();
        assert_eq!(opened.receive(&mut buffer).unwrap(), Some(5));
        assert_eq!(opened.receive(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
