//! A daemon that a test plays over datagrams, one at a time.

use std::net::{self, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram};
use std::path::Path;

use crate::support::client::{DEADLINE, EVENT};

/// A bound socket.
pub(crate) struct Puppet {
    pub(crate) url: String,
    socket: Socket,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// Who sent something.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    Udp(net::SocketAddr),
    Unix(unix::SocketAddr),
}

impl Puppet {
    pub(crate) fn udp() -> Puppet {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        // A test that is not scheduled for a while must not lose anything.
        socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20).unwrap();
        Puppet { url: format!("udp://{}", socket.local_addr().unwrap()), socket: Socket::Udp(socket) }
    }

    pub(crate) fn unix(path: &Path) -> Puppet {
        let address = unix::SocketAddr::from_pathname(path).unwrap();
        Puppet::bind(&address, format!("unix-datagram://{}", path.display()))
    }

    pub(crate) fn abstract_name() -> Puppet {
        let name = format!("upcall-client-test-{}-{}", std::process::id(), fastrand::u64(..));
        let address = unix::SocketAddr::from_abstract_name(&name).unwrap();
        Puppet::bind(&address, format!("unix-datagram://@{name}"))
    }

    fn bind(address: &unix::SocketAddr, url: String) -> Puppet {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Puppet { url, socket: Socket::Unix(socket) }
    }

    /// One for each transport.
    pub(crate) fn everywhere(directory: &Path) -> [Puppet; 3] {
        [Puppet::udp(), Puppet::unix(&directory.join("datagrams")), Puppet::abstract_name()]
    }

    /// The next datagram, whatever it is.
    pub(crate) fn receive(&self) -> (String, Peer) {
        let mut buffer = vec![0; 1 << 16];
        let (length, peer) = match &self.socket {
            Socket::Udp(socket) => socket.recv_from(&mut buffer).map(|(length, peer)| (length, Peer::Udp(peer))),
            Socket::Unix(socket) => socket.recv_from(&mut buffer).map(|(length, peer)| (length, Peer::Unix(peer))),
        }
        .unwrap();
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), peer)
    }

    /// Waits until somebody asks to be registered.
    pub(crate) fn joined(&self) -> Peer {
        let (text, peer) = self.receive();
        assert!(is_join(&text), "{text:?}");
        peer
    }

    /// The next datagram that is more than a wish to be, or stay, registered.
    pub(crate) fn hear(&self) -> String {
        loop {
            let (text, _) = self.receive();
            if !is_join(&text) {
                return text;
            }
        }
    }

    pub(crate) fn say(&self, peer: &Peer, text: impl AsRef<[u8]>) {
        match (&self.socket, peer) {
            (Socket::Udp(socket), Peer::Udp(peer)) => socket.send_to(text.as_ref(), peer).unwrap(),
            (Socket::Unix(socket), Peer::Unix(peer)) => socket.send_to_addr(text.as_ref(), peer).unwrap(),
            _ => panic!("{peer:?} is on another transport"),
        };
    }

    /// Answers every input by an upcall, until somebody leaves; returns the inputs.
    pub(crate) fn echo(&self) -> Vec<String> {
        let mut inputs = Vec::new();
        loop {
            match self.receive() {
                (text, _) if text == "bye\n" => return inputs,
                (text, _) if is_join(&text) => {}
                (text, peer) => {
                    self.say(&peer, format!("{EVENT}{text}"));
                    inputs.push(text);
                }
            }
        }
    }
}

fn is_join(text: &str) -> bool {
    text.trim_ascii() == "join"
}
