//! A scripted daemon for datagrams, which the test drives one datagram at a time.

use std::net::{self, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram};
use std::path::Path;

use super::EVENT;
use crate::support::{DEADLINE, retry};

/// A bound socket.
pub(crate) struct ScriptedDatagrams {
    pub(crate) url: String,
    socket: Socket,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// The sender of a datagram.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    Udp(net::SocketAddr),
    Unix(unix::SocketAddr),
}

impl ScriptedDatagrams {
    pub(crate) fn udp() -> ScriptedDatagrams {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        // A test that is not scheduled for a while must not lose anything.
        socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20).unwrap();
        ScriptedDatagrams { url: format!("udp://{}", socket.local_addr().unwrap()), socket: Socket::Udp(socket) }
    }

    pub(crate) fn unix(path: &Path) -> ScriptedDatagrams {
        let address = unix::SocketAddr::from_pathname(path).unwrap();
        ScriptedDatagrams::bind(&address, format!("unix-datagram://{}", path.display()))
    }

    pub(crate) fn abstract_name() -> ScriptedDatagrams {
        let name = format!("upcall-client-test-{}-{}", std::process::id(), fastrand::u64(..));
        let address = unix::SocketAddr::from_abstract_name(&name).unwrap();
        ScriptedDatagrams::bind(&address, format!("unix-datagram://@{name}"))
    }

    fn bind(address: &unix::SocketAddr, url: String) -> ScriptedDatagrams {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        ScriptedDatagrams { url, socket: Socket::Unix(socket) }
    }

    /// One for each transport.
    pub(crate) fn everywhere(directory: &Path) -> [ScriptedDatagrams; 3] {
        [
            ScriptedDatagrams::udp(),
            ScriptedDatagrams::unix(&directory.join("datagrams")),
            ScriptedDatagrams::abstract_name(),
        ]
    }

    /// The next datagram, whatever it is.
    pub(crate) fn receive(&self) -> (String, Peer) {
        let mut buffer = vec![0; 1 << 16];
        let (length, peer) = match &self.socket {
            Socket::Udp(socket) => {
                retry(|| socket.recv_from(&mut buffer)).map(|(length, peer)| (length, Peer::Udp(peer)))
            }
            Socket::Unix(socket) => {
                retry(|| socket.recv_from(&mut buffer)).map(|(length, peer)| (length, Peer::Unix(peer)))
            }
        }
        .unwrap();
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), peer)
    }

    /// Waits until a client asks to be registered.
    pub(crate) fn joined(&self) -> Peer {
        let (text, peer) = self.receive();
        assert!(is_join(&text), "{text:?}");
        peer
    }

    /// The next datagram that is not a `join`.
    pub(crate) fn receive_input(&self) -> String {
        loop {
            let (text, _) = self.receive();
            if !is_join(&text) {
                return text;
            }
        }
    }

    pub(crate) fn send(&self, peer: &Peer, text: impl AsRef<[u8]>) {
        match (&self.socket, peer) {
            (Socket::Udp(socket), Peer::Udp(peer)) => socket.send_to(text.as_ref(), peer).unwrap(),
            (Socket::Unix(socket), Peer::Unix(peer)) => socket.send_to_addr(text.as_ref(), peer).unwrap(),
            _ => panic!("{peer:?} is on another transport"),
        };
    }

    /// Answers every input with an upcall, until a client leaves; returns the inputs.
    pub(crate) fn echo(&self) -> Vec<String> {
        let mut inputs = Vec::new();
        loop {
            match self.receive() {
                (text, _) if text == "bye\n" => return inputs,
                (text, _) if is_join(&text) => {}
                (text, peer) => {
                    self.send(&peer, format!("{EVENT}{text}"));
                    inputs.push(text);
                }
            }
        }
    }
}

fn is_join(text: &str) -> bool {
    text.trim_ascii() == "join"
}
