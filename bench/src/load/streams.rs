//! The load over TCP and Unix stream sockets, for whatever protocol a driver speaks.

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

use super::tracker::Progress;
use super::{Swarm, wrong};
use crate::drivers::{Driver, Part, Step};
use crate::sys::{Ready, epoll_wait};

/// Where a server takes connections.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Over TCP.
    Tcp(SocketAddr),
    /// At the path of a Unix socket.
    Unix(PathBuf),
}

/// The publisher, and those who only receive.
pub(crate) struct Streams {
    driver: Box<dyn Driver>,
    /// The receivers; the publisher behind them, which is one of them where the server echoes.
    connections: Vec<Connection>,
    epoll: Epoll,
    buffer: Vec<u8>,
    events: Vec<Ready>,
    /// Encoded, but not written yet.
    unsent: Vec<u8>,
}

struct Connection {
    file: File,
    /// The beginning of something that is not complete yet.
    rest: Vec<u8>,
}

impl Streams {
    /// Connects so many that each message is delivered `deliveries` times.
    pub(crate) fn connect(place: &Place, driver: Box<dyn Driver>, deliveries: usize) -> io::Result<Streams> {
        let silent = if driver.echoes() { deliveries - 1 } else { deliveries };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..=silent {
            if index % driver.at_once() == driver.at_once() - 1 {
                sleep(Duration::from_millis(1));
            }
            let mut file = open(place)?;
            let part = if index == silent { Part::Publisher } else { Part::Receiver };
            driver.join(&mut file, part, index)?;
            fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            epoll.add(&file, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            connections.push(Connection { file, rest: Vec::new() });
        }
        let (buffer, events) = (vec![0; 256 * 1024], vec![Ready::NONE; 1024]);
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
        let waited = !self.unsent.is_empty() && done == 0;
        self.unsent.drain(..done);
        let mut wanted = EpollFlags::EPOLLIN;
        wanted.set(EpollFlags::EPOLLOUT, !self.unsent.is_empty());
        if waited || !self.unsent.is_empty() {
            self.epoll.modify(&*file, &mut EpollEvent::new(wanted, publisher as u64))?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, progress: &mut Progress) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let held = connection.rest.len();
        self.buffer[..held].copy_from_slice(&connection.rest);
        connection.rest.clear();
        let length = match connection.file.read(&mut self.buffer[held..]) {
            Ok(0) => {
                let said = self.buffer[..held].escape_ascii();
                return Err(wrong(format!("the server has closed connection {index}, saying \"{said}\"")));
            }
            Ok(length) => held + length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => held,
            Err(error) => return Err(error),
        };
        let mut done = 0;
        while done < length {
            match self.driver.decode(&self.buffer[done..length]) {
                Step::Partial => break,
                Step::Message { payload, used } => {
                    progress.arrived(index, payload).map_err(wrong)?;
                    done += used;
                }
                Step::Other { used, reply } => {
                    connection.file.write_all(reply)?;
                    done += used;
                }
                Step::Broken(what) => return Err(wrong(format!("connection {index}: {what}"))),
            }
        }
        connection.rest.extend_from_slice(&self.buffer[done..length]);
        Ok(())
    }
}

impl Swarm for Streams {
    fn receivers(&self) -> usize {
        self.connections.len() - usize::from(!self.driver.echoes())
    }

    fn publish(&mut self, count: u32, progress: &mut Progress) -> io::Result<()> {
        for _ in 0..count {
            self.driver.encode(&progress.send(), &mut self.unsent);
        }
        self.write()
    }

    fn turn(&mut self, timeout: Duration, progress: &mut Progress) -> io::Result<()> {
        let count = epoll_wait(self.epoll.0.as_fd(), &mut self.events, Some(timeout))?;
        for i in 0..count {
            self.read(self.events[i].token() as usize, progress)?;
        }
        if self.unsent.is_empty() { Ok(()) } else { self.write() }
    }
}

fn open(place: &Place) -> io::Result<File> {
    let patience = Some(Duration::from_secs(10));
    match place {
        Place::Tcp(address) => {
            let connection = TcpStream::connect(address)?;
            connection.set_nodelay(true)?;
            connection.set_read_timeout(patience)?;
            // Closed by a reset: tens of thousands of connections that wait to be forgotten would use up the ports.
            setsockopt(&connection, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
            Ok(std::os::fd::OwnedFd::from(connection).into())
        }
        Place::Unix(path) => {
            let connection = UnixStream::connect(path)?;
            connection.set_read_timeout(patience)?;
            Ok(std::os::fd::OwnedFd::from(connection).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::drivers::text::Text;
    use crate::load::Run;
    use crate::process::Process;

    /// What a run says when a server does that to the bytes of one message, the tenth.
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
        let place = Place::Unix(path);
        let mut swarm = Streams::connect(&place, Box::new(Text::ECHOES), 1).unwrap();
        let run = Run::new(&mut swarm, Process::ours());
        let sample = run.and_then(|mut run| run.fan_out(64, Duration::ZERO, Duration::from_millis(50)));
        drop(swarm);
        server.join().unwrap();
        sample.map(|sample| sample.deliveries)
    }

    #[test]
    fn an_honest_server_is_believed() {
        assert!(run_with(<[u8]>::to_vec).unwrap() > 0);
    }

    #[test]
    fn a_message_that_is_lost_doubled_or_changed_is_an_error() {
        let lost = run_with(|_| Vec::new()).unwrap_err().to_string();
        assert_eq!(lost, "receiver 0: message 10 came where 9 was next");
        let doubled = run_with(|message| [message, message].concat()).unwrap_err().to_string();
        assert_eq!(doubled, "receiver 0: message 9 came twice");
        let changed = run_with(|message| message.to_ascii_uppercase()).unwrap_err().to_string();
        assert!(changed.starts_with("receiver 0: where message 9 was next came"), "{changed}");
    }
}
