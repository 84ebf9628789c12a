//! Daemons that a test plays itself: a thread and a script. No fixed ports, no sleeps.

pub(crate) mod datagram;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use socket2::Socket;

use super::{DEADLINE, retry};

/// What the daemon puts in front of an input in its default format.
pub(crate) const EVENT: &str = "Upcall event: Processing ";

/// A listening socket on which every connection runs a script.
pub(crate) struct ScriptedDaemon {
    pub(crate) url: String,
    /// What each script returns: as a rule, everything that it has received.
    pub(crate) received: Receiver<Vec<u8>>,
}

impl ScriptedDaemon {
    pub(crate) fn tcp(script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static) -> ScriptedDaemon {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        ScriptedDaemon::serve(url, Socket::from(listener), script)
    }

    pub(crate) fn unix(path: &Path, script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static) -> ScriptedDaemon {
        let listener = UnixListener::bind(path).unwrap();
        ScriptedDaemon::serve(format!("unix://{}", path.display()), Socket::from(listener), script)
    }

    pub(crate) fn abstract_name(
        name: &str,
        script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static,
    ) -> ScriptedDaemon {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        ScriptedDaemon::serve(format!("unix://@{name}"), Socket::from(listener), script)
    }

    /// The same script on every stream transport.
    pub(crate) fn everywhere(
        directory: &Path,
        script: impl Fn(Socket) -> Vec<u8> + Send + Sync + Clone + 'static,
    ) -> [ScriptedDaemon; 3] {
        let name = format!("upcall-client-test-{}-{}", std::process::id(), fastrand::u64(..));
        [
            ScriptedDaemon::tcp(script.clone()),
            ScriptedDaemon::unix(&directory.join("socket"), script.clone()),
            ScriptedDaemon::abstract_name(&name, script),
        ]
    }

    fn serve(
        url: String,
        listener: Socket,
        script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static,
    ) -> ScriptedDaemon {
        let (report, received) = mpsc::channel();
        thread::spawn(move || {
            // Ends when the test has dropped the daemon.
            while let Ok((socket, _)) = retry(|| listener.accept()) {
                if report.send(script(socket)).is_err() {
                    break;
                }
            }
        });
        ScriptedDaemon { url, received }
    }

    /// What the next script returns.
    pub(crate) fn next_received(&self) -> String {
        String::from_utf8_lossy(&self.received.recv_timeout(DEADLINE).unwrap()).into_owned()
    }
}

/// A script that answers every line with an upcall, until end of file.
pub(crate) fn echo(socket: Socket) -> Vec<u8> {
    let mut received = Vec::new();
    let mut reader = BufReader::new(&socket);
    loop {
        let start = received.len();
        match reader.read_until(b'\n', &mut received) {
            Ok(0) | Err(_) => return received,
            Ok(_) => {
                let answer = [EVENT.as_bytes(), &received[start..]].concat();
                if (&socket).write_all(&answer).is_err() {
                    return received;
                }
            }
        }
    }
}

/// A script that sends this text, and closes its side.
pub(crate) fn send_and_close(text: &'static str) -> impl Fn(Socket) -> Vec<u8> + Clone {
    move |socket: Socket| {
        let _ = (&socket).write_all(text.as_bytes());
        let _ = socket.shutdown(std::net::Shutdown::Write);
        read_to_end(&socket)
    }
}

/// A script that sends this text, and stays until the client has closed.
pub(crate) fn send_and_stay(text: &'static str) -> impl Fn(Socket) -> Vec<u8> + Clone {
    move |socket: Socket| {
        let _ = (&socket).write_all(text.as_bytes());
        read_to_end(&socket)
    }
}

/// Everything up to end of file, or until the connection breaks.
pub(crate) fn read_to_end(socket: &Socket) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = { socket }.read_to_end(&mut received);
    received
}
