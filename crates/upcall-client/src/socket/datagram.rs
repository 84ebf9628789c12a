//! A datagram socket that talks to one daemon: found, asked whether anybody is there, nonblocking from then on.
//!
//! Hands on what the daemon sent and nobody else. Knows nothing of what it says.

use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use upcall_wire::address::{Address, Host, UnixName};

use super::owner::{Foreign, Owner};
use super::stream::{cannot_connect, no_address, resolve, unix_address};
use crate::Error;

/// Asked of the kernel for what has come and was not read yet, in bytes; it gives less where less is allowed.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How far away the daemon is, which is how long to wait for what it may have to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A Unix socket: nothing gets lost or overtaken, and a full queue is felt.
    Unix,
    /// UDP on this machine; behind a forwarded port the daemon may still see a stranger.
    Loopback,
    /// UDP to another machine.
    Network,
}

impl Reach {
    /// How long nothing must come before it is taken that nothing will: a challenge, a refusal.
    pub fn quiet(self) -> Duration {
        Duration::from_millis(match self {
            Reach::Unix => 0,
            Reach::Loopback => 50,
            Reach::Network => 200,
        })
    }

    /// How long a datagram may be overtaken by the next.
    pub fn disorder(self) -> Duration {
        Duration::from_millis(if self == Reach::Network { 50 } else { 0 })
    }
}

/// A socket of our own, and the daemon's address.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Connected: the kernel drops what strangers send, and tells when nobody is there.
    Inet { loopback: bool },
    /// Not connected: when we are slow, the daemon goes on sending from a socket without a name, and the kernel would
    /// drop what comes from that one.
    Unix { daemon: SockAddr, owner: Owner },
}

impl DatagramSocket {
    /// Sends `hello`, and waits until something comes or there has been quiet. Fails where nobody is there.
    pub fn open(address: &Address, timeout: Duration, hello: &[u8]) -> Result<DatagramSocket, Error> {
        let mailbox = match address {
            Address::Inet { host, port, .. } => open_inet(host, *port, timeout, hello)?,
            Address::Unix { name, .. } => {
                open_unix(name, timeout, hello).map_err(|error| cannot_connect(name, &error))?
            }
        };
        // Less room is no reason to give up.
        let _ = mailbox.socket.set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(mailbox)
    }

    /// How far away the daemon is.
    pub fn reach(&self) -> Reach {
        match self.kind {
            Kind::Inet { loopback: false } => Reach::Network,
            Kind::Inet { loopback: true } => Reach::Loopback,
            Kind::Unix { .. } => Reach::Unix,
        }
    }

    /// Waits until something comes; fails where it was a refusal.
    fn await_refusal(&self, time: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        // A wait cut short will do: a refusal that comes later is still noticed.
        let _ = poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    /// Sends a datagram to the daemon, whole or not at all.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match &self.kind {
            Kind::Inet { .. } => self.socket.send(datagram),
            Kind::Unix { daemon, .. } => self.socket.send_to(datagram, daemon),
        }
        .map(drop)
    }

    /// Sends a last datagram, and waits where there is no room yet, as behind many others.
    pub fn send_last(&self, datagram: &[u8], timeout: Duration) -> io::Result<()> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_write_timeout(Some(timeout))?;
        self.send(datagram)
    }

    /// Receives a datagram; none where it was not the daemon's.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.kind {
            Kind::Inet { .. } => (&self.socket).read(buffer).map(Some),
            Kind::Unix { owner, .. } => {
                let (length, uid) = receive_from(&self.socket, buffer)?;
                Ok(owner.admit(uid).then_some(length))
            }
        }
    }

    /// The first sender whose datagrams were dropped because it is not the daemon, once.
    pub fn take_foreign(&mut self) -> Option<Foreign> {
        match &mut self.kind {
            Kind::Inet { .. } => None,
            Kind::Unix { owner, .. } => owner.take_foreign(),
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
        let loopback = candidate.ip().to_canonical().is_loopback();
        let attempt = try_inet(candidate, hello).and_then(|socket| {
            let mailbox = DatagramSocket { socket, kind: Kind::Inet { loopback } };
            mailbox.await_refusal(mailbox.reach().quiet().min(timeout))?;
            Ok(mailbox)
        });
        match attempt {
            Ok(mailbox) => return Ok(mailbox),
            Err(error) => last = Some(cannot_connect(&candidate, &error)),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

fn try_inet(address: SocketAddr, hello: &[u8]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.connect(&address.into())?;
    // Where nobody listens on a local port that the kernel also hands out, we may have been given that one.
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
    // Before anybody can send to us: what has come earlier would say nothing about its sender.
    socket.set_passcred(true)?;
    // The daemon writes to abstract names, and to paths only of those who own them; this one tells in its log and in
    // ss(8) who we are. It is no secret: all names are in /proc/net/unix.
    let own = format!("upcall-client.{}.{:016x}", std::process::id(), fastrand::u64(..));
    socket.bind(&unix_address(&UnixName::Abstract(own.into_bytes()))?)?;
    // While the daemon's queue is full, sending blocks for as long as it may (unix(7)).
    socket.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    socket.send_to(hello, &daemon)?;
    socket.set_nonblocking(true)?;
    Ok(DatagramSocket { socket, kind: Kind::Unix { daemon, owner: Owner::of(name) } })
}

/// A datagram's length and the user whose process sent it, as the kernel vouches for it.
fn receive_from(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<u32>)> {
    // Just enough: descriptors that somebody sends along find no room, and are closed by the kernel.
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

/// Whether a send may succeed a little later.
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
    fn nobody_there_is_noticed_at_once() {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (directory, stream) = (tempfile::tempdir().unwrap(), "stream");
        let stream = directory.path().join(stream);
        let _stream = UnixListener::bind(&stream).unwrap();
        for (url, unknown) in [
            (format!("udp://127.0.0.1:{port}"), false),
            (format!("udp://localhost:{port}"), false),
            ("udp://no-such-host.invalid:1".into(), true),
            ("unix-datagram:///nonexistent/socket".into(), false),
            ("unix-datagram://@upcalld-nobody-listens-here".into(), false),
            (format!("unix-datagram://{}", stream.display()), false),
        ] {
            let error = open(&url).unwrap_err();
            assert_eq!(matches!(error, Error::UnknownHost(_)), unknown, "{url}: {error}");
            assert_eq!(matches!(error, Error::Unreachable(_)), !unknown, "{url}: {error}");
        }
    }

    #[test]
    fn of_several_addresses_one_that_does_not_refuse_is_taken() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mailbox = open(&format!("udp://localhost:{}", daemon.local_addr().unwrap().port())).unwrap();
        let mut buffer = [0; 16];
        let (n, client) = daemon.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], mailbox.reach()), (&b"hello"[..], Reach::Loopback));
        assert_eq!(mailbox.socket.local_addr().unwrap().as_socket(), Some(client));
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
    fn the_sender_is_known_and_descriptors_are_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut mailbox = open(&format!("unix-datagram://{}", path.display())).unwrap();
        let mut buffer = [0; 16];
        let (_, client) = daemon.recv_from(&mut buffer).unwrap();
        daemon.send_to_addr(b"upcall", &client).unwrap();
        assert_eq!(mailbox.receive(&mut buffer).unwrap(), Some(6));
        // From a socket that has no name.
        UnixDatagram::unbound().unwrap().send_to_addr(b"again", &client).unwrap();
        assert_eq!(mailbox.receive(&mut buffer).unwrap(), Some(5));
        assert_eq!(mailbox.receive(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
