//! A socket to the daemon: nonblocking, with the bytes that wait to be sent through it.

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
use owner::Foreign;
use stream::StreamSocket;

/// Read at a time: as much of a stream, and room for any datagram.
const BUFFER: usize = 256 << 10;

/// How often is read before anything else is done.
const BATCH: usize = 64;

/// How long a full datagram socket gets until it is tried again: none says when it has room.
const PAUSE: Duration = Duration::from_millis(2);

/// The largest datagram of UDP over IPv4 (udp(7)), and of a Unix socket with the usual buffer (unix(7)).
const LARGEST_UDP: usize = 65_507;
const LARGEST_UNIX: usize = 128 << 10;

#[derive(Debug)]
enum Kind {
    Stream(StreamSocket),
    Datagram(DatagramSocket),
}

/// A socket, and what is on its way out.
#[derive(Debug)]
pub(super) struct Socket {
    kind: Kind,
    out: Vec<u8>,
    /// This much of it is gone.
    gone: usize,
    buffer: Vec<u8>,
    /// Until when it is pointless to send a datagram.
    paused_until: Option<Instant>,
    wants_room: bool,
}

/// What carries frames to this address.
pub(super) fn carrier(address: &Address) -> Carrier {
    match (address.transport().is_datagram(), address.transport().is_inet()) {
        (false, _) => Carrier::Stream,
        (true, true) => Carrier::Datagrams(LARGEST_UDP),
        (true, false) => Carrier::Datagrams(LARGEST_UNIX),
    }
}

impl Socket {
    /// Makes a way to the daemon, and has the machine register over it.
    pub(super) fn open(address: &Address, timeout: Duration, machine: &mut Machine) -> Result<Socket, Error> {
        let kind = if address.transport().is_datagram() {
            let mut hello = Vec::new();
            let now = Instant::now();
            machine.connect(now);
            machine.transmit(now, &mut hello);
            match DatagramSocket::open(address, timeout, &hello) {
                Ok(mailbox) => Kind::Datagram(mailbox),
                Err(error) => {
                    machine.disconnected();
                    return Err(error);
                }
            }
        } else {
            let connection = StreamSocket::open(address, timeout)?;
            machine.connect(Instant::now());
            Kind::Stream(connection)
        };
        let buffer = vec![0; BUFFER];
        Ok(Socket { kind, out: Vec::new(), gone: 0, buffer, paused_until: None, wants_room: false })
    }

    /// Whether something waits for room in a stream.
    pub(super) fn wants_room(&self) -> bool {
        self.wants_room
    }

    /// The first sender whose datagrams were dropped because it is not the daemon, once.
    pub(super) fn take_foreign(&mut self) -> Option<Foreign> {
        match &mut self.kind {
            Kind::Stream(_) => None,
            Kind::Datagram(socket) => socket.take_foreign(),
        }
    }

    /// When to send again what a full datagram socket did not take.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Hands the machine what has come. Says whether there may be more; an error is the end.
    pub(super) fn receive(&mut self, machine: &mut Machine) -> io::Result<bool> {
        for _ in 0..BATCH {
            let read = match &mut self.kind {
                Kind::Stream(connection) => match connection.read(&mut self.buffer) {
                    Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                    read => read.map(Some),
                },
                Kind::Datagram(mailbox) => mailbox.receive(&mut self.buffer),
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

    /// Sends what the machine wants to be sent, as far as there is room.
    pub(super) fn send(&mut self, machine: &mut Machine) -> io::Result<()> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        self.paused_until = None;
        self.wants_room = false;
        loop {
            if self.gone == self.out.len() {
                self.out.clear();
                self.gone = 0;
                if !machine.transmit(now, &mut self.out) {
                    return Ok(());
                }
            }
            let sent = match &mut self.kind {
                Kind::Stream(connection) => connection.write(&self.out[self.gone..]),
                Kind::Datagram(mailbox) => mailbox.send(&self.out).map(|()| self.out.len()),
            };
            match (sent, &self.kind) {
                (Ok(length), _) => self.gone += length,
                (Err(error), _) if error.kind() == ErrorKind::Interrupted => {}
                (Err(error), Kind::Stream(_)) if error.kind() == ErrorKind::WouldBlock => {
                    self.wants_room = true;
                    return Ok(());
                }
                (Err(error), Kind::Datagram(_)) if is_full(&error) => {
                    self.paused_until = Some(now + PAUSE);
                    return Ok(());
                }
                // It is lost, as it might be on the way: whoever waits for an answer says it again, or gives up.
                (Err(error), Kind::Datagram(_)) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                    self.gone = self.out.len();
                }
                (Err(error), _) => return Err(error),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Stream(connection) => connection.as_fd(),
            Kind::Datagram(mailbox) => mailbox.as_fd(),
        }
    }
}
