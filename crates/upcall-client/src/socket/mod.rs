//! Nonblocking sockets to the daemon.
//!
//! This is a lower-level interface. [`Client`](crate::Client) opens its sockets by itself; [`stream`] and [`datagram`]
//! are public for programs that use the text protocol, or drive their own [`Machine`]. They may change between minor
//! versions.

pub mod datagram;
pub(crate) mod owner;
pub mod stream;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use upcall_wire::address::Address;

use crate::Error;
use crate::machine::{Carrier, Machine};
use datagram::{DatagramSocket, is_full};
use owner::ForeignSender;
use stream::StreamSocket;

/// The size of the read buffer, in bytes, which holds every datagram.
const BUFFER: usize = 256 << 10;

/// How many reads are made before anything else is done.
const BATCH: usize = 64;

/// How long to wait before sending again over a full datagram socket, which does not signal when it has room.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// The largest datagram of UDP over IPv4, in bytes (udp(7)).
const LARGEST_UDP: usize = 65_507;

/// The largest datagram of a Unix socket with the default buffer, in bytes (unix(7)).
const LARGEST_UNIX: usize = 128 << 10;

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a client has one of it")]
enum NativeSocket {
    Stream(StreamSocket),
    Datagram(DatagramSocket),
}

/// A socket that moves bytes between the daemon and a [`Machine`].
#[derive(Debug)]
pub(super) struct DaemonSocket {
    socket: NativeSocket,
    /// What the machine has written and the socket has not sent yet.
    out: Vec<u8>,
    /// How much of `out` is sent.
    sent: usize,
    buffer: Vec<u8>,
    /// Set while a datagram socket is full: when to send again.
    paused_until: Option<Instant>,
    /// Whether a stream is full, so that the rest of `out` waits for room.
    wants_room: bool,
}

/// What carries frames to an address.
pub(super) fn carrier(address: &Address) -> Carrier {
    match (address.transport().is_datagram(), address.transport().is_inet()) {
        (false, _) => Carrier::Stream,
        (true, true) => Carrier::Datagrams(LARGEST_UDP),
        (true, false) => Carrier::Datagrams(LARGEST_UNIX),
    }
}

impl DaemonSocket {
    /// Connects to the daemon, and begins the machine's registration. Blocks for at most about `timeout`.
    pub(super) fn open(address: &Address, timeout: Duration, machine: &mut Machine) -> Result<DaemonSocket, Error> {
        let socket = if address.transport().is_datagram() {
            let mut hello = Vec::new();
            let now = Instant::now();
            machine.connect(now);
            machine.transmit(now, &mut hello);
            match DatagramSocket::open(address, timeout, &hello) {
                Ok(socket) => NativeSocket::Datagram(socket),
                Err(error) => {
                    machine.disconnected();
                    return Err(error);
                }
            }
        } else {
            let stream = StreamSocket::open(address, timeout)?;
            machine.connect(Instant::now());
            NativeSocket::Stream(stream)
        };
        let buffer = vec![0; BUFFER];
        Ok(DaemonSocket { socket, out: Vec::new(), sent: 0, buffer, paused_until: None, wants_room: false })
    }

    /// Whether output waits for room in a stream.
    pub(super) fn wants_room(&self) -> bool {
        self.wants_room
    }

    /// The first sender that is not the daemon, so that its datagrams were dropped. Returned once.
    pub(super) fn take_foreign(&mut self) -> Option<ForeignSender> {
        match &mut self.socket {
            NativeSocket::Stream(_) => None,
            NativeSocket::Datagram(socket) => socket.take_foreign(),
        }
    }

    /// When to send again over a datagram socket that is full.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Reads what has arrived, and passes it to the machine. Returns whether there may be more. After an error, and at
    /// the end of a stream (`UnexpectedEof`), the socket cannot be used any more.
    pub(super) fn receive(&mut self, machine: &mut Machine) -> io::Result<bool> {
        for _ in 0..BATCH {
            let read = match &mut self.socket {
                NativeSocket::Stream(stream) => match stream.read(&mut self.buffer) {
                    Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                    read => read.map(Some),
                },
                NativeSocket::Datagram(socket) => socket.receive(&mut self.buffer),
            };
            match read {
                Ok(Some(length)) => machine.receive(Instant::now(), &self.buffer[..length]),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends the machine's output, as far as there is room.
    pub(super) fn send(&mut self, machine: &mut Machine) -> io::Result<()> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        self.paused_until = None;
        self.wants_room = false;
        loop {
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
                if !machine.transmit(now, &mut self.out) {
                    return Ok(());
                }
            }
            let result = match &mut self.socket {
                NativeSocket::Stream(stream) => stream.write(&self.out[self.sent..]),
                NativeSocket::Datagram(socket) => socket.send(&self.out).map(|()| self.out.len()),
            };
            match (result, &self.socket) {
                (Ok(length), _) => self.sent += length,
                (Err(error), _) if error.kind() == ErrorKind::Interrupted => {}
                (Err(error), NativeSocket::Stream(_)) if error.kind() == ErrorKind::WouldBlock => {
                    self.wants_room = true;
                    return Ok(());
                }
                (Err(error), NativeSocket::Datagram(_)) if is_full(&error) => {
                    self.paused_until = Some(now + FULL_PAUSE);
                    return Ok(());
                }
                // Too large for the socket. It counts as lost on the way: the machine repeats it, or gives up.
                (Err(error), NativeSocket::Datagram(_)) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                    self.sent = self.out.len();
                }
                (Err(error), _) => return Err(error),
            }
        }
    }
}

impl AsFd for DaemonSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            NativeSocket::Stream(stream) => stream.as_fd(),
            NativeSocket::Datagram(socket) => socket.as_fd(),
        }
    }
}
