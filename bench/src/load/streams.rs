//! The load over TCP and Unix stream sockets, for every protocol that has a driver.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{setsockopt, sockopt};

use super::tracker::DeliveryTracker;
use super::{LoadClients, invalid_data};
use crate::drivers::{ClientRole, Decoded, ProtocolDriver};
use crate::sys::{ReadyEvent, epoll_wait};

/// Where a server accepts connections.
#[derive(Debug, Clone)]
pub(crate) enum StreamAddress {
    /// On TCP.
    Tcp(SocketAddr),
    /// On a Unix socket at this path.
    Unix(PathBuf),
}

/// The publisher and the receivers.
pub(crate) struct Streams {
    driver: Box<dyn ProtocolDriver>,
    /// The receivers, and the publisher at the end. If the server echoes, the publisher is a receiver, too.
    connections: Vec<LoadConnection>,
    epoll: Epoll,
    buffer: Vec<u8>,
    events: Vec<ReadyEvent>,
    /// Encoded, but not written yet.
    unsent: Vec<u8>,
}

struct LoadConnection {
    file: File,
    /// The beginning of something that is not complete yet.
    rest: Vec<u8>,
}

impl Streams {
    /// Connects clients, so that each message has this number of deliveries.
    pub(crate) fn connect(
        address: &StreamAddress,
        driver: Box<dyn ProtocolDriver>,
        deliveries: usize,
    ) -> io::Result<Streams> {
        let receivers_only = if driver.echoes() { deliveries - 1 } else { deliveries };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..=receivers_only {
            if index % driver.connect_burst() == driver.connect_burst() - 1 {
                sleep(Duration::from_millis(1));
            }
            let mut file = open(address)?;
            let role = if index == receivers_only { ClientRole::Publisher } else { ClientRole::Receiver };
            driver.register(&mut file, role, index)?;
            fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            epoll.add(&file, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            connections.push(LoadConnection { file, rest: Vec::new() });
        }
        let (buffer, events) = (vec![0; 256 * 1024], vec![ReadyEvent::NONE; 1024]);
        Ok(Streams { driver, connections, epoll, buffer, events, unsent: Vec::new() })
    }

    fn write(&mut self) -> io::Result<()> {
        let publisher = self.connections.len() - 1;
        let file = &mut self.connections[publisher].file;
        let mut done = 0;
        while done < self.unsent.len() {
            match file.write(&self.unsent[done..]) {
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let was_blocked = !self.unsent.is_empty() && done == 0;
        self.unsent.drain(..done);
        let mut wanted = EpollFlags::EPOLLIN;
        wanted.set(EpollFlags::EPOLLOUT, !self.unsent.is_empty());
        if was_blocked || !self.unsent.is_empty() {
            self.epoll.modify(&*file, &mut EpollEvent::new(wanted, publisher as u64))?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, tracker: &mut DeliveryTracker) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let held = connection.rest.len();
        self.buffer[..held].copy_from_slice(&connection.rest);
        connection.rest.clear();
        let length = match connection.file.read(&mut self.buffer[held..]) {
            Ok(0) => {
                let rest = self.buffer[..held].escape_ascii();
                return Err(invalid_data(format!("the server has closed connection {index}, after \"{rest}\"")));
            }
            Ok(length) => held + length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => held,
            Err(error) => return Err(error),
        };
        let mut done = 0;
        while done < length {
            match self.driver.decode(&self.buffer[done..length]) {
                Decoded::Partial => break,
                Decoded::Message { payload, used } => {
                    tracker.received(index, payload).map_err(invalid_data)?;
                    done += used;
                }
                Decoded::Other { used, reply } => {
                    connection.file.write_all(reply)?;
                    done += used;
                }
                Decoded::Unexpected(what) => return Err(invalid_data(format!("connection {index}: {what}"))),
            }
        }
        connection.rest.extend_from_slice(&self.buffer[done..length]);
        Ok(())
    }
}

impl LoadClients for Streams {
    fn receivers(&self) -> usize {
        self.connections.len() - usize::from(!self.driver.echoes())
    }

    fn publish(&mut self, count: u32, tracker: &mut DeliveryTracker) -> io::Result<()> {
        for _ in 0..count {
            self.driver.encode(&tracker.send(), &mut self.unsent);
        }
        self.write()
    }

    fn turn(&mut self, timeout: Duration, tracker: &mut DeliveryTracker) -> io::Result<()> {
        let count = epoll_wait(self.epoll.0.as_fd(), &mut self.events, Some(timeout))?;
        for i in 0..count {
            self.read(self.events[i].token() as usize, tracker)?;
        }
        if self.unsent.is_empty() { Ok(()) } else { self.write() }
    }
}

fn open(address: &StreamAddress) -> io::Result<File> {
    let timeout = Some(Duration::from_secs(10));
    match address {
        StreamAddress::Tcp(address) => {
            let connection = TcpStream::connect(address)?;
            connection.set_nodelay(true)?;
            connection.set_read_timeout(timeout)?;
            // Close with a reset: tens of thousands of connections in TIME_WAIT would use up the ports.
            setsockopt(&connection, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
            Ok(std::os::fd::OwnedFd::from(connection).into())
        }
        StreamAddress::Unix(path) => {
            let connection = UnixStream::connect(path)?;
            connection.set_read_timeout(timeout)?;
            Ok(std::os::fd::OwnedFd::from(connection).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::drivers::text::TextDriver;
    use crate::load::LoadRun;
    use crate::process::MeasuredProcess;

    /// The deliveries of a run, or its error, where the server applies `spoil` to the tenth message.
    fn run_with(spoil: fn(&[u8]) -> Vec<u8>) -> io::Result<u64> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut message = [0; crate::message::LENGTH];
            for number in 0.. {
                if connection.read_exact(&mut message).is_err() {
                    break;
                }
                let answer = if number == 9 { spoil(&message) } else { message.to_vec() };
                if connection.write_all(&answer).is_err() {
                    break;
                }
            }
        });
        let address = StreamAddress::Unix(path);
        let mut clients = Streams::connect(&address, Box::new(TextDriver::ECHOES), 1).unwrap();
        let run = LoadRun::new(&mut clients, MeasuredProcess::current());
        let sample = run.and_then(|mut run| run.fan_out(64, Duration::ZERO, Duration::from_millis(50)));
        drop(clients);
        server.join().unwrap();
        sample.map(|sample| sample.deliveries)
    }

    #[test]
    fn a_correct_server_passes() {
        assert!(run_with(<[u8]>::to_vec).unwrap() > 0);
    }

    #[test]
    fn a_lost_doubled_or_changed_message_is_an_error() {
        let lost = run_with(|_| Vec::new()).unwrap_err().to_string();
        assert_eq!(lost, "receiver 0: received message 10 where 9 was next");
        let doubled = run_with(|message| [message, message].concat()).unwrap_err().to_string();
        assert_eq!(doubled, "receiver 0: message 9 was received twice");
        let changed = run_with(|message| message.to_ascii_uppercase()).unwrap_err().to_string();
        assert!(changed.starts_with("receiver 0: received \""), "{changed}");
    }
}
