//! The load in text over datagrams, for upcalld and the floor: a datagram is a message, both ways.

use std::io;
use std::time::Duration;

use super::datagrams::{Place, Socket, Watch};
use super::tracker::Progress;
use super::{Swarm, wrong};
use crate::floor::datagram::JOIN;
use crate::message::Message;
use crate::sys::{BATCH, Inbox};

/// Receivers, the last of which is the publisher.
pub(crate) struct TextDatagrams {
    window: u32,
    sockets: Vec<Socket>,
    watch: Watch,
    inbox: Inbox,
}

impl TextDatagrams {
    /// Registers so many that each message is delivered `deliveries` times.
    pub(crate) fn join(place: &Place, deliveries: usize) -> io::Result<TextDatagrams> {
        let mut watch = Watch::new()?;
        let mut sockets = Vec::new();
        for index in 0..deliveries {
            let mut socket = Socket::open(place, index)?;
            watch.add(&socket, index)?;
            socket.send(&[JOIN])?;
            sockets.push(socket);
            if index % BATCH == BATCH - 1 {
                // More than the server's buffer holds would be dropped.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(TextDatagrams { window: place.window(), sockets, watch, inbox: Inbox::new(2048) })
    }
}

impl Swarm for TextDatagrams {
    fn receivers(&self) -> usize {
        self.sockets.len()
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn publish(&mut self, count: u32, progress: &mut Progress) -> io::Result<()> {
        let Some(publisher) = self.sockets.last_mut() else { return Ok(()) };
        let messages: Vec<Message> = (0..count).map(|_| progress.send()).collect();
        let datagrams: Vec<&[u8]> = messages.iter().map(|message| &message[..]).collect();
        publisher.send(&datagrams)
    }

    fn turn(&mut self, timeout: Duration, progress: &mut Progress) -> io::Result<()> {
        for event in 0..self.watch.wait(timeout)? {
            let index = self.watch.index(event);
            let count = self.sockets[index].receive(&mut self.inbox)?;
            for i in 0..count {
                progress.arrived(index, self.inbox.datagram(i)).map_err(wrong)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;
    use crate::load::Run;
    use crate::process::Process;

    #[test]
    fn a_datagram_that_is_lost_is_an_error() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = Place::Udp(server.local_addr().unwrap());
        server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let server = thread::spawn(move || {
            let mut bytes = [0; 100];
            let mut number = 0;
            while let Ok((length, from)) = server.recv_from(&mut bytes) {
                if bytes[..length] != *JOIN {
                    number += 1;
                    if number != 10 && server.send_to(&bytes[..length], from).is_err() {
                        break;
                    }
                }
            }
        });
        let mut swarm = TextDatagrams::join(&place, 1).unwrap();
        let error = Run::new(&mut swarm, Process::ours())
            .and_then(|mut run| run.fan_out(64, Duration::ZERO, Duration::from_millis(50)))
            .unwrap_err();
        assert_eq!(error.to_string(), "receiver 0: message 10 came where 9 was next");
        server.join().unwrap();
    }
}
